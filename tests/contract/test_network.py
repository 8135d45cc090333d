"""A sandbox with an allow list that we enforce: what is listed passes, and nothing else gets
anywhere. What is enforced by others, and what is refused, is in `test_policies`.

Names are the test's own; 127.0.0.1 stands for the public internet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.egress.outside import Outside
from paddock.backends.local import LocalBackend, probe
from paddock.errors import Unsupported
from paddock.network import Allow
from paddock.sandbox import Capability
from tests.contract.conftest import WITHOUT_PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from paddock.network import Address
    from paddock.sandbox import ExecResult, Sandbox
    from tests.conftest import Require

DEADLINE = 20.0
LOOPBACK = ip_address("127.0.0.1")


class Site:
    """A server on this machine that counts who comes."""

    def __init__(self) -> None:
        self.port = 0
        self.visits = 0
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            line = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            away = f"Location: http://canary.test:{self.port}/\r\n" if line == "/away" else ""
            status = "302 Found" if away else "200 OK"
            page = f"page {line}"
            head = f"HTTP/1.1 {status}\r\n{away}Content-Length: {len(page)}\r\n\r\n"
            writer.write((head + page).encode())
            await reader.read()
        self.ended.set()
        writer.close()


@contextlib.asynccontextmanager
async def site_on(address: str) -> AsyncIterator[Site]:
    site = Site()
    async with await asyncio.start_server(site.serve, address, 0) as server:
        site.port = server.sockets[0].getsockname()[1]
        yield site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Where site.test leads."""
    async with site_on("127.0.0.1") as site:
        yield site


@pytest.fixture
async def canary() -> AsyncIterator[Site]:
    """A service of this machine that no sandbox may reach, by whatever address."""
    async with site_on("0.0.0.0") as site:
        yield site


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Where names lead, address after address for each time that they are looked up."""
    names = {"site.test": ["127.0.0.1"], "other.site.test": ["127.0.0.1"]}

    async def lookup(self: Outside, name: str) -> Sequence[Address]:
        answers = names[name]
        return [ip_address(answers.pop(0) if len(answers) > 1 else answers[0])]

    real = Outside.objection

    def object_to(self: Outside, address: Address) -> str | None:
        return None if address == LOOPBACK else real(self, address)

    monkeypatch.setattr(Outside, "lookup", lookup)
    monkeypatch.setattr(Outside, "objection", object_to)
    return names


@pytest.fixture(params=["docker", "local-bubblewrap"])
async def backend(request: pytest.FixtureRequest, require: Require) -> DockerBackend | LocalBackend:
    """The recipes by which an allow list is enforced."""
    if request.param == "docker":
        request.getfixturevalue("base_image")
        return DockerBackend(network="none")
    found = await probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    return LocalBackend(isolation="bubblewrap")


def confined(backend: DockerBackend | LocalBackend, *hosts: str) -> DockerBackend | LocalBackend:
    """The same recipe with an allow list."""
    return replace(backend, network=Allow(hosts=hosts))


@pytest.fixture
async def sandbox(backend: DockerBackend | LocalBackend, site: Site) -> AsyncIterator[Sandbox]:
    async with confined(backend, f"site.test:{site.port}").sandbox() as sandbox:
        yield sandbox


async def python(sandbox: Sandbox, program: str, *args: str) -> ExecResult:
    return await sandbox.exec(["python3", "-c", program, *args], timeout=DEADLINE)


FETCH = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=10).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
"""


async def test_without_isolation_an_allow_list_is_unsupported() -> None:
    backend = LocalBackend(isolation="none", network=Allow(hosts=["example.org"]))
    with pytest.raises(Unsupported, match="Allow"):
        await backend.create()


async def test_without_a_guest_there_is_neither_an_allow_list_nor_a_url(
    base_image: str,
) -> None:
    backend = DockerBackend(image=WITHOUT_PYTHON, network="none")
    with pytest.raises(Unsupported, match="Allow"):
        await confined(backend).create()
    async with backend.sandbox() as sandbox:
        assert not {Capability.URL, Capability.NETWORK_ALLOWLIST} & sandbox.capabilities
        with pytest.raises(Unsupported, match="url"):
            await sandbox.url(80)


async def test_a_listed_site_is_reached_by_the_usual_means(sandbox: Sandbox, site: Site) -> None:
    assert Capability.NETWORK_ALLOWLIST in sandbox.capabilities
    urls = [f"http://{name}:{site.port}/x" for name in ("site.test", "SITE.test", "site.test.")]
    result = await python(sandbox, FETCH, *urls)
    assert result.stdout == "page /x\n" * 3
    assert [(seen.host, seen.port, seen.allowed) for seen in sandbox.network_log] == [
        ("site.test", site.port, True)
    ] * 3


