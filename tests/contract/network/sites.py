"""Servers that sandboxes with an allow list may reach or not, and how they try."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from paddock.network import Allow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.docker import DockerBackend
    from paddock.backends.local import LocalBackend
    from paddock.sandbox import ExecResult, Sandbox

__all__ = ["DEADLINE", "FETCH", "Site", "confined", "python", "site_on"]

DEADLINE = 60.0


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


def confined(backend: DockerBackend | LocalBackend, *hosts: str) -> DockerBackend | LocalBackend:
    """The same recipe with an allow list."""
    return replace(backend, network=Allow(hosts=hosts))


async def python(sandbox: Sandbox, program: str, *args: str) -> ExecResult:
    return await sandbox.exec(["python3", "-c", program, *args], timeout=DEADLINE)


FETCH = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=60).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
"""
