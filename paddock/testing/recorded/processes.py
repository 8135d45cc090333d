"""Commands that are recorded, and commands that are replayed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from paddock._concurrency import Signal
from paddock.process import ExecResult, Process
from paddock.testing.recorded.cassette import CassetteMismatch
from paddock.testing.recorded.codec import decode, decode_error, encode, encode_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.process import SignalTarget, Stream
    from paddock.redaction import Redactor
    from paddock.testing.recorded.cassette import Call

__all__ = ["RecordedProcess", "ReplayedProcess"]


class RecordedProcess(Process):
    """Passes everything on, and notes it: events in the order in which they began."""

    def __init__(self, inner: Process, call: Call, redactor: Redactor) -> None:
        self._inner = inner
        self._redactor = redactor
        self._streams = {"stdout": redactor.stream(), "stderr": redactor.stream()}
        self._stdin = redactor.stream()
        self._events: list[list[Any]] = []
        call.answer = {"events": self._events}
        self._ended = False

    async def output(self) -> AsyncIterator[tuple[Stream, bytes]]:
        async for stream, data in self._inner.output():
            self._note(stream, self._streams[stream].feed(data))
            yield stream, data

    def _note(self, stream: Stream, data: bytes) -> None:
        if data:
            self._events.append(["output", stream, encode(data, self._redactor)])

    async def _send(self, data: bytes) -> None:
        self._events.append(["send", encode(self._stdin.feed(data), self._redactor)])
        await self._inner.send(data)

    async def send_eof(self) -> None:
        self._events.append(["eof", encode(self._stdin.close(), self._redactor)])
        await self._inner.send_eof()

    async def _signal(self, number: int, to: SignalTarget) -> None:
        self._events.append(["signal", number])
        await self._inner.signal(number, to=to)

    async def _resize(self, rows: int, cols: int) -> None:
        await self._inner.resize(rows, cols)

    async def _kill(self, grace: float) -> None:
        if not self._ended:
            self._events.append(["kill"])
        await self._inner.kill(grace=grace)
        if not self._ended:
            await self.wait()

    async def wait(self) -> ExecResult:
        try:
            result = await self._inner.wait()
        except Exception as error:
            self._end("error", encode_error(error, self._redactor))
            raise
        self._end("end", encode(result, self._redactor))
        return result

    def _end(self, kind: str, told: Any) -> None:
        if not self._ended:
            self._ended = True
            for stream, redacted in self._streams.items():
                self._note("stdout" if stream == "stdout" else "stderr", redacted.close())
            self._events.append([kind, told])


class ReplayedProcess(Process):
    """Gives out what was recorded, up to what waits for something from the host."""

    def __init__(self, events: list[list[Any]], redactor: Redactor, *, strict: bool) -> None:
        self._events = [*events]
        self._redactor = redactor
        self._stdin = redactor.stream()
        self._strict = strict
        self._at = 0
        self._changed = Signal()

    async def output(self) -> AsyncIterator[tuple[Stream, bytes]]:
        while (event := await self._next()) is not None:
            stream: Stream = "stdout" if event[1] == "stdout" else "stderr"
            yield stream, decode(event[2])

    async def _next(self) -> list[Any] | None:
        """Return the next piece of output, once it is due; None at the end."""
        while self._at < len(self._events):
            kind = self._events[self._at][0]
            if kind in ("end", "error"):
                return None
            if kind == "output":
                self._at += 1
                return self._events[self._at - 1]
            self._changed.clear()
            await self._changed.wait()
        return None

    async def wait(self) -> ExecResult:
        while await self._next() is not None:
            pass
        if self._at == len(self._events):  # the recording did not wait for its end
            return ExecResult(exit_code=128 + signal.SIGKILL)
        kind, told = self._events[self._at]
        if kind == "error":
            raise decode_error(told)
        result: ExecResult = decode(told)
        return result

    async def _send(self, data: bytes) -> None:
        self._step("send", encode(self._stdin.feed(data), self._redactor))

    async def send_eof(self) -> None:
        self._step("eof", encode(self._stdin.close(), self._redactor))

    async def _signal(self, number: int, to: SignalTarget) -> None:
        self._step("signal", number)

    async def _resize(self, rows: int, cols: int) -> None:
        return

    def _step(self, kind: str, *told: Any) -> None:
        """Go beyond the next event of this kind: the host has done its part."""
        for at in range(self._at, len(self._events)):
            event = self._events[at]
            if event[0] != kind:
                continue
            if self._strict and event[1:] != [*told]:
                raise CassetteMismatch(f"{kind}: recorded is {event[1:]}, asked for {[*told]}")
            del self._events[at]
            self._changed.set()
            return
        if self._strict and self._at < len(self._events) - 1:
            raise CassetteMismatch(f"{kind}: the recording has no more of it")

    async def _kill(self, grace: float) -> None:
        self._events = [event for event in self._events if event[0] in ("end", "error")]
        self._at = 0
        self._changed.set()
