"""A command of a guest that is joined by its id: what was kept of its output, then the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.connection import ProtocolViolation
from paddock.backends.guest.inside import wire
from paddock.backends.guest.process import DROPPED_MAX, GuestProcess

if TYPE_CHECKING:
    from paddock.backends.guest.channels import Channels
    from paddock.process import Output, Stream

__all__ = ["JoinedProcess"]

SIZES = ("head", "dropped", "tail")
STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


class JoinedProcess(GuestProcess):
    """Begins with the guest's `REPLAY`. Closing it leaves the command as it is."""

    def __init__(
        self, channels: Channels, process_id: str, keep: int, *, grace: float, kill_timeout: float
    ) -> None:
        self._replayed = False
        super().__init__(
            channels,
            {"op": "adopt", "id": process_id, "keep": keep, "detached": True},
            streamed=True,
            keep=keep,
            stdin=True,
            grace=grace,
            kill_timeout=kill_timeout,
        )

    async def joined(self) -> None:
        """Wait until it is; raise why it could not be."""
        while not (self._replayed or self._result.done()):
            self._changed.clear()
            await self._changed.wait()
        if not self._replayed:
            self._result.result()

    def on_frame(self, kind: int, payload: bytes) -> None:
        if self._replayed or self._left:
            super().on_frame(kind, payload)
            return
        body, blob = wire.parse_message(payload)
        if kind == wire.REPLAY:
            self._on_replay(body, blob)
        elif kind == wire.REPLY and "error" in body:
            super().on_frame(kind, payload)
        else:
            raise ProtocolViolation(f"a frame of kind {kind} before what was printed earlier")

    def _on_replay(self, body: dict[str, Any], blob: bytes) -> None:
        self._has_terminal = body.get("pty") is True
        self._stdin_closed = body.get("stdin") is not True
        self._owed -= len(blob)  # reading it makes no room: it did not come through the window
        for stream in STREAMS:
            if stream in body:
                blob = self._replay(stream, body[stream], blob)
        if blob:
            raise ProtocolViolation("output of no stream is replayed")
        self._replayed = True
        self._changed.set()

    def _replay(self, stream: Stream, sizes: Any, blob: bytes) -> bytes:
        """Take what is kept of a stream from `blob`; return the rest of it."""
        head, dropped, tail = found = [sizes[name] for name in SIZES]
        for size in found:
            if type(size) is not int or not 0 <= size <= DROPPED_MAX:
                raise ProtocolViolation(f"{stream} is replayed with a size that is none")
        end = head + tail
        if end > min(self._keep, wire.INLINE, len(blob)):
            raise ProtocolViolation(f"more of {stream} is replayed than was asked for")
        capture = self._captures[stream]
        capture.feed(blob[:head])
        capture.skip(dropped)
        capture.feed(blob[head:end])
        self.missed += dropped
        if end:
            self._buffer(stream, blob[:end])
        return blob[end:]

    def _output(self, stream: Stream, described: object) -> Output:
        # The guest counts what lies between the head and the tail that its first host keeps.
        output = super()._output(stream, described)
        return replace(output, dropped=self._captures[stream].dropped)
