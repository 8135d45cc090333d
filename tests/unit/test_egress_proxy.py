"""The allow-list proxy on real sockets: what passes, what does not, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from paddock.backends.egress import outside as outside_module
from paddock.backends.egress import proxy as proxy_module
from paddock.backends.egress.outside import Outside
from paddock.backends.egress.proxy import Proxy
from paddock.backends.guest.relay import TcpStream
from paddock.network import Allow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from paddock.network import Address

DEADLINE = 10.0
LOOPBACK = ip_address("127.0.0.1")


class Controlled(Outside):
    """Names lead where the test says; 127.0.0.1 stands for the public internet."""

    def __init__(self, names: dict[str, list[Sequence[str]]]) -> None:
        self.names = names
        self.looked_up: list[str] = []

    async def lookup(self, name: str) -> Sequence[Address]:
        self.looked_up.append(name)
        answers = self.names.get(name, [])
        if not answers:
            raise OSError("no such name")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(text) for text in answer]

    def objection(self, address: Address) -> str | None:
        return None if address == LOOPBACK else super().objection(address)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A server on the loopback that keeps what it was asked."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.port = 0
        self.asked: list[bytes] = []
        self.handler = handler or self.page

    async def page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nKeep-Alive: 5\r\n\r\npage")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.handler(reader, writer)
        writer.close()


@pytest.fixture
async def start_site() -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(handler: Handler | None = None) -> Site:
            site = Site(handler)
            server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            site.port = server.sockets[0].getsockname()[1]
            return site

        yield start


class Client:
    """What a program inside would be: one end of a connection whose other the proxy serves."""

    def __init__(self, proxy: Proxy) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far = listener.accept()[0]
        near.setblocking(False)
        self.socket = near
        self._loop = asyncio.get_running_loop()
        self.served = asyncio.ensure_future(self._serve(proxy, far))

    @staticmethod
    async def _serve(proxy: Proxy, far: socket.socket) -> None:
        with TcpStream(far) as stream, contextlib.suppress(OSError):
            await proxy.serve(stream)

    async def say(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def hear(self, size: int = 1 << 20) -> bytes:
        """So many bytes, or all until the end."""
        data = b""
        async with asyncio.timeout(DEADLINE):
            while len(data) < size:
                piece = await self._loop.sock_recv(self.socket, size - len(data))
                if not piece:
                    break
                data += piece
        return data

    async def ask(self, data: bytes) -> bytes:
        await self.say(data)
        return await self.hear()

    async def aclose(self) -> None:
        self.socket.close()
        await asyncio.wait_for(self.served, DEADLINE)


@pytest.fixture
async def call() -> AsyncIterator[Callable[[Proxy], Client]]:
    made: list[Client] = []

    def call(proxy: Proxy) -> Client:
        made.append(Client(proxy))
        return made[-1]

    yield call
    for client in made:
        await client.aclose()


def get(url: str, host: str) -> bytes:
    return f"GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def connect(place: str) -> bytes:
    return f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode()


def proxy_to(
    site: Site, *more: str, names: Mapping[str, list[Sequence[str]]] | None = None
) -> tuple[Proxy, Controlled]:
    """A proxy that lets through to site.test, which leads to `site`, and to `more`."""
    outside = Controlled({"site.test": [["127.0.0.1"]], **(names or {})})
    return Proxy(Allow(hosts=[f"site.test:{site.port}", *more]), outside), outside


Start = Callable[..., Awaitable[Site]]
Call = Callable[[Proxy], Client]


async def test_a_listed_site_is_asked_and_its_answer_comes_back(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    proxy, outside = proxy_to(site)
    place = f"site.test:{site.port}"
    answer = await call(proxy).ask(get(f"http://{place}/x", place))
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
    assert site.asked == [
        b"GET /x HTTP/1.1\r\nHost: " + place.encode() + b"\r\nConnection: close\r\n\r\n"
    ]
    assert outside.looked_up == ["site.test"]
    (decision,) = proxy.log
    assert (decision.host, decision.port, decision.allowed) == ("site.test", site.port, True)


async def test_a_tunnel_carries_both_ways_and_what_was_sent_early(
    start_site: Start, call: Call
) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())

    site = await start_site(upper)
    client = call(proxy_to(site)[0])
    await client.say(connect(f"site.test:{site.port}") + b"early ")
    assert (await client.hear(39)).startswith(b"HTTP/1.1 200 ")
    await client.say(b"and late")
    client.socket.shutdown(socket.SHUT_WR)
    assert await client.hear() == b"EARLY AND LATE"


@pytest.mark.parametrize(
    "place", ["other.test:{port}", "site.test:25", "127.0.0.1:{port}", "[::1]:{port}"]
)
async def test_what_is_not_listed_is_refused_and_never_looked_up(
    place: str, start_site: Start, call: Call
) -> None:
    site = await start_site()
    proxy, outside = proxy_to(site)
    place = place.format(port=site.port)
    assert (await call(proxy).ask(connect(place))).startswith(b"HTTP/1.1 403 ")
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 403 ")
    assert outside.looked_up == []
    assert site.asked == []
    assert [decision.allowed for decision in proxy.log] == [False, False]
    assert all("not listed" in decision.reason for decision in proxy.log)


async def test_a_second_request_on_a_connection_is_not_passed_on(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"site.test:{site.port}"
    smuggled = get("http://other.test/", "other.test")
    once = get(f"http://{place}/", place)
    answer = await call(proxy_to(site)[0]).ask(once + smuggled + once)
    assert answer.count(b"HTTP/1.1") == 1
    assert len(site.asked) == 1


async def test_a_body_is_passed_on_and_no_byte_after_it(start_site: Start, call: Call) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        heard.put_nowait(await reader.readexactly(len(body)))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.write_eof()
        heard.put_nowait(await reader.read())

    site = await start_site(take)
    place = f"site.test:{site.port}"
    proxy, _ = proxy_to(site)
    chunks = b"3\r\nabc\r\n0\r\n\r\n"
    for kind, body in (("Content-Length: 5", b"12345"), ("Transfer-Encoding: chunked", chunks)):
        request = f"POST http://{place}/ HTTP/1.1\r\nHost: {place}\r\n{kind}\r\n\r\n".encode()
        client = call(proxy)
        await client.say(request + body + b"GET / HTTP/1.1\r\n\r\n")
        answer = await client.hear()
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n")
        await client.aclose()
        assert await asyncio.wait_for(heard.get(), DEADLINE) == body
        assert await asyncio.wait_for(heard.get(), DEADLINE) == b""


async def test_a_body_that_could_be_read_in_two_ways_breaks_the_connection(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"site.test:{site.port}"
    proxy, _ = proxy_to(site)
    request = f"POST http://{place}/ HTTP/1.1\r\nHost: {place}\r\nTransfer-Encoding: chunked"
    client = call(proxy)
    with contextlib.suppress(ConnectionResetError):
        assert await client.ask(request.encode() + b"\r\n\r\n5;x=y\r\n") == b""
    assert [decision.allowed for decision in proxy.log] == [True, False]
    assert site.asked == []


async def test_a_name_that_leads_to_private_addresses_is_refused(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    addresses = ["10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
    names: dict[str, list[Sequence[str]]] = {
        f"n{at}.test": [[text]] for at, text in enumerate(addresses)
    }
    proxy, _ = proxy_to(site, "*.test", names=names)
    for name in names:
        answer = await call(proxy).ask(connect(f"{name}:443"))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"leads to" in answer
    assert not any(decision.allowed for decision in proxy.log)


async def test_a_private_address_among_public_ones_is_passed_over(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"mixed.test:{site.port}"
    proxy, _ = proxy_to(site, place, names={"mixed.test": [["10.0.0.1", "127.0.0.1"]]})
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 200 ")


async def test_a_name_that_changes_its_address_is_looked_up_once_for_each_request(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"twice.test:{site.port}"
    answers: list[Sequence[str]] = [["127.0.0.1"], ["192.168.0.1"]]
    proxy, outside = proxy_to(site, place, names={"twice.test": answers})
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 200 ")
    assert outside.looked_up == ["twice.test"]
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 403 ")


async def test_a_private_address_is_reached_if_it_is_listed_itself(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"127.0.0.1:{site.port}"
    proxy = Proxy(Allow(hosts=[place]))
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 200 ")


def test_the_addresses_of_this_machine_are_not_for_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside_module, "CLOSED_V4", {})
    assert Outside().objection(LOOPBACK) == "this machine's own"
    assert Outside().objection(ip_address("192.0.2.77")) is None


async def test_real_names_are_looked_up(start_site: Start, call: Call) -> None:
    assert LOOPBACK in await Outside().lookup("localhost")
    site = await start_site()
    place = f"localhost:{site.port}"
    proxy = Proxy(Allow(hosts=[place]))
    answer = await call(proxy).ask(get(f"http://{place}/", place))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"loopback" in answer


async def test_what_cannot_be_reached_is_told_as_that(start_site: Start, call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    site = await start_site()
    proxy, _ = proxy_to(site, f"site.test:{port}", "nowhere.test")
    assert b"502 Bad Gateway" in await call(proxy).ask(connect(f"site.test:{port}"))
    assert b"no such name" in await call(proxy).ask(connect("nowhere.test:443"))


async def test_an_answer_that_is_not_http_is_not_passed_on(start_site: Start, call: Call) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.test ESMTP\r\n\r\n")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    for handler in (babble, silent):
        site = await start_site(handler)
        place = f"site.test:{site.port}"
        answer = await call(proxy_to(site)[0]).ask(get(f"http://{place}/", place))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"ESMTP" not in answer


async def test_an_answer_that_was_cut_off_does_not_look_whole(
    start_site: Start, call: Call
) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhal")
        await writer.drain()
        await reader.read(1)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    site = await start_site(cut)
    client = call(proxy_to(site)[0])
    await client.say(connect(f"site.test:{site.port}"))
    assert b" 200 " in await client.hear(39)
    await client.say(b"GET / HTTP/1.1\r\n\r\n")
    assert (await client.hear(22)).endswith(b"hal")
    await client.say(b"x")
    with pytest.raises(ConnectionResetError):
        await client.hear()


async def test_a_client_that_goes_away_takes_its_request_along(
    start_site: Start, call: Call
) -> None:
    gone = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        gone.set()

    reached = asyncio.Event()
    site = await start_site(wait)
    client = call(proxy_to(site)[0])
    place = f"site.test:{site.port}"
    await client.say(connect(place))
    assert b" 200 " in await client.hear(39)
    await client.say(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.wait_for(reached.wait(), DEADLINE)
    client.socket.close()
    await asyncio.wait_for(gone.wait(), DEADLINE)


async def test_a_head_that_does_not_come_ends_at_a_deadline(
    start_site: Start, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "HEAD_DEADLINE", 0.05)
    client = call(proxy_to(await start_site())[0])
    assert (await client.ask(b"GET http://site.test/ HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")


async def test_a_cancelled_request_leaves_no_connection(start_site: Start, call: Call) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        gone.set()

    site = await start_site(wait)
    place = f"site.test:{site.port}"
    client = call(proxy_to(site)[0])
    await client.say(get(f"http://{place}/", place))
    await asyncio.wait_for(reached.wait(), DEADLINE)
    client.served.cancel()
    await asyncio.wait_for(gone.wait(), DEADLINE)
    await asyncio.wait([client.served])
    client.served = asyncio.ensure_future(asyncio.sleep(0))


async def test_the_log_keeps_the_last_decisions(start_site: Start) -> None:
    proxy, _ = proxy_to(await start_site())
    for at in range(proxy_module.LOG_SIZE + 5):
        proxy._note(f"n{at}.test", 1, "test", allowed=False)
    assert len(proxy.log) == proxy_module.LOG_SIZE
    assert proxy.log[0].host == "n5.test"
