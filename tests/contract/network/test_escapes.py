"""Every way out of a sandbox with an allow list that we know of leads to what is listed, or
nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from tests.contract.network.sites import DEADLINE, Site, confined, python

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from paddock.backends.local import LocalBackend
    from paddock.sandbox import Sandbox


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
