"""A guest's stream carried by requests: exactly once both ways, whatever becomes of each."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shlex
import socket
import zlib
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.backends.daytona import long_poll, relay_buffer
from paddock.backends.daytona.long_poll import LongPollTransport, parse_answer
from paddock.backends.daytona.relay_buffer import (
    ANSWER,
    CALL,
    HEADER,
    OUTPUT,
    TAG_BYTES,
    Frames,
    RelayBuffer,
    sign,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


DEADLINE = 60.0
"""Seconds for what takes milliseconds."""
REPLY = 17

frames = st.tuples(st.sampled_from([REPLY, *OUTPUT]), st.binary(max_size=40)).map(
    lambda each: HEADER.pack(len(each[1]), each[0], 1) + each[1]
)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        yield data[start:end]


# the answer

KEY = b"known to both ends"


def signed(answer: bytes, key: bytes = KEY) -> str:
    """An answer as it is printed."""
    return base64.b64encode(zlib.compress(sign(key, b"answer", answer) + answer)).decode()


def test_what_a_depot_answers_is_read() -> None:
    printed = signed(ANSWER.pack(7, 0) + b"data") + "\n"
    assert parse_answer(printed, KEY) == (7, False, b"data")


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "python3: not found",
        "e30=",
        "ä",
        base64.b64encode(zlib.compress(b"short")).decode(),
        base64.b64encode(zlib.compress(ANSWER.pack(0, 0) + bytes(99))[:-6]).decode(),
        signed(ANSWER.pack(0, 0) + bytes(relay_buffer.ANSWER_MAX + 1)),
        signed(ANSWER.pack(0, 0) + b"forged", b"a guess"),
        base64.b64encode(zlib.compress(ANSWER.pack(0, 0) + bytes(99))).decode(),
    ],
)
def test_anything_else_is_no_answer(printed: str) -> None:
    with pytest.raises(ValueError, match="no answer of a relay buffer"):
        parse_answer(printed, KEY)


@given(st.text(max_size=60))
def test_no_text_is_more_than_a_value_error(printed: str) -> None:
    with pytest.raises(ValueError, match="no answer of a relay buffer"):
        parse_answer(printed, KEY)


# the frames


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 1000), max_size=12))
def test_frames_are_seen_to_end_wherever_the_stream_is_cut(
    stream: list[bytes], cuts: list[int]
) -> None:
    end, notable = 0, []
    for frame in stream:
        end += len(frame)
        if HEADER.unpack_from(frame)[1] not in OUTPUT:
            notable.append(end)
    seen, at = Frames(), 0
    for piece in pieces(b"".join(stream), cuts):
        expected = any(at < place <= at + len(piece) for place in notable)
        assert seen.feed(piece) == expected
        at += len(piece)


# the relay buffer


@pytest.fixture
def idle() -> RelayBuffer:
    return RelayBuffer(-1, -1, KEY)


def called(
    buffer: RelayBuffer, *, offset: int = 0, heard: int = 0, eager: int = 0, words: bytes = b""
) -> tuple[int, bool, bytes]:
    """One call of a relay buffer over a real connection, without patience."""
    here, there = socket.socketpair()
    with here:
        call = CALL.pack(offset, heard, 0.0, eager) + words
        here.sendall(sign(buffer.key, b"call", call) + call)
        here.shutdown(socket.SHUT_WR)
        buffer.serve(there)
        answer = b"".join(iter(lambda: here.recv(65536), b""))
    assert answer[:TAG_BYTES] == sign(buffer.key, b"answer", answer[TAG_BYTES:])
    answer = answer[TAG_BYTES:]
    start, ended = ANSWER.unpack_from(answer)
    return start, bool(ended), answer[ANSWER.size :]


def says(buffer: RelayBuffer, data: bytes, seen: Frames) -> None:
    """What a relay buffer does with what its guest has said."""
    buffer.kept += data
    if seen.feed(data):
        buffer.notable = buffer.start + len(buffer.kept)


@given(
    st.binary(max_size=60),
    st.lists(st.integers(0, 100), max_size=6),
    st.data(),
)
def test_words_are_taken_once_in_whatever_order_they_come(
    words: bytes, cuts: list[int], data: st.DataObject
) -> None:
    buffer, at = RelayBuffer(-1, -1, KEY), 0
    calls = []
    for piece in pieces(words, cuts):
        calls.append((at, piece))
        at += len(piece)
    repeated = data.draw(st.lists(st.sampled_from(calls), max_size=6)) if calls else []
    for offset, piece in data.draw(st.permutations(calls + repeated)):
        called(buffer, offset=offset, words=piece)
    assert bytes(buffer.waiting) == words
    assert buffer.taken == len(words)


def test_what_was_not_heard_is_told_again_and_what_was_is_forgotten(idle: RelayBuffer) -> None:
    idle.kept += b"said"
    assert called(idle)[::2] == (0, b"said")
    assert called(idle)[::2] == (0, b"said")
    assert called(idle, heard=2)[::2] == (2, b"id")
    assert called(idle, heard=1)[::2] == (2, b"id")  # an old request that was on its way for long
    assert called(idle, heard=4)[::2] == (4, b"")


def test_an_end_is_told_with_its_complaint_once_all_else_is_heard(idle: RelayBuffer) -> None:
    idle.kept += b"last words"
    idle.complaint = b"Traceback: no memory"
    idle.ended = True
    assert called(idle) == (0, False, b"last words")
    assert called(idle, heard=10) == (10, True, b"Traceback: no memory")


def test_output_alone_is_worth_an_answer_only_to_who_wants_it(idle: RelayBuffer) -> None:
    seen = Frames()
    says(idle, HEADER.pack(3, OUTPUT[0], 1) + b"out", seen)
    assert not idle.is_worth_it(0)
    assert idle.is_worth_it(1)
    says(idle, HEADER.pack(2, REPLY, 1) + b"{}", seen)
    assert idle.is_worth_it(0)
    called(idle, heard=idle.notable)
    assert not idle.is_worth_it(0)
    says(
        idle,
        HEADER.pack(relay_buffer.ANSWER_MAX, OUTPUT[0], 1) + bytes(relay_buffer.ANSWER_MAX),
        seen,
    )
    assert idle.is_worth_it(0)


# both ends


class Guest:
    """What the transport wants of a guest's channels, of their connection and of their link."""

    def __init__(self, awaited: int, *, streaming: bool) -> None:
        self.received = bytearray()
        self.failures: list[str] = []
        self.ended = asyncio.Event()
        self.streaming = streaming
        self.link = self
        self._awaited = awaited

    @property
    def waiting(self) -> bool:
        return len(self.received) < self._awaited

    def connect(self) -> Guest:
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport writes elsewhere."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It closed itself."""

    def data_received(self, data: bytes) -> None:
        self.received += data

    def fail(self, reason: str) -> None:
        self.failures.append(reason)
        self._awaited = 0
        self.ended.set()


