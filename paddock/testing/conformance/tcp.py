"""Ports that carry anything but HTTP, where the backend declares `Capability.TCP`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from paddock.errors import SandboxClosed, SandboxLost
from paddock.sandbox import Capability
from paddock.testing.conformance.base import DEADLINE, KILL, Conformance, needs
from paddock.testing.conformance.ports import PAGES, fetch, serving

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

MEGABYTE = 1_000_000

SERVER = """
import asyncio, os, socket, struct, sys

async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()

async def after(reader, writer):
    "Says nothing until the other side has ended."
    data = await reader.read()
    writer.write(b"%d bytes" % len(data))
    writer.close()

async def hasty(reader, writer):
    writer.write(b"farewell")
    writer.close()

async def rude(reader, writer):
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(b"cut o")
    await writer.drain()
    await reader.read(1)
    writer.transport.abort()

async def deaf(reader, writer):
    writer.transport.pause_reading()
    await asyncio.Event().wait()

async def witness(reader, writer):
    "Tells on stdout how the connection ended."
    print("here", flush=True)
    try:
        data = await reader.read()
        print("ended", len(data), flush=True)
    except ConnectionResetError:
        print("reset", flush=True)
    writer.close()

async def main():
    server = await asyncio.start_server(globals()[sys.argv[1]], "127.0.0.1", 0, backlog=128)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    return await asyncio.wait_for(
        asyncio.open_connection(place.hostname, place.port, limit=MEGABYTE), DEADLINE
    )


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(writer.wait_closed(), DEADLINE)


@needs(Capability.TCP, "python", "shell")
class TcpTests(Conformance):
    async def test_an_address_is_of_this_machine_and_takes_nothing_else(
        self, sandbox: Sandbox
    ) -> None:
        async with serving(sandbox, PAGES) as (_, port):
            url = await sandbox.url(port)
            assert url.startswith("http://127.0.0.1:")
            assert await fetch(f"{url}/some/page?x=1", {}) == b"/some/page?x=1"

    async def test_before_the_server_is_there_connections_are_reset(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, PAGES) as (_, port):
            pass
        reader, writer = await connect(await sandbox.url(port))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), DEADLINE)
        await hang_up(writer)

    async def test_large_transfers_arrive_whole_in_both_ways_at_once(
        self, sandbox: Sandbox
    ) -> None:
        data = os.urandom(MEGABYTE) * 20
        async with serving(sandbox, SERVER, "echo") as (_, port):
            reader, writer = await connect(await sandbox.url(port))
            received = hashlib.sha256()

            async def send() -> None:
                for at in range(0, len(data), MEGABYTE):
                    writer.write(data[at : at + MEGABYTE])
                    await writer.drain()
                writer.write_eof()

            async def receive() -> None:
                while piece := await reader.read(MEGABYTE):
                    received.update(piece)

            await asyncio.wait_for(asyncio.gather(send(), receive()), DEADLINE)
            assert received.digest() == hashlib.sha256(data).digest()
            await hang_up(writer)

    async def test_many_connections_at_once_do_not_mix(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, SERVER, "echo") as (_, port):
            url = await sandbox.url(port)

            async def one(number: int) -> None:
                reader, writer = await connect(url)
                data = b"%d," % number * 10_000
                writer.write(data)
                writer.write_eof()
                assert await asyncio.wait_for(reader.read(), DEADLINE) == data
                await hang_up(writer)

            await asyncio.gather(*(one(number) for number in range(50)))

    async def test_the_end_of_one_way_leaves_the_other_open(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, SERVER, "after") as (_, port):
            reader, writer = await connect(await sandbox.url(port))
            writer.write(b"x" * 300_000)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b"300000 bytes"
            await hang_up(writer)

    async def test_a_server_that_closes_first_has_its_words_delivered(
        self, sandbox: Sandbox
    ) -> None:
        async with serving(sandbox, SERVER, "hasty") as (_, port):
            reader, writer = await connect(await sandbox.url(port))
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b"farewell"
            await hang_up(writer)

    async def test_what_is_cut_off_inside_does_not_look_whole(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, SERVER, "rude") as (_, port):
            reader, writer = await connect(await sandbox.url(port))
            assert await asyncio.wait_for(reader.readexactly(5), DEADLINE) == b"cut o"
            writer.write(b"continue")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), DEADLINE)
            await hang_up(writer)

    async def test_the_server_is_told_how_its_client_went(self, sandbox: Sandbox) -> None:
        async with serving(sandbox, SERVER, "witness") as (served, port):
            url = await sandbox.url(port)
            _, writer = await connect(url)
            writer.write(b"bye")
            await hang_up(writer)
            assert await served.line() == "here"
            assert await served.line() == "ended 3"
            _, writer = await connect(url)
            assert await served.line() == "here"
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            assert await served.line() == "reset"
            await hang_up(writer)

    async def test_a_server_that_does_not_read_holds_its_client_back(
        self, sandbox: Sandbox
    ) -> None:
        async with serving(sandbox, SERVER, "deaf") as (_, port):
            place = urlsplit(await sandbox.url(port))
            loop = asyncio.get_running_loop()
            with socket.create_connection((place.hostname, place.port)) as client:
                client.setblocking(False)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await loop.sock_sendall(client, bytes(64 * MEGABYTE))
                assert (await sandbox.exec("echo on")).stdout == "on\n"

    @needs(KILL)
    async def test_when_the_sandbox_is_lost_its_connections_are(self, own_sandbox: Sandbox) -> None:
        async with serving(own_sandbox, SERVER, "echo") as (_, port):
            url = await own_sandbox.url(port)
            reader, writer = await connect(url)
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), DEADLINE) == b"x"
            await self.kill(own_sandbox)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), DEADLINE)
            await hang_up(writer)
        with pytest.raises(SandboxLost):
            await own_sandbox.exec("true")
        with pytest.raises(SandboxLost):
            await own_sandbox.url(port)
        with pytest.raises(ConnectionRefusedError):
            await connect(url)

    async def test_when_the_sandbox_is_closed_nothing_listens_and_nothing_runs(
        self,
        own_sandbox: Sandbox,
    ) -> None:
        async with serving(own_sandbox, SERVER, "echo") as (_, port):
            url = await own_sandbox.url(port)
            reader, writer = await connect(url)
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), DEADLINE) == b"x"
            await own_sandbox.aclose()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), DEADLINE)
            await hang_up(writer)
        with pytest.raises(ConnectionRefusedError):
            await connect(url)
        with pytest.raises(SandboxClosed):
            await own_sandbox.url(port)