@pytest.mark.parametrize("backend", ["local-bubblewrap"], indirect=True)
async def test_curl_reaches_a_listed_site_and_no_other(
    sandbox: Sandbox, site: Site, require: Require
) -> None:
    require("curl", shutil.which("curl"), "it is not installed")
    url = f"http://site.test:{site.port}/y"
    for options in ([], ["--proxytunnel"]):
        result = await sandbox.exec(["curl", "-sS", *options, url], timeout=DEADLINE)
        assert result.stdout == "page /y", result.stderr
    result = await sandbox.exec(
        ["curl", "-sS", "--proxytunnel", f"http://other.test:{site.port}/"], timeout=DEADLINE
    )
    assert not result.ok
    assert "403" in result.stderr


async def test_what_is_not_listed_is_refused_and_logged(sandbox: Sandbox, site: Site) -> None:
    result = await python(
        sandbox, FETCH, f"http://other.site.test:{site.port}/", "http://site.test/"
    )
    assert result.stdout == (
        f"403 paddock: other.site.test:{site.port} is not listed\n"
        "403 paddock: site.test:80 is not listed\n"
    )
    assert [(seen.host, seen.allowed) for seen in sandbox.network_log] == [
        ("other.site.test", False),
        ("site.test", False),
    ]
    assert site.visits == 0


async def test_a_redirect_leads_nowhere_else(
    sandbox: Sandbox, site: Site, names: dict[str, list[str]]
) -> None:
    names["canary.test"] = ["127.0.0.1"]
    result = await python(sandbox, FETCH, f"http://site.test:{site.port}/away")
    assert result.stdout == f"403 paddock: canary.test:{site.port} is not listed\n"
    assert site.visits == 1


async def test_a_name_that_changes_its_address_gains_nothing(
    sandbox: Sandbox, site: Site, names: dict[str, list[str]]
) -> None:
    names["site.test"] = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1"]
    result = await python(sandbox, FETCH, *[f"http://site.test:{site.port}/"] * 4)
    lines = result.stdout.splitlines()
    assert lines[0] == "page /"
    assert [line.split(" (")[0] for line in lines[1:]] == [
        "403 paddock: site.test leads to 169.254.169.254",
        "403 paddock: site.test leads to 10.0.0.1",
        "403 paddock: site.test leads to ::1",
    ]
    assert site.visits == 1


ATTEMPTS = r"""
import json, os, socket, sys

told = json.loads(sys.argv[1])
proxy = ("127.0.0.1", int(os.environ.get("HTTP_PROXY", "x:1").rsplit(":", 1)[1]))
got = []

def attempt(what, reach):
    try:
        if reach():
            got.append(what)
    except (OSError, UnicodeError, ValueError):
        pass

def tcp(host, port):
    with socket.create_connection((host, port), timeout=1) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return connection.recv(100)

def udp(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        asking.connect((host, port))
        asking.send(b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01")
        return asking.recv(100)

def unix(name):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(b"\0" + name.encode())
        return True

def vsock():
    with socket.socket(40, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        connection.connect((2, 80))
        return True

def raw():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sending:
        return sending.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", ("192.0.2.1", 0))

def through_proxy(request):
    with socket.create_connection(proxy, timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while True:
            data = connection.recv(10000)
            if not data:
                return b" 200 " in answer or b"page" in answer
            answer += data

for host, port in told["direct"]:
    attempt(("tcp", host), lambda: tcp(host, port))
    attempt(("udp", host), lambda: udp(host, port))
for name in told["names"]:
    attempt(("dns", name), lambda: socket.getaddrinfo(name, 80))
attempt("abstract socket", lambda: unix(told["abstract"]))
attempt("vsock", vsock)
attempt("raw socket", raw)
for place in told["places"]:
    place = place.encode("latin-1")
    line = b" HTTP/1.1\r\nHost: " + place + b"\r\n\r\n"
    get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    attempt(("connect", repr(place)), lambda: through_proxy(b"CONNECT " + place + line + get))
    attempt(("get", repr(place)), lambda: through_proxy(b"GET http://" + place + b"/" + line))
for request in told["requests"]:
    attempt(request, lambda: through_proxy(request.encode("latin-1")))
print(json.dumps(got))
"""


