"""What a request for a container's stream makes of an engine's answer, over no socket."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.hijack import PACKET, STDERR, STDOUT, HijackedStream

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
RAW = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
PACKETS = PACKET.pack(STDOUT, 3) + b"out" + PACKET.pack(STDERR, 3) + b"err"


class Stream(HijackedStream):
    """Keeps what it is told; `sent` and `aborted` are its transport's."""

    def __init__(self) -> None:
        engine: Any = SimpleNamespace(version="1.44")
        super().__init__("attaching", engine, "/containers/x/attach?stream=1", b"{}")
        self.sent = bytearray()
        self.aborted = False
        self.events: list[str] = []
        self.output = {STDOUT: b"", STDERR: b""}
        self.connection_made(Transport(self))

    def on_open(self, transport: asyncio.Transport) -> None:
        self.events.append("open")

    def on_output(self, stream: int, data: bytes) -> None:
        self.output[stream] += data

    def on_end(self, error: Exception | None) -> None:
        self.events.append("end")


class Transport(asyncio.Transport):
    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._stream.sent += data

    def abort(self) -> None:
        self._stream.aborted = True


@pytest.mark.parametrize("head", [UPGRADED, RAW, b"HTTP/1.1 100 Continue\r\n\r\n" + UPGRADED])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_stream_begins_where_the_answer_ends_however_it_is_cut(
    head: bytes, size: int
) -> None:
    stream = Stream()
    assert stream.sent == (
        b"POST /v1.44/containers/x/attach?stream=1 HTTP/1.1\r\nHost: docker\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    data = head + PACKETS
    for at in range(0, len(data), size):
        stream.data_received(data[at : at + size])
    await stream.opened
    assert stream.events == ["open"]
    assert stream.output == {STDOUT: b"out", STDERR: b"err"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            b'HTTP/1.1 404 Not Found\r\nContent-Length: 26\r\n\r\n{"message": "no such one"}',
            r"attaching: no such one",
        ),
        (
            b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n",
            "attaching: bad",
        ),
        (b"220 mail.test ESMTP\r\n\r\n", "attaching: the engine's answer is not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nX: " + bytes([120]) * 100_000, "the engine's answer is not HTTP/1"),
        (b"HTTP/1.1 500 Oh\r\n\r\n" + b"x" * 200_000, "attaching: x+$"),
    ],
    ids=["refusal", "chunks", "no HTTP", "no end of the head", "no end of the body"],
)
async def test_a_refusal_is_an_error_with_the_engine_s_own_words(
    answer: bytes, reason: str
) -> None:
    stream = Stream()
    for at in range(0, len(answer), 50_000):
        if not stream.aborted:
            stream.data_received(answer[at : at + 50_000])
    with pytest.raises(EngineError, match=reason):
        await stream.opened
    assert stream.aborted
    assert stream.events == []


async def test_an_engine_that_hangs_up_early_has_not_agreed() -> None:
    stream = Stream()
    stream.data_received(b"HTTP/1.1 101 UPGR")
    stream.connection_lost(None)
    with pytest.raises(EngineError, match="attaching: the engine hung up"):
        await stream.opened
    assert stream.events == ["end"]
