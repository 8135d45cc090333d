"""The host's end of connections, with a guest at the other end that says whatever it likes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.inside import wire
from paddock.backends.guest.link import State
from paddock.backends.guest.ports import Gate, Ports
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.guest.relay import ByteStream
    from paddock.backends.guest.tunnel import Tunnel

DEADLINE = 60.0
FROM_GUEST = wire.GUEST_CHANNELS + 5


class Puppet:
    """A guest of which every frame is said by the test."""

    def __init__(
        self, client: GuestClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.client = client
        self._reader = reader
        self._writer = writer
        self._frames = wire.Frames()
        self._unread: list[tuple[int, int, bytes]] = []

    def say(self, kind: int, channel: int, payload: bytes = b"") -> None:
        self._writer.write(wire.frame(kind, channel, payload))

    async def hear(self) -> tuple[int, int, bytes]:
        async with asyncio.timeout(DEADLINE):
            while not self._unread:
                self._unread = self._frames.feed(await self._reader.read(65536))
        return self._unread.pop(0)

    async def is_given_up(self) -> str:
        async with asyncio.timeout(DEADLINE):
            return str(await asyncio.shield(self.client.link.ended))


@pytest.fixture
async def guest() -> AsyncIterator[Puppet]:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    client = GuestClient()
    transport, _ = await loop.create_unix_connection(client.connect, sock=ours)
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    yield Puppet(client, reader, writer)
    writer.close()
    transport.abort()
    await asyncio.wait_for(client.link.changed_from(State.RUNNING), DEADLINE)
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def dialled(guest: Puppet) -> Tunnel:
    tunnel = guest.client.tunnels.dial(80)
    assert await guest.hear() == (wire.OPEN, 1, wire.LENGTH.pack(80))
    return tunnel


async def within(work: asyncio.Future[bytes]) -> bytes:
    return await asyncio.wait_for(work, DEADLINE)


async def test_what_came_before_a_reset_is_given_first(guest: Puppet) -> None:
    tunnel = await dialled(guest)
    guest.say(wire.OPENED, 1)
    guest.say(wire.BYTES, 1, b"sorry")
    guest.say(wire.RESET, 1, wire.LENGTH.pack(errno.EPIPE))
    async with asyncio.timeout(DEADLINE):
        await tunnel.opened()
        assert await tunnel.receive() == b"sorry"
        with pytest.raises(ConnectionResetError):
            await tunnel.receive()
        with pytest.raises(ConnectionResetError):
            await tunnel.send(b"x")


async def test_a_refused_connection_is_told_as_one(guest: Puppet) -> None:
    tunnel = await dialled(guest)
    guest.say(wire.RESET, 1, wire.LENGTH.pack(errno.ECONNREFUSED))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.wait_for(tunnel.opened(), DEADLINE)


async def test_no_more_is_sent_than_the_guest_grants(guest: Puppet) -> None:
    tunnel = await dialled(guest)
    sending = asyncio.ensure_future(tunnel.send(bytes(wire.TUNNEL_WINDOW + 10)))
    heard = 0
    while heard < wire.TUNNEL_WINDOW:
        kind, _, payload = await guest.hear()
        assert kind == wire.BYTES
        heard += len(payload)
    assert heard == wire.TUNNEL_WINDOW
    assert not sending.done()
    guest.say(wire.GRANT, 1, wire.LENGTH.pack(10))
    await asyncio.wait_for(sending, DEADLINE)
    assert await guest.hear() == (wire.BYTES, 1, bytes(10))


async def test_a_closed_connection_is_reset_unless_both_ways_have_ended(guest: Puppet) -> None:
    tunnel = await dialled(guest)
    await tunnel.send_eof()
    assert await guest.hear() == (wire.END, 1, b"")
    tunnel.close()
    tunnel.close()
    assert (await guest.hear())[:2] == (wire.RESET, 1)
    whole = guest.client.tunnels.dial(81)
    await guest.hear()
    guest.say(wire.END, 2)
    assert await asyncio.wait_for(whole.receive(), DEADLINE) == b""
    await whole.send_eof()
    whole.close()
    assert await guest.hear() == (wire.END, 2, b"")
    guest.client.channels.send(wire.REQUEST, 9)
    assert (await guest.hear())[0] == wire.REQUEST


async def test_all_connections_break_with_the_guest(guest: Puppet) -> None:
    tunnel = await dialled(guest)
    waiting = asyncio.ensure_future(tunnel.receive())
    guest.client.link.fail("test")
    with pytest.raises(ConnectionResetError):
        await within(waiting)
    with pytest.raises(SandboxLost):
        guest.client.tunnels.dial(80)


@pytest.mark.parametrize(
    "frames",
    [
        [(wire.BYTES, 1, bytes(wire.TUNNEL_WINDOW)), (wire.BYTES, 1, b"x")],
        [(wire.GRANT, 1, wire.LENGTH.pack(1))],
        [(wire.END, 1, b""), (wire.END, 1, b"")],
        [(wire.END, 1, b""), (wire.BYTES, 1, b"x")],
        [(wire.RESET, 1, b"")],
        [(wire.OPEN, 2, b"")],
        [(wire.OPEN, FROM_GUEST, b"")],
    ],
    ids=["too much", "granted", "two ends", "after end", "no number", "our channel", "not asked"],
)
async def test_a_guest_that_cheats_is_given_up(
    guest: Puppet, frames: list[tuple[int, int, bytes]]
) -> None:
    await dialled(guest)
    for frame in frames:
        guest.say(*frame)
    assert "protocol" in await guest.is_given_up()


async def test_a_guest_that_opens_too_many_connections_is_given_up(guest: Puppet) -> None:
    held = asyncio.Event()

    async def serve(stream: ByteStream) -> None:
        await held.wait()

    ports = Ports(guest.client, Gate(port=1, serve=serve))
    for at in range(wire.TUNNELS_MAX):
        guest.say(wire.OPEN, FROM_GUEST + at)
    guest.client.channels.send(wire.REQUEST, 9)
    await guest.hear()
    assert not guest.client.link.over
    guest.say(wire.OPEN, FROM_GUEST + wire.TUNNELS_MAX)
    assert "protocol" in await guest.is_given_up()
    await asyncio.wait_for(ports.aclose(), DEADLINE)


async def test_one_connection_out_may_follow_another_without_end(guest: Puppet) -> None:
    served = 0

    async def serve(stream: ByteStream) -> None:
        nonlocal served
        served += 1
        await stream.send_eof()

    ports = Ports(guest.client, Gate(port=1, serve=serve))
    for at in range(2 * wire.TUNNELS_MAX):
        guest.say(wire.OPEN, FROM_GUEST + at)
        guest.say(wire.END, FROM_GUEST + at)
        assert await guest.hear() == (wire.END, FROM_GUEST + at, b"")
    assert served == 2 * wire.TUNNELS_MAX
    await asyncio.wait_for(ports.aclose(), DEADLINE)


async def test_visitors_beyond_the_limit_wait_for_others_to_go(guest: Puppet) -> None:
    ports = Ports(guest.client, Gate())
    place = urlsplit(ports.url(8000))
    address = (place.hostname, place.port)
    visitors = [socket.create_connection(address) for _ in range(wire.TUNNELS_MAX + 1)]
    opened = [(await guest.hear())[:2] for _ in range(wire.TUNNELS_MAX)]
    assert {kind for kind, _ in opened} == {wire.OPEN}
    guest.client.channels.send(wire.REQUEST, 9)
    assert (await guest.hear())[0] == wire.REQUEST
    guest.say(wire.RESET, opened[0][1], wire.LENGTH.pack(errno.ECONNREFUSED))
    assert (await guest.hear())[0] == wire.OPEN
    for visitor in visitors:
        visitor.close()
    await asyncio.wait_for(ports.aclose(), DEADLINE)
