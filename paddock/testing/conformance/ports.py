"""Reaching a sandbox's ports from outside, by HTTP and WebSocket: the same on every backend."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import websockets.asyncio.client as websockets

from paddock.errors import SandboxClosed, SandboxLost
from paddock.sandbox import Capability
from paddock.testing.conformance.base import DEADLINE, KILL, Conformance, needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from paddock.sandbox import Sandbox

WEB_SOCKET = """
import base64, hashlib, http.server

def exactly(file, size):
    data = file.read(size)
    assert len(data) == size
    return data

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        while True:
            first, size = exactly(self.rfile, 2)
            size &= 127
            if size == 126:
                size = int.from_bytes(exactly(self.rfile, 2), "big")
            mask = exactly(self.rfile, 4)
            data = exactly(self.rfile, size)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
            length = bytes([size]) if size < 126 else b"\\x7e" + size.to_bytes(2, "big")
            self.wfile.write(bytes([first]) + length + data)
            if first & 15 == 8:
                self.close_connection = True
                return

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
print(server.server_port, flush=True)
server.serve_forever()
"""

PAGES = """
import http.server

class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
print(server.server_port, flush=True)
server.serve_forever()
"""


RAW = """
import socket

server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection = server.accept()[0]
    with connection:
        data = connection.recv(100)
        if b"knock" in data:
            print("knocked", flush=True)
        connection.sendall(data)
"""


class Served:
    """A server inside a sandbox: the lines that it prints, the first of which is its port."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def line(self) -> str:
        return await asyncio.wait_for(anext(self._lines), DEADLINE)


@contextlib.asynccontextmanager
async def serving(sandbox: Sandbox, program: str, *args: str) -> AsyncIterator[tuple[Served, int]]:
    async with await sandbox.start(["python3", "-c", program, *args]) as process:

        async def lines() -> AsyncIterator[str]:
            text = ""
            async for _, data in process.output():
                text += data.decode()
                while "\n" in text:
                    line, _, text = text.partition("\n")
                    yield line
            raise AssertionError(f"it ended: {(await process.wait()).stderr}")

        reading = lines()
        try:
            served = Served(reading)
            yield served, int(await served.line())
        finally:
            await reading.aclose()  # type: ignore[attr-defined]


async def fetch(url: str, headers: Mapping[str, str], data: bytes | None = None) -> bytes:
    """What a server answers with; raises `OSError` if none does, or with an error."""
    request = urllib.request.Request(url, data, headers=dict(headers))

    def read() -> bytes:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            body: bytes = answer.read()
            return body

    return await asyncio.to_thread(read)


async def silence(url: str, headers: Mapping[str, str]) -> None:
    """Wait until nothing answers: a service takes a sandbox down in its own time."""
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(OSError, match=r"4\d\d|50\d|refused"):
            while True:
                await fetch(url, headers)


@needs(Capability.URL, "python", "shell")
class PortTests(Conformance):
    async def test_a_web_server_inside_answers_at_its_url(self, sandbox: Sandbox) -> None:
        assert Capability.URL in sandbox.capabilities
        async with serving(sandbox, PAGES) as (_, port):
            url = await sandbox.url(port)
            assert await sandbox.url(port) == url
            assert await sandbox.url(port + 1) != url
            told = await self.headers(sandbox, port)
            assert await fetch(f"{url}/some/page?x=1", told) == b"/some/page?x=1"

    async def test_before_the_server_is_there_requests_fail(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, PAGES) as (_, port):
            pass
        url, told = await sandbox.url(port), await self.headers(sandbox, port)
        with pytest.raises(OSError, match=r"502|reset|closed"):
            await fetch(url, told)
        program = PAGES.replace('("127.0.0.1", 0)', f'("127.0.0.1", {port})')
        async with serving(sandbox, program):
            assert await fetch(f"{url}/now", told) == b"/now"

    async def test_websockets_pass(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, WEB_SOCKET) as (_, port):
            url = (await sandbox.url(port)).replace("http", "ws", 1)
            connecting = websockets.connect(
                url, proxy=None, additional_headers=await self.headers(sandbox, port)
            )
            async with asyncio.timeout(DEADLINE), connecting as socket:
                for message in ("hello", "x" * 10_000, b"\x00\xff"):
                    await socket.send(message)
                    assert await socket.recv() == message

    async def test_large_bodies_arrive_whole_in_both_directions(self, sandbox: Sandbox) -> None:
        data = os.urandom(5_000_000)
        async with serving(sandbox, PAGES) as (_, port):
            answer = await fetch(await sandbox.url(port), await self.headers(sandbox, port), data)
            assert hashlib.sha256(answer).digest() == hashlib.sha256(data).digest()

    async def test_many_requests_at_once_do_not_mix(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, PAGES) as (_, port):
            url, told = await sandbox.url(port), await self.headers(sandbox, port)

            async def one(number: int) -> None:
                assert await fetch(f"{url}/{number}", told) == b"/%d" % number

            await asyncio.gather(*(one(number) for number in range(50)))

    async def test_what_is_no_http_passes_only_where_it_is_told(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, RAW) as (served, port):
            place = urlsplit(await sandbox.url(port))
            secure = place.scheme == "https"
            reader, writer = await asyncio.open_connection(
                place.hostname, place.port or (443 if secure else 80), ssl=secure or None
            )
            writer.write(b"\x00knock\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(12), DEADLINE)
            if Capability.TCP in sandbox.capabilities:
                assert answer == b"\x00knock\r\n\r\n"[:12]
                assert await served.line() == "knocked"
            else:
                assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
            writer.close()
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(writer.wait_closed(), DEADLINE)

    @needs(KILL)
    async def test_when_the_sandbox_is_lost_so_are_its_addresses(
        self, own_sandbox: Sandbox
    ) -> None:
        async with serving(own_sandbox, PAGES) as (_, port):
            url, told = await own_sandbox.url(port), await self.headers(own_sandbox, port)
            assert await fetch(url, told) == b"/"
            await self.kill(own_sandbox)
            with pytest.raises(SandboxLost):
                await own_sandbox.exec("sleep 30")
        await silence(url, told)
        with pytest.raises(SandboxLost):
            await own_sandbox.url(port)

    async def test_when_the_sandbox_is_closed_nothing_answers(self, own_sandbox: Sandbox) -> None:
        async with serving(own_sandbox, PAGES) as (_, port):
            url, told = await own_sandbox.url(port), await self.headers(own_sandbox, port)
            assert await fetch(url, told) == b"/"
            await own_sandbox.aclose()
        await silence(url, told)
        with pytest.raises(SandboxClosed):
            await own_sandbox.url(port)

    @pytest.mark.parametrize("port", [0, -1, 65536, True, 8000.5, "80"])
    async def test_what_is_no_port_is_a_value_error(self, sandbox: Sandbox, port: Any) -> None:
        with pytest.raises(ValueError, match="port="):
            await sandbox.url(port)
