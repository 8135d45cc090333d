"""One command of a guest on one channel, as its host sees it: a `Process`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.channels import Channels, number_of
from paddock.backends.guest.connection import ProtocolViolation
from paddock.backends.guest.inside import wire
from paddock.backends.guest.monitor import until_gone
from paddock.backends.guest.request import error_in
from paddock.buffered import BufferedProcess, captured
from paddock.errors import CommandLost, SandboxClosed, SandboxLost
from paddock.sandbox import ExecResult, Output, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.process import SignalTarget

__all__ = ["GuestProcess"]

UNACKNOWLEDGED_MAX = wire.WINDOW + wire.BULK
"""Bytes of streamed output that may be on their way: a window, and the rest of one read."""
NUMBERS = (int, float)
EXIT_CODE_MAX = 255
DROPPED_MAX = 2**63 - 1
OUTPUT_FRAMES: dict[int, Stream] = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}
SCOPES: dict[SignalTarget, int] = {
    "command": wire.FOREGROUND,
    "group": wire.GROUP,
    "tree": wire.TREE,
}
LOST_OUTPUT = "the stream to the sandbox broke, and output was lost; the command is killed"
LEFT_BEHIND = "the stream to the sandbox broke; the process runs on, and can be joined again"
LEFT = "it was left while it ran, and runs on; join() gives it again"


class GuestProcess(BufferedProcess):
    """One command on one channel.

    It is in the table until nothing more comes for it: until its reply, or, if it left
    processes behind or was killed, until `GONE`.
    """

    def __init__(
        self,
        channels: Channels,
        order: Mapping[str, Any],
        *,
        streamed: bool,
        keep: int,
        stdin: bool,
        grace: float,
        kill_timeout: float,
    ) -> None:
        """Send `order`. Raises `SandboxLost` and `SandboxClosed`."""
        super().__init__(streamed=streamed)
        self._channels = channels
        self._streamed = streamed
        self._keep = keep
        self._stdin = stdin
        self._grace = grace
        self._kill_timeout = kill_timeout
        self._captures = self._new_captures()
        self._replied = False
        self._cut_off = False
        """The stream broke, and what comes now, if anything, is after a gap."""
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._killing = False
        self._started = time.monotonic()
        self._owed = 0
        self._unacknowledged = 0
        self._stdin_window = wire.WINDOW
        self._stdin_closed = not stdin
        self._has_terminal = "pty" in order
        self.id = order.get("id")
        self._stays = bool(order.get("detached"))
        """Whether it runs on when this object is closed."""
        self._left = False
        self._order = wire.message(dict(order))
        self._number = channels.open(self)
        channels.send(wire.REQUEST, self._number, self._order)

    def _new_captures(self) -> dict[Stream, wire.Capture]:
        return {"stdout": wire.Capture(self._keep), "stderr": wire.Capture(self._keep)}

    @property
    def waiting(self) -> bool:
        return not (self._gone if self._killing else self._result).done()

    @property
    def streaming(self) -> bool:
        return self._streamed and self.waiting

    # from the guest

    def on_frame(self, kind: int, payload: bytes) -> None:
        if self._left:
            if kind == wire.LEFT:
                self._close_channel()
            return  # it was on its way
        if kind in OUTPUT_FRAMES:
            self._on_output(OUTPUT_FRAMES[kind], payload)
        elif kind == wire.REPLY:
            self._on_reply(wire.parse_message(payload)[0])
        elif kind == wire.STDIN_CREDIT:
            self._on_stdin_credit(number_of(payload))
        elif kind == wire.STDIN_CLOSED and self._stdin and not self._stdin_closed:
            self._stdin_closed = True
        elif kind == wire.GONE and (self._killing or self._replied):
            self._close_channel()
        else:
            raise ProtocolViolation(f"a frame of kind {kind} that a command has no use for")
        self._changed.set()

    def _on_output(self, stream: Stream, data: bytes) -> None:
        capture = self._captures[stream]
        capture.feed(data)
        if not data or self._replied:
            raise ProtocolViolation("output of a stream that cannot have any")
        if not self._streamed:
            if capture.total > self._keep:
                raise ProtocolViolation("more output than was asked for")
            return
        self._unacknowledged += len(data)
        if self._unacknowledged > UNACKNOWLEDGED_MAX:
            raise ProtocolViolation("more output than there was room for")
        if self._cut_off:
            self._taken(len(data))
        else:
            self._buffer(stream, data)

    def _on_stdin_credit(self, size: int) -> None:
        self._stdin_window += size
        if not size or self._stdin_window > wire.WINDOW:
            raise ProtocolViolation("it acknowledges input that was not sent")

    def _on_reply(self, body: Mapping[str, Any]) -> None:
        if self._replied:
            raise ProtocolViolation("a command ended twice")
        outcome = error_in(body) or self._result_in(body)
        if self._cut_off:
            outcome = CommandLost(LOST_OUTPUT)
        self._replied = True
        if not self._killing and not body.get("background"):
            self._close_channel()
        if self._result.done():
            return
        if isinstance(outcome, Exception):
            self._result.set_exception(outcome)
        else:
            self._result.set_result(outcome)

    def _result_in(self, body: Mapping[str, Any]) -> ExecResult:
        code, duration = body.get("exit_code"), body.get("duration")
        if type(code) is not int or not 0 <= code <= EXIT_CODE_MAX:
            raise ProtocolViolation("an exit code that no command has")
        if not isinstance(duration, NUMBERS) or not 0 <= duration < math.inf:
            raise ProtocolViolation("an invalid duration")
        return ExecResult(
            exit_code=code,
            out=self._output("stdout", body.get("stdout")),
            err=self._output("stderr", body.get("stderr")),
            duration=float(duration),
            background=bool(body.get("background")),
            oom_killed=bool(body.get("oom")),
        )

    def _output(self, stream: Stream, described: object) -> Output:
        dropped = described.get("dropped") if isinstance(described, dict) else None
        if not isinstance(described, dict) or type(dropped) is not int:
            raise ProtocolViolation(f"a {stream} that is not described")
        if not 0 <= dropped <= DROPPED_MAX:
            raise ProtocolViolation(f"{stream} of which an impossible number of bytes is dropped")
        capture = self._captures[stream]
        spill = described.get("spill")
        return Output(
            head=bytes(capture.head),
            tail=bytes(capture.tail),
            dropped=dropped,
            spill=None if spill is None else PurePosixPath(str(spill)),
            spill_truncated=bool(described.get("spill_truncated")),
        )

    def _close_channel(self) -> None:
        self._channels.close_channel(self._number)
        if not self._gone.done():
            self._gone.set_result(None)

    # when there is no stream, or no sandbox

    def on_over(self, error: SandboxLost | SandboxClosed) -> None:
        self._fail(error)
        self._close_channel()

    def on_break(self) -> bool:
        if self._replied or self._streamed or self._stdin:
            self._cut_off = not self._replied
            return False
        self._captures = self._new_captures()
        return True

    def on_reconnected(self, *, heard: bool) -> None:
        if self._left:
            self._close_channel()
        elif self._stays and not (self._replied or self._killing):
            self._leave(CommandLost(LEFT_BEHIND))
        elif not self._replied:  # else what it left behind runs
            if self._stdin or (heard and self._streamed):
                self._killing = True
                self._fail(CommandLost(LOST_OUTPUT))
            elif not heard:
                self._cut_off = False
                self._channels.send(wire.REQUEST, self._number, self._order)
        if self._killing:
            self._send_kill(0)

    def _fail(self, error: Exception) -> None:
        if not self._result.done():
            self._result.set_exception(error)
        self._stdin_closed = True
        self._changed.set()

    # for the owner

    def _taken(self, size: int) -> None:
        """Acknowledge output in portions: a frame for each piece would double their number."""
        self._owed += size
        if self._owed >= wire.CREDIT_STEP:
            with contextlib.suppress(SandboxLost, SandboxClosed):
                self._channels.send(wire.CREDIT, self._number, wire.LENGTH.pack(self._owed))
            self._unacknowledged -= self._owed
            self._owed = 0

    async def _send(self, data: bytes) -> None:
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
            self._channels.send(wire.DATA, self._number, piece)
            view = view[len(piece) :]

    async def send_eof(self) -> None:
        if not self._result.done():
            self._channels.send(wire.EOF, self._number)

    async def _signal(self, number: int, to: SignalTarget) -> None:
        if not self._gone.done():
            payload = wire.PAIR.pack(number, SCOPES[to])
            self._channels.send(wire.SIGNAL, self._number, payload)

    async def _resize(self, rows: int, cols: int) -> None:
        if not self._has_terminal:
            await super()._resize(rows, cols)
        if not self._gone.done():
            self._channels.send(wire.RESIZE, self._number, wire.PAIR.pack(cols, rows))

    async def _close(self) -> None:
        if self._stays and not self._killing:
            self._leave(CommandLost(LEFT))
        else:
            await self.kill(grace=self._grace)

    def _leave(self, error: CommandLost) -> None:
        """Hear no more of it; it runs on."""
        self._fail(error)
        if not (self._left or self._gone.done()):
            self._left = True
            with contextlib.suppress(SandboxLost, SandboxClosed):
                self._channels.send(wire.LEAVE, self._number)

    async def _kill(self, grace: float) -> None:
        if self._left:
            return
        if not self._killing and not self._gone.done():
            self._killing = True
            self._send_kill(grace)
        gone = await until_gone(
            self._channels.link,
            self._gone,
            grace=grace,
            kill_timeout=self._kill_timeout,
        )
        if not gone:
            self._abandon()

    def _abandon(self) -> None:
        """The sandbox is paused: the guest has been asked, and kills the tree on resume."""
        if not self._result.done():
            self._result.set_result(
                ExecResult(
                    exit_code=128 + signal.SIGKILL,
                    out=captured(self._captures["stdout"]),
                    err=captured(self._captures["stderr"]),
                    duration=time.monotonic() - self._started,
                )
            )
        self._changed.set()

    def _send_kill(self, grace: float) -> None:
        with contextlib.suppress(SandboxLost, SandboxClosed):
            self._channels.send(wire.KILL, self._number, wire.message({"grace": grace}))
