"""A command of a sandbox in memory, as the host has it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from paddock.backends.guest.inside.wire import Capture
from paddock.buffered import BufferedProcess, captured
from paddock.errors import CommandLost, SandboxLost
from paddock.process import ExecResult
from paddock.testing.fake.faults import Fault
from paddock.testing.fake.jobs import Pipe, empty
from paddock.testing.fake.programs import Context
from paddock.testing.fake.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.process import Command, SignalTarget, Stream
    from paddock.testing.fake.sandbox import FakeSandbox

__all__ = ["FakeProcess"]

WINDOW = 1024 * 1024
"""Bytes of unread output beyond which the command waits."""
IGNORED = frozenset({0, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
"""Signals that do nothing to a program which does not ask for them."""


class FakeProcess(BufferedProcess):
    """All its processes have it as their group."""

    def __init__(self, sandbox: FakeSandbox, command: Command, text: str) -> None:
        super().__init__(streamed=command.streamed)
        self._sandbox = sandbox
        self._faults = sandbox.faults
        self._command = command
        self._text = text
        keep = 10**9 if self._strikes(Fault.LIMIT_IGNORED) else command.keep
        self._captures: dict[Stream, Capture] = {
            "stdout": Capture(keep),
            "stderr": Capture(keep),
        }
        self._unread_bytes = 0
        self._began = asyncio.get_running_loop().time()
        self._stdin = Pipe() if command.stdin else empty()
        self._leader = sandbox.table.add(self, command.argv)
        self._ending: asyncio.Task[None] | None = None

    def _strikes(self, fault: Fault) -> bool:
        return self._faults.strikes(fault, self._text) is not None

    def begin(self) -> None:
        """Let the command run."""
        command, sandbox = self._command, self._sandbox
        swapped = self._strikes(Fault.STREAMS_SWAPPED)
        merged = command.merge_output or self._strikes(Fault.STREAMS_MERGED)
        context = Context(
            tree=sandbox.tree,
            table=sandbox.table,
            job=self._leader,
            env=sandbox.variables(command.env),
            cwd=sandbox.working_dir if self._strikes(Fault.CWD_IGNORED) else command.cwd,
            stdin=empty() if self._strikes(Fault.STDIN_LOST) else self._stdin,
            stdout=_Output(self, "stderr" if swapped else "stdout"),
            stderr=_Output(self, "stdout" if swapped or merged else "stderr"),
        )
        argv = command.argv
        if self._strikes(Fault.ARGV_JOINED):
            argv = argv if argv[:2] == ("sh", "-c") else ("sh", "-c", " ".join(argv))
        sandbox.table.run(self._leader, run(sandbox.script, context, argv))
        self._leader.ended.add_done_callback(self._on_end)

    async def emit(self, stream: Stream, data: bytes) -> None:
        """Take output; wait while it is not read."""
        await asyncio.sleep(0)  # a program that only prints must let others run
        if self._result.done():
            return
        if self._strikes(Fault.STREAM_BROKEN):
            self.fail(SandboxLost("its stream broke", sandbox_id=self._sandbox.id))
            return
        self._captures[stream].feed(data)
        self._unread_bytes += len(data)
        self._buffer(stream, data)
        self._changed.set()
        while self._unread_bytes > WINDOW and not self._result.done():
            self._changed.clear()
            await self._changed.wait()

    def _on_end(self, leader: asyncio.Future[int]) -> None:
        self._stdin.close()
        if self._result.done():
            return
        if (error := leader.exception()) is not None:
            self.fail(error)
        elif self._strikes(Fault.COMMAND_LOST):
            self.fail(CommandLost("its exit code did not arrive"))
        else:
            self._result.set_result(self._ended(leader.result()))
        self._changed.set()

    def _ended(self, code: int) -> ExecResult:
        out = self._captures["stdout"]
        if self._strikes(Fault.OUTPUT_CUT):
            whole = bytes(out.head + out.tail)
            out = Capture(self._command.keep)
            out.feed(whole[:-1])
        return ExecResult(
            exit_code=0 if self._strikes(Fault.EXIT_CODE_LOST) else code,
            out=captured(out),
            err=captured(self._captures["stderr"]),
            duration=asyncio.get_running_loop().time() - self._began,
            background=bool(self._sandbox.table.of(self)),
        )

    def on_end(self, callback: Callable[[FakeProcess], object]) -> None:
        """Call back when there is a result, or when it is known that none will come."""
        self._result.add_done_callback(lambda _: callback(self))

    def fail(self, error: BaseException) -> None:
        """End without a result."""
        if not self._result.done():
            self._result.set_exception(error)
        for job in self._sandbox.table.of(self):
            job.kill(signal.SIGKILL)
        self._stdin.close()
        self._changed.set()

    # the contract

    def _taken(self, size: int) -> None:
        self._unread_bytes -= size
        self._changed.set()

    async def _send(self, data: bytes) -> None:
        await self._stdin.write(data)

    async def send_eof(self) -> None:
        self._stdin.end()

    async def _signal(self, number: int, to: SignalTarget) -> None:
        reached = [self._leader] if to == "command" else self._sandbox.table.of(self)
        for job in reached:
            if number not in IGNORED:
                job.kill(number)

    async def _kill(self, grace: float) -> None:
        if self._strikes(Fault.CANCEL_IGNORED):
            self._on_end_of_nothing()
            return
        number = signal.SIGTERM if grace else signal.SIGKILL
        if self._strikes(Fault.TIMEOUT_LEAVES_CHILD):
            await self._sandbox.table.end([self._leader], number)
        else:
            await self._sandbox.table.end(self._sandbox.table.of(self), number)

    def _on_end_of_nothing(self) -> None:
        if not self._result.done():
            self._result.set_result(self._ended(128 + signal.SIGTERM))
            self._changed.set()


class _Output:
    """One of the streams, as a program has it."""

    def __init__(self, process: FakeProcess, stream: Stream) -> None:
        self._process = process
        self._stream: Stream = stream

    async def write(self, data: bytes) -> None:
        await self._process.emit(self._stream, data)