class Wire:
    """Requests that are late, done more than once, or whose answers are lost, as it is drawn."""

    def __init__(self, buffer: RelayBuffer, draws: st.DataObject) -> None:
        self._buffer = buffer
        self._draws = draws
        self._late: set[asyncio.Task[str]] = set()
        self._key = b""

    def belong_to(self, transport: LongPollTransport) -> None:
        self._key = transport._key

    async def run(self, making: Callable[[float], str], patience: float) -> str:
        command = making(patience)
        times = self._draws.draw(st.integers(1, 3), "times that it is done")
        answers = [await self._execute(command) for _ in range(times)]
        if self._draws.draw(st.booleans(), "done once more, later"):
            self._late.add(asyncio.ensure_future(self._execute(command)))
        await self._wait()
        # Of several answers the one that is heard need not be the last that was given.
        return self._draws.draw(st.sampled_from(answers), "the answer that is heard")

    async def _execute(self, command: str) -> str:
        await self._wait()
        words = shlex.split(command.removeprefix("exec ").removesuffix(" </dev/null 2>&1"))
        call = bytes.fromhex(words[7])[TAG_BYTES:]
        offset, heard, _, eager = CALL.unpack(call)
        said = zlib.decompress(base64.b64decode("".join(words[8:])))
        self._buffer.key = self._key
        start, ended, data = called(
            self._buffer, offset=offset, heard=heard, eager=eager, words=said
        )
        return signed(ANSWER.pack(start, ended) + data, self._key)

    async def _wait(self) -> None:
        for _ in range(self._draws.draw(st.integers(0, 6), "turns")):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        await asyncio.gather(*self._late)


