"""A socket that the loop and a heartbeat's thread write to: whole messages, in order."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import wire
from paddock.backends.guest.writer import SharedWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE = 60.0
LARGE = bytes(4 * 1024 * 1024)


class Stream:
    """A writer, and the far end of its socket."""

    def __init__(self, transport: asyncio.Transport, far: socket.socket) -> None:
        self.transport = transport
        self.writer = SharedWriter(transport, asyncio.get_running_loop())
        self.far = far
        self.frames = wire.Frames()

    def read(self, count: int) -> list[tuple[int, int, int]]:
        """Kind, channel and size of `count` frames. To be called in a thread."""
        found: list[tuple[int, int, int]] = []
        while len(found) < count:
            data = self.far.recv(65536)
            assert data, "the stream ended"
            found += [(kind, channel, len(load)) for kind, channel, load in self.frames.feed(data)]
        return found


@pytest.fixture
async def stream() -> AsyncIterator[Stream]:
    near, far = socket.socketpair()
    far.settimeout(DEADLINE)
    transport, _ = await asyncio.get_running_loop().create_unix_connection(
        asyncio.Protocol, sock=near
    )
    opened = Stream(transport, far)
    yield opened
    opened.writer.close()
    transport.abort()
    far.close()


async def test_what_does_not_fit_is_sent_as_the_reader_reads(stream: Stream) -> None:
    stream.writer.write(wire.frame(1, 1, LARGE))
    stream.writer.write(wire.frame(2, 2))
    found = await asyncio.to_thread(stream.read, 2)
    assert found == [(1, 1, len(LARGE)), (2, 2, 0)]


async def test_a_thread_finishes_a_frame_that_is_half_sent_before_its_own(stream: Stream) -> None:
    """While the loop is held up: nothing but the thread can send the rest."""
    stream.writer.write(wire.frame(1, 1, LARGE))
    found: list[tuple[int, int, int]] = []
    reading = threading.Thread(target=lambda: found.extend(stream.read(1)))
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(0.001):
            stream.writer.write_from_thread(wire.frame(3, 0))

    beating = threading.Thread(target=beat)
    reading.start()
    beating.start()
    end = time.monotonic() + DEADLINE
    while not found and time.monotonic() < end:
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is held up, on purpose
    stopped.set()
    beating.join()
    reading.join()
    assert found[0] == (1, 1, len(LARGE))
    assert set(found[1:]) <= {(3, 0, 0)}


async def test_frames_of_two_threads_are_never_mixed(stream: Stream) -> None:
    count = 2000

    def beat() -> None:
        for _ in range(count):
            stream.writer.write_from_thread(wire.frame(3, 0, b"beat"))

    beating = threading.Thread(target=beat)
    reading = asyncio.ensure_future(asyncio.to_thread(stream.read, 2 * count))
    beating.start()
    for at in range(count):
        stream.writer.write(wire.frame(1, at, bytes(at % 700)))
        if not at % 50:
            await asyncio.sleep(0)
    found = await asyncio.wait_for(reading, DEADLINE)
    beating.join()
    assert [one for one in found if one[0] == 1] == [(1, at, at % 700) for at in range(count)]
    assert sum(one == (3, 0, 4) for one in found) == count


async def test_a_writer_that_is_closed_writes_nothing_and_keeps_no_descriptor(
    stream: Stream,
) -> None:
    stream.writer.write(wire.frame(1, 1, LARGE))
    stream.writer.close()
    stream.writer.close()
    stream.writer.write(wire.frame(2, 2))
    stream.writer.write_from_thread(wire.frame(2, 2))
    stream.transport.abort()
    await asyncio.sleep(0)
    data = await asyncio.to_thread(lambda: b"".join(iter(lambda: stream.far.recv(65536), b"")))
    assert len(data) < len(LARGE)


async def test_a_peer_that_is_gone_is_no_error_of_the_writer(stream: Stream) -> None:
    stream.far.close()
    for _ in range(3):
        stream.writer.write(wire.frame(1, 1, bytes(1000)))
        stream.writer.write_from_thread(wire.frame(3, 0))
