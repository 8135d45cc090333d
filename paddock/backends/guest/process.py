"""One command of a guest on one channel, as its host sees it: a `Process`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.backends.buffered import BufferedProcess, captured
from paddock.backends.guest.inside import wire
from paddock.errors import FileChanged, SandboxError, SandboxLost
from paddock.sandbox import KILL_GRACE, ExecResult, Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.guest.client import GuestClient
    from paddock.sandbox import Stream

__all__ = ["GuestProcess", "error_from"]

STANDSTILL = 1.0
"""Seconds in which a paused sandbox may yet end a command: perhaps it is only about to stop."""
OUTPUT_FRAMES: dict[int, Stream] = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}
ERRORS: dict[str, type[Exception]] = {
    "FileChanged": FileChanged,
    "ValueError": ValueError,
    "Killed": SandboxError,
    "Unknown": SandboxError,
}
"""The guest's exceptions that have no errno, and what they are on this side."""


def error_from(told: Mapping[str, Any]) -> Exception:
    """The exception that a guest described."""
    text = str(told.get("text", ""))
    if "errno" in told:
        path = told.get("path")
        return OSError(int(told["errno"]), text, *([str(path)] if path is not None else []))
    kind = ERRORS.get(str(told.get("kind")))
    return kind(text) if kind else SandboxError(f"{told.get('kind')}: {text}")


class GuestProcess(BufferedProcess):
    """One command on one channel."""

    def __init__(
        self,
        client: GuestClient,
        channel: int,
        *,
        streamed: bool,
        keep: int,
        grace: float,
        stdin: bool,
    ) -> None:
        super().__init__(streamed=streamed)
        self._client = client
        self._channel = channel
        self._streamed = streamed
        self._keep = keep
        self._grace = grace
        self._stdin = stdin
        self._captures = {
            "stdout": wire.Capture(keep),
            "stderr": wire.Capture(keep),
        }
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._killing = False
        self._left = False
        self._started = time.monotonic()
        self._owed = 0
        self._stdin_window = wire.WINDOW
        self._stdin_closed = False

    @property
    def _awaits(self) -> bool:
        return not (self._gone if self._killing else self._result).done()

    # from the guest

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind in OUTPUT_FRAMES:
            self._on_output(OUTPUT_FRAMES[kind], payload)
        elif kind == wire.REPLY:
            self._on_exit(wire.parse_message(payload)[0])
        elif kind == wire.STDIN_CREDIT:
            self._stdin_window += wire.LENGTH.unpack(payload)[0]
        elif kind == wire.STDIN_CLOSED:
            self._stdin_closed = True
        elif kind == wire.GONE:
            self._client._forget(self._channel)
            if not self._gone.done():
                self._gone.set_result(None)
        else:
            raise ValueError(f"frame kind {kind}")
        self._changed.set()

    def _on_output(self, stream: Stream, data: bytes) -> None:
        self._captures[stream].feed(data)
        if not self._streamed:
            return
        if self._discarding:
            self._taken(len(data))
        else:
            self._unread.append((stream, data))

    def _on_exit(self, body: dict[str, Any]) -> None:
        if self._left:
            return
        if self._result.done():
            raise ValueError("a command ended twice")
        if not body.get("background") and not self._killing:
            self._client._forget(self._channel)
            self._gone.set_result(None)
        if "error" in body:
            self._result.set_exception(error_from(body["error"]))
            return
        self._result.set_result(
            ExecResult(
                exit_code=int(body["exit_code"]),
                out=self._output("stdout", body["stdout"]),
                err=self._output("stderr", body["stderr"]),
                duration=float(body["duration"]),
                background=bool(body["background"]),
                oom_killed=bool(body.get("oom")),
            )
        )

    def _output(self, stream: Stream, told: Mapping[str, Any]) -> Output:
        capture = self._captures[stream]
        spill = told.get("spill")
        return Output(
            head=bytes(capture.head),
            tail=bytes(capture.tail),
            dropped=int(told["dropped"]),
            spill=None if spill is None else PurePosixPath(str(spill)),
            spill_truncated=bool(told.get("spill_truncated")),
        )

    def _start_again(self) -> bool:
        """Be as if nothing had come yet; False if what came or went cannot be had again."""
        if self._streamed or self._stdin or self._killing:
            return False
        if not self._result.done():
            self._captures = {name: wire.Capture(self._keep) for name in self._captures}
        return True

    def _on_lost(self, error: SandboxLost) -> None:
        if not self._result.done():
            self._result.set_exception(error)
        if not self._gone.done():
            self._gone.set_result(None)
        self._stdin_closed = True
        self._changed.set()

    def _taken(self, size: int) -> None:
        """Give the guest room for more, not for every piece."""
        self._owed += size
        if self._owed >= wire.CREDIT_STEP:
            with contextlib.suppress(SandboxLost):
                self._client.send(wire.CREDIT, self._channel, wire.LENGTH.pack(self._owed))
            self._owed = 0

    # for the owner

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._stdin_closed or self._result.done():
                raise BrokenPipeError("the command does not read its stdin")
            if self._stdin_window <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            piece = view[: min(self._stdin_window, wire.PIECE)]
            self._stdin_window -= len(piece)
            self._client.send(wire.DATA, self._channel, piece)
            view = view[len(piece) :]

    async def send_eof(self) -> None:
        if not self._result.done():
            self._client.send(wire.EOF, self._channel)

    async def signal(self, number: int) -> None:
        if not self._result.done():
            self._client.send(wire.SIGNAL, self._channel, wire.LENGTH.pack(number))

    async def aclose(self) -> None:
        await self.kill(grace=self._grace)

    async def kill(self, *, grace: float = KILL_GRACE) -> None:
        await finish(self._kill(grace))

    async def _kill(self, grace: float) -> None:
        if self._gone.done():
            return
        if not self._killing:
            self._killing = True
            with contextlib.suppress(SandboxLost):
                self._client.send(wire.KILL, self._channel, wire.message({"grace": grace}))
        while not self._gone.done():
            patience = self._client.patience
            limit = STANDSTILL if patience is None else grace + patience
            await asyncio.wait([self._gone], timeout=limit)
            if self._gone.done():
                return
            if patience is None and self._client.patience is None:
                self._leave()
                return
            if patience is not None and self._client.patience is not None:
                self._client.fail("its guest could not end a command's processes")

    def _leave(self) -> None:
        """Where nothing moves, the processes die when it goes on: the guest was told."""
        if self._result.done():
            return
        self._left = True
        self._result.set_result(
            ExecResult(
                exit_code=128 + signal.SIGKILL,
                out=captured(self._captures["stdout"]),
                err=captured(self._captures["stderr"]),
                duration=time.monotonic() - self._started,
            )
        )
        self._changed.set()
