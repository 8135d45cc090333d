"""Connections to services: kept, closed by either end, and given up in time."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from paddock.runtime.models import _transport
from paddock.runtime.models._transport import HTTPClient, Post, _apart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.conftest import Require

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

DEADLINE = 60.0
LIMITS = httpx2.Timeout(DEADLINE, connect=DEADLINE)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CERTIFICATE = """\
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \
  -subj /CN=localhost -addext subjectAltName=DNS:localhost
"""


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Server:
    """Serves each connection by `serve`; `heard` has the number of requests of each."""

    def __init__(self, serve: Callable[[Server, int, asyncio.StreamWriter], Awaitable[bool]]):
        self.heard: list[int] = []
        self.targets: list[bytes] = []
        self.asked = asyncio.Event()
        self.ended: list[asyncio.Event] = []
        self.url = httpx2.URL("http://127.0.0.1/v1")
        self._serve = serve

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.heard)
        self.heard.append(0)
        self.ended.append(asyncio.Event())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
                await reader.readexactly(length)
                self.heard[number] += 1
                self.targets.append(head.split(b" ")[1])
                self.asked.set()
                if not await self._serve(self, number, writer):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.ended[number].set()


@contextlib.asynccontextmanager
async def serving(
    serve: Callable[[Server, int, asyncio.StreamWriter], Awaitable[bool]],
    **options: Any,
) -> AsyncIterator[tuple[Server, Post]]:
    server = Server(serve)
    listener = await asyncio.start_server(server.connected, "localhost", 0, **options)
    port = listener.sockets[0].getsockname()[1]
    server.url = httpx2.URL(f"{'https' if options else 'http'}://localhost:{port}/v1")
    async with asyncio.timeout(DEADLINE), listener, HTTPClient() as http:
        yield server, Post(http, server.url, httpx2.Headers({"X-Asked": "yes"}))
    for ended in server.ended:
        async with asyncio.timeout(DEADLINE):
            await ended.wait()


async def hello(_: Server, __: int, writer: asyncio.StreamWriter) -> bool:
    writer.write(HELLO)
    return True


async def silence(_: Server, __: int, ___: asyncio.StreamWriter) -> bool:
    return True


async def ask(post: Post, limits: httpx2.Timeout = LIMITS) -> bytes:
    response = await post.send(lambda: b"{}", limits)
    return await response.aread()


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with serving(hello) as (server, post):
        assert [await ask(post) for _ in range(3)] == [b"hello"] * 3
        assert server.heard == [3]


async def test_requests_at_once_have_a_connection_each() -> None:
    async with serving(hello) as (server, post):
        assert await asyncio.gather(*(ask(post) for _ in range(5))) == [b"hello"] * 5
        assert await ask(post) == b"hello"
        assert sorted(server.heard) == [1, 1, 1, 1, 2]


async def test_a_connection_that_the_service_closes_between_two_requests_is_no_error() -> None:
    async def once(_: Server, __: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(HELLO)
        return False

    async with serving(once) as (server, post):
        for number in range(3):
            assert await ask(post) == b"hello"
            await server.ended[number].wait()
        assert server.heard == [1, 1, 1]


async def test_a_connection_that_is_closed_as_a_request_comes_is_no_error() -> None:
    async def first_only(server: Server, number: int, writer: asyncio.StreamWriter) -> bool:
        if server.heard[number] == 1:
            writer.write(HELLO)
        return server.heard[number] == 1

    async with serving(first_only) as (server, post):
        assert [await ask(post) for _ in range(3)] == [b"hello"] * 3
        assert server.heard == [2, 2, 1]


async def test_a_new_connection_that_is_closed_without_an_answer_is_an_error() -> None:
    async def nothing(_: Server, __: int, ___: asyncio.StreamWriter) -> bool:
        return False

    async with serving(nothing) as (server, post):
        with pytest.raises(httpx2.RemoteProtocolError, match="without an answer"):
            await ask(post)
        assert server.heard == [1]


async def test_an_answer_that_breaks_off_is_an_error_and_is_not_asked_for_again() -> None:
    async def half(server: Server, number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(HELLO if server.heard[number] == 1 else HELLO[:-2])
        return server.heard[number] == 1

    async with serving(half) as (server, post):
        assert await ask(post) == b"hello"
        with pytest.raises(httpx2.RemoteProtocolError, match="in the middle of its answer"):
            await ask(post)
        assert server.heard == [2]


async def test_silence_ends_after_the_limit() -> None:
    async with serving(silence) as (server, post):
        with pytest.raises(httpx2.ReadTimeout):
            await ask(post, httpx2.Timeout(DEADLINE, read=0.01))
        await server.ended[0].wait()


async def test_a_request_that_is_cancelled_closes_its_connection() -> None:
    async with serving(silence) as (server, post):
        task = asyncio.create_task(ask(post))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.ended[0].wait()


async def test_an_answer_that_is_closed_before_its_end_closes_its_connection() -> None:
    async def half(_: Server, __: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(HELLO[:-2])
        return True

    async with serving(half) as (server, post):
        response = await post.send(lambda: b"{}", LIMITS)
        await response.aclose()
        await server.ended[0].wait()


async def test_a_long_answer_waits_for_its_reader() -> None:
    size = 64 * 1024 * 1024
    sent = asyncio.Event()

    async def long(_server: Server, _number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(bytes(65536))
            await writer.drain()
        sent.set()
        return True

    async with serving(long) as (_, post):
        response = await post.send(lambda: b"{}", LIMITS)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sent.is_set()
        assert len(await response.aread()) == size


async def test_a_redirect_is_followed_with_the_body() -> None:
    async def moved(server: Server, _: int, writer: asyncio.StreamWriter) -> bool:
        if server.targets[-1] == b"/v1":
            to = b"HTTP/1.1 307 Moved\r\nLocation: /v2\r\nContent-Length: 0\r\n\r\n"
            writer.write(to)
        else:
            writer.write(HELLO)
        return True

    async with serving(moved) as (server, post):
        assert await ask(post) == b"hello"
        assert server.targets[-1] == b"/v2"


async def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "IDLE_LIMIT", 0.01)
    async with serving(hello) as (server, post):
        assert await asyncio.gather(*(ask(post) for _ in range(2))) == [b"hello"] * 2
        await server.ended[0].wait()
        await server.ended[1].wait()
        assert await ask(post) == b"hello"


async def test_tls_checks_the_certificates_of_the_environment(
    tmp_path: Path, require: Require, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("openssl", shutil.which("openssl"), "it makes the certificate")
    make = await asyncio.create_subprocess_exec("sh", "-ec", CERTIFICATE, cwd=tmp_path)
    assert await make.wait() == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with serving(hello, ssl=context) as (server, post):
        with pytest.raises(httpx2.ConnectError) as caught:
            await ask(post)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert server.heard == []
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with serving(hello, ssl=context) as (server, post):
        assert [await ask(post), await ask(post)] == [b"hello"] * 2
        assert server.heard == [2]


def test_the_errors_of_several_addresses_are_told_apart() -> None:
    both = OSError(
        "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
        "[Errno 101] Connect call failed ('127.0.0.1', 1)"
    )
    group = _apart(both)
    assert isinstance(group, ExceptionGroup)
    assert [type(each) for each in group.exceptions] == [ConnectionRefusedError, OSError]
    assert _apart(one := ConnectionRefusedError(111, "no")) is one


def test_a_proxy_of_the_environment_is_left_to_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert HTTPClient().direct is not None
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert HTTPClient().direct is None