def own_addresses() -> list[str]:
    """What this machine is called on its networks."""
    found = []
    for target in (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6)):
        with socket.socket(target[1], socket.SOCK_DGRAM) as asking, contextlib.suppress(OSError):
            asking.connect((target[0], 9))  # of UDP: nothing is sent
            found.append(asking.getsockname()[0])
    return found


def spellings(port: int, listed: int) -> list[str]:
    """Ways to say a host that is not listed, and to say it beside one that is."""
    hosts = [
        *(
            "127.0.0.1",
            "127.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
        ),
        *(
            "0",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
        ),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "localhost.", "LOCALHOST"),
        *("169.254.169.254", "metadata.google.internal", "100.100.100.200", "canary.test"),
        *("sub.site.test", "xsite.test", "site.test.canary.test", "canary.test.site.test"),
        *(
            "site.test@127.0.0.1",
            "site.test:x@127.0.0.1",
            "127.0.0.1#.site.test",
            "site.test\\@127.0.0.1",
        ),
        *(
            "127.0.0.1\0.site.test",
            "site.test\0",
            "127.0.0.1\t",
            "127.0.0.1%00.site.test",
            "%31.site.test",
        ),
        *(
            "site.test\r\nHost: x",
            "s\xedte.test",
            "site.test..",
            "[site.test]",
            "site.test,127.0.0.1",
        ),
    ]
    return [
        *(f"{host}:{port}" for host in hosts),
        *("site.test:25", "site.test:22", f"site.test:0{listed}", f"site.test:{listed}:{port}"),
        *("site.test:", "site.test", ":80", "", "*", "/", f"site.test:{listed + 65536}"),
    ]


def smuggled(listed: str, other: str) -> list[str]:
    """A request that may pass, and in it one that may not."""
    inner = f"GET http://{other}/ HTTP/1.1\r\nHost: {other}\r\n\r\n"
    first = f"GET http://{listed}/quiet HTTP/1.1\r\nHost: {listed}\r\n"
    bodies = [
        f"Content-Length: {len(inner)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"Content-Length: 0\r\nContent-Length: {len(inner)}\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: 1\rContent-Length: 0\r\n\r\n",
    ]
    return [
        *(first + body + inner for body in bodies),
        f"GET http://{listed}/ HTTP/1.1\r\nHost: {other}\r\n\r\n",
        f"GET http://{listed}/ HTTP/1.1\r\nHost: {listed}\r\nHost: {other}\r\n\r\n",
        f"GET http://{listed}/ HTTP/1.1\nHost: {listed}\n\n",
        f"CONNECT {listed} HTTP/1.1\r\nHost: {other}\r\n\r\n",
    ]


SERVER = """
import http.server
server = http.server.HTTPServer(("", 80), http.server.SimpleHTTPRequestHandler)
print("ready", flush=True)
server.serve_forever()
"""


@contextlib.asynccontextmanager
async def sibling(backend: DockerBackend | LocalBackend) -> AsyncIterator[list[tuple[str, int]]]:
    """Another container with a server, where containers are what is made."""
    if not isinstance(backend, DockerBackend):
        yield []
        return
    async with replace(backend, network="full").sandbox() as other:
        address = (await other.exec(["hostname", "-i"])).stdout.split()[0]
        async with await other.start(["python3", "-c", SERVER]) as process:
            await asyncio.wait_for(anext(aiter(process.output())), DEADLINE)
            yield [(address, 80)]


async def reached(
    sandbox: Sandbox,
    *,
    direct: Sequence[tuple[str, int]] = (),
    names: Sequence[str] = (),
    places: Sequence[str] = (),
    requests: Sequence[str] = (),
    abstract: str = "none",
) -> list[object]:
    """What the program of `ATTEMPTS` got to: directly, by name, and through the proxy."""
    told = {
        "direct": direct,
        "names": names,
        "places": places,
        "requests": requests,
        "abstract": abstract,
    }
    result = await python(sandbox, ATTEMPTS, json.dumps(told))
    assert result.ok, result.stderr
    found: list[object] = json.loads(result.stdout)
    return found


