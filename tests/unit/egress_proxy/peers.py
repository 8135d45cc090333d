"""Those that an allow-list proxy stands between: a program inside, sites and names outside."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from paddock.backends.egress.outside import Outside
from paddock.backends.egress.proxy import Proxy
from paddock.backends.guest.relay import TcpStream
from paddock.network import Allow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.network import Address

__all__ = [
    "DEADLINE",
    "LOOPBACK",
    "Call",
    "Client",
    "Handler",
    "Site",
    "Start",
    "connect",
    "get",
    "proxy_to",
]

DEADLINE = 60.0
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