async def carried(words: list[bytes], said: list[bytes], draws: st.DataObject) -> None:
    place = RelayBuffer(-1, -1, KEY)
    guest: Any = Guest(sum(map(len, said)), streaming=draws.draw(st.booleans(), "streams"))
    wire = Wire(place, draws)
    subject = LongPollTransport(wire.run, guest)
    wire.belong_to(subject)

    async def speak() -> None:
        for word in words:
            subject.write(word)
            await asyncio.sleep(0)

    async def answer() -> None:
        seen = Frames()
        for frame in said:
            says(place, frame, seen)
            await asyncio.sleep(0)

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(speak(), answer())
        await asyncio.sleep(0)
        await subject.wait_closed()
        await wire.settle()
    assert not guest.failures
    assert bytes(guest.received) == b"".join(said)
    assert bytes(place.waiting) == b"".join(words)
    subject.close()


@settings(max_examples=60)
@given(
    st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6),
    st.lists(frames, max_size=6),
    st.data(),
)
def test_both_directions_arrive_exactly_once_whatever_becomes_of_requests(
    words: list[bytes], said: list[bytes], draws: st.DataObject
) -> None:
    small = (
        mock.patch.multiple(long_poll, WORDS_MAX=9),
        mock.patch.multiple(relay_buffer, ANSWER_MAX=25),
    )
    with small[0], small[1]:
        asyncio.run(carried(words, said, draws))


async def test_a_frame_that_is_no_answer_ends_the_guest() -> None:
    async def run(command: Callable[[float], str], patience: float) -> str:
        return "sh: 1: something else"

    guest: Any = Guest(1, streaming=False)
    subject = LongPollTransport(run, guest)
    subject.write(b"words")
    async with asyncio.timeout(DEADLINE):
        while not guest.failures:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
        await subject.wait_closed()
    assert "no answer of a relay buffer" in guest.failures[0]


def test_a_call_that_the_host_did_not_sign_is_neither_obeyed_nor_answered(
    idle: RelayBuffer,
) -> None:
    says(idle, HEADER.pack(0, 17, 1), Frames())
    here, there = socket.socketpair()
    with here:
        call = CALL.pack(0, 9, 0.0, 1) + b"forged"
        here.sendall(sign(b"a guess", b"call", call) + call)
        here.shutdown(socket.SHUT_WR)
        idle.serve(there)
        assert here.recv(1) == b""
    assert (idle.start, idle.taken, bytes(idle.waiting)) == (0, 0, b"")


async def test_the_last_words_of_a_guest_are_shown_without_what_a_terminal_would_obey() -> None:
    async def run(command: Callable[[float], str], patience: float) -> str:
        return signed(ANSWER.pack(0, 1) + b"\x1b[2Jowned\r\xff", transport._key)

    guest: Any = Guest(1, streaming=False)
    transport = LongPollTransport(run, guest)
    transport.write(b"words")
    await asyncio.wait_for(guest.ended.wait(), DEADLINE)
    transport.close()
    assert guest.failures == ["its guest has ended: \\x1b[2Jowned\\x0d\ufffd"]