async def test_no_way_out_leads_to_what_is_not_listed(
    backend: DockerBackend | LocalBackend, site: Site, canary: Site, names: dict[str, list[str]]
) -> None:
    names["canary.test"] = ["127.0.0.1"]
    recipe = confined(backend, f"site.test:{site.port}")
    places = spellings(canary.port, site.port)
    requests = smuggled(f"site.test:{site.port}", f"canary.test:{canary.port}")
    abstract = f"paddock-test-{canary.port}"
    listening = socket.socket(socket.AF_UNIX)
    heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with listening, heard:
        listening.bind(f"\0{abstract}")
        listening.listen()
        heard.bind(("0.0.0.0", canary.port))
        heard.setblocking(False)
        async with sibling(backend) as others, recipe.sandbox() as sandbox:
            here = ["127.0.0.1", "172.17.0.1", "host.docker.internal", "::1", *own_addresses()]
            direct = [
                *((address, canary.port) for address in here),
                *((address, site.port) for address in here),
                *others,
                *(("169.254.169.254", 80), ("192.0.2.1", 443), ("2001:db8::1", 443)),
                *(("192.0.2.53", 53), ("127.0.0.11", 53), ("127.0.0.53", 53)),
                *(("255.255.255.255", 67), ("224.0.0.251", 5353), ("ff02::fb", 5353)),
            ]
            unknown = ["site.test", "canary.test", "example.org", "host.docker.internal"]
            found = await reached(
                sandbox,
                direct=direct,
                names=unknown,
                places=places,
                requests=requests,
                abstract=abstract,
            )
            assert found == []
            assert (canary.visits, site.visits) == (0, 0)
            with pytest.raises(BlockingIOError):
                heard.recv(100)
            assert not any(seen.allowed for seen in sandbox.network_log)
            assert len(sandbox.network_log) == 2 * len(places) + len(requests)


async def test_the_attempts_get_somewhere_where_they_may(
    backend: DockerBackend | LocalBackend, canary: Site
) -> None:
    """Otherwise that they get nowhere would show nothing."""
    place = f"127.0.0.1:{canary.port}"
    async with confined(backend, place).sandbox() as sandbox:
        found = await reached(sandbox, places=[place])
        assert found == [["connect", repr(place.encode())], ["get", repr(place.encode())]]
    async with replace(backend, network="full").sandbox() as sandbox:
        addresses = ["127.0.0.1", "172.17.0.1", *own_addresses()]
        here = [(address, canary.port) for address in addresses]
        assert any(what[0] == "tcp" for what in await reached(sandbox, direct=here))  # type: ignore[index]


async def test_an_empty_list_is_no_network(
    backend: DockerBackend | LocalBackend, site: Site
) -> None:
    async with confined(backend).sandbox() as sandbox:
        result = await python(sandbox, FETCH, f"http://site.test:{site.port}/")
        assert result.stdout.startswith("403 ")
    assert site.visits == 0


async def test_servers_inside_are_reached_without_the_proxy(sandbox: Sandbox) -> None:
    program = """
import http.server, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for host in ("127.0.0.1", "localhost"):
    print(urllib.request.urlopen("http://%s:%d/" % (host, server.server_port)).status)
"""
    assert (await python(sandbox, program)).stdout == "200\n200\n"
    assert sandbox.network_log == ()


async def test_many_connections_out_at_once(sandbox: Sandbox, site: Site) -> None:
    program = """
import sys, threading, urllib.request
def fetch(number):
    url = sys.argv[1] + str(number)
    assert urllib.request.urlopen(url, timeout=15).read().decode() == "page /%d" % number
    print("ok")
threads = [threading.Thread(target=fetch, args=(number,)) for number in range(150)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    result = await python(sandbox, program, f"http://site.test:{site.port}/")
    assert result.stdout == "ok\n" * 150, result.stderr
    assert site.visits == 150


async def test_a_lost_sandbox_leaves_no_connection_out(
    sandbox: Sandbox, site: Site, kill: Callable[[Sandbox], Awaitable[None]]
) -> None:
    program = """
import http.client, os, sys
proxy = os.environ["http_proxy"].split("//")[1]
connection = http.client.HTTPConnection(proxy)
connection.set_tunnel("site.test", int(sys.argv[1]))
connection.connect()
print("connected", flush=True)
sys.stdin.read()
"""
    async with await sandbox.start(["python3", "-c", program, str(site.port)]) as process:
        await asyncio.wait_for(anext(aiter(process.output())), DEADLINE)
        assert not site.ended.is_set()
        await kill(sandbox)
        await asyncio.wait_for(site.ended.wait(), DEADLINE)


async def test_variables_of_the_recipe_win(backend: DockerBackend | LocalBackend) -> None:
    recipe = replace(confined(backend), env_vars={"HTTP_PROXY": "http://mine:1"})
    async with recipe.sandbox() as sandbox:
        told = (await sandbox.exec("echo $HTTP_PROXY $http_proxy")).stdout.split()
    assert told == ["http://mine:1", "http://127.0.0.1:3128"]
