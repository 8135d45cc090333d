"""What carries commands where a program can be started with pipes: `docker exec`, `ssh`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from paddock._concurrency import acquire, finish, interruptible
from paddock.backends.guest.inside.wire import PIECE
from paddock.backends.posix.command import header
from paddock.backends.posix.control import ControlShell
from paddock.backends.posix.inside import CONTROL, HELLO, LAUNCH, REAP, SAID, WRAPPER
from paddock.backends.posix.process import ShellProcess
from paddock.errors import SandboxError

if TYPE_CHECKING:
    from paddock.backends.guest.link import Link
    from paddock.backends.posix.inside import Inside
    from paddock.process import Command, Stream

__all__ = [
    "CONTROL_SHELL", "EXIT_TIMEOUT", "REAPER", "Open", "PipedControl", "PipedProcess", "Pipes",
    "Reader", "Writer", "call", "opened",
]  # fmt: skip

ARGUMENT_MAX = 128 * 1024 - 1
"""Bytes of one word of a command, as Linux has it."""
EXIT_TIMEOUT = 5.0
"""Seconds until a program is gone that was killed, or whose stdin has ended: both take effect at
once, but the end of what a machine far away printed has to arrive."""
STDERR_MAX = 4096
CALL_TIMEOUT = 60.0
"""Seconds that a program may take which makes or removes what a sandbox has."""
CALL_MAX = 64 * 1024
"""Bytes that are kept of what it prints."""

CONTROL_SHELL = (
    *("sh", "-c"),
    f"trap '' HUP INT PIPE\n{HELLO}cat /proc/$$/environ\n{SAID}{CONTROL}{REAP}",
    "paddock",
)
"""Takes the beginning of its sandbox's keys as its argument."""
REAPER = ("sh", "-c", REAP, "paddock")
"""Does as well."""
WRAPPED = ("sh", "-c", LAUNCH, "paddock", WRAPPER)


class Reader(Protocol):
    async def read(self, n: int = -1, /) -> bytes:
        """Return at most `n` bytes, as soon as there are some; none at the end."""


class Writer(Protocol):
    def write(self, data: bytes, /) -> None:
        """Send `data`, or keep it until it can be sent."""

    async def drain(self) -> None:
        """Wait until little of what was written is unsent. `OSError` if the reader has gone."""

    def write_eof(self) -> None:
        """End the stream after what was written; more than once does no harm."""


class Pipes(Protocol):
    """A program that runs in a sandbox; `asyncio.subprocess.Process` is one, made with pipes."""

    @property
    def stdin(self) -> Writer | None: ...

    @property
    def stdout(self) -> Reader | None: ...

    @property
    def stderr(self) -> Reader | None: ...

    async def wait(self) -> int:
        """Return its exit code, or the negative number of the signal that ended it."""

    def kill(self) -> None:
        """Cut its pipes, and end what carries them on this side. `ProcessLookupError` if it has
        ended."""


Open = Callable[[Sequence[str]], Awaitable[Pipes]]


async def opened(open_pipes: Open, argv: Sequence[str]) -> Pipes:
    """Start a program. If cancelled, it is cut off: it finds the end of its stdin at once."""
    return await acquire(_opened(open_pipes, argv), hang_up)


async def _opened(open_pipes: Open, argv: Sequence[str]) -> Pipes:
    try:
        return await interruptible(open_pipes(argv))
    except OSError as error:
        raise SandboxError(f"no program can be started in the sandbox: {error}") from error


async def hang_up(pipes: Pipes) -> None:
    """End a program's stdin, and wait for it; kill what carries it if it does not end."""
    _writer(pipes).write_eof()
    if not await _ends(pipes):
        with contextlib.suppress(ProcessLookupError):
            pipes.kill()
        await _ends(pipes)


async def _ends(pipes: Pipes) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EXIT_TIMEOUT):
            await pipes.wait()
            return True
    return False


async def call(open_pipes: Open, argv: Sequence[str]) -> bytes:
    """Run a program to its end and return its stdout. Raise `SandboxError` if it fails."""
    pipes = await opened(open_pipes, argv)
    try:
        _writer(pipes).write_eof()
        async with asyncio.timeout(CALL_TIMEOUT):
            stdout, stderr = await interruptible(
                asyncio.gather(_all(pipes.stdout), _all(pipes.stderr))
            )
            code = await interruptible(pipes.wait())
    except TimeoutError:
        raise SandboxError(f"{argv[0]} did not end within {CALL_TIMEOUT:g} s") from None
    finally:
        await finish(hang_up(pipes))
    if code != 0:
        said = stderr.decode(errors="replace").strip()
        raise SandboxError(f"{shlex.join(argv)} failed with exit code {code}: {said}")
    return stdout


async def _all(reader: Reader | None) -> bytes:
    kept = bytearray()
    while data := await _pieces(reader):
        kept += data[: CALL_MAX - len(kept)]
    return bytes(kept)


async def _pieces(reader: Reader | None) -> bytes:
    assert reader is not None, "the program has to be started with pipes for all three streams"
    try:
        return await reader.read(PIECE)
    except OSError:
        return b""


def _writer(pipes: Pipes) -> Writer:
    assert pipes.stdin is not None, "the program has to be started with pipes for all three streams"
    return pipes.stdin


async def _drained(writer: Writer) -> None:
    await writer.drain()


def _ending(code: int) -> str:
    number = -code if code < 0 else code - 128  # as a shell reports that a signal ended something
    return f"signal {number}" if 0 < number < signal.NSIG else f"exit code {code}"


class PipedControl(ControlShell):
    """A control shell at the end of pipes. Its end is the end of the sandbox."""

    def __init__(self, link: Link, pipes: Pipes) -> None:
        super().__init__(link)
        self._pipes = pipes
        self._said = bytearray()

    def _write(self, data: bytes) -> None:
        _writer(self._pipes).write(data)

    def leave(self) -> None:
        """Let it end by itself."""
        _writer(self._pipes).write_eof()

    async def serve(self) -> None:
        """Read its answers until it ends; the sandbox is lost then, if it was not closed."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_answers())
                group.create_task(self._read_stderr())
            code = await self._pipes.wait()
            said = self._said.decode(errors="replace").strip()
            how = f"its control shell ended ({_ending(code)})"
            self.link.fail(f"{how}: {said}" if said else how)
        finally:
            self.link.fail("it was given up")  # unless it has ended already
            self.end()
            await hang_up(self._pipes)

    async def _read_answers(self) -> None:
        while data := await _pieces(self._pipes.stdout):
            self.feed(data)

    async def _read_stderr(self) -> None:
        while data := await _pieces(self._pipes.stderr):
            self._said += data[: STDERR_MAX - len(self._said)]


class PipedProcess(ShellProcess):
    """Made at rest; `begin` starts it."""

    def __init__(
        self, control: ControlShell, inside: Inside, command: Command, *, prefix: str
    ) -> None:
        super().__init__(control, command, prefix=prefix)
        self._inside = inside
        self._pipes: Pipes | None = None
        self._missed = False
        self._room = asyncio.Event()
        self._room.set()
        self.serving: asyncio.Task[None] | None = None
        """Reads what it prints, for as long as a child of the command may print something."""

    async def begin(self, open_pipes: Open) -> None:
        """Start the command. If cancelled, nothing of it is left."""
        try:
            if any(len(os.fsencode(word)) > ARGUMENT_MAX for word in self._command.argv):
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG), self._command.argv[0])
            self._pipes = await opened(open_pipes, WRAPPED)
        except BaseException as error:
            self._fail(SandboxError(f"{self._command.argv[0]!r} was not started: {error}"))
            raise
        # Before this it does not begin, and from here on it has an owner.
        _writer(self._pipes).write(header(self._command, self._inside, self._key))
        if not self._command.stdin:
            _writer(self._pipes).write_eof()
        self.serving = asyncio.create_task(self._serve(self._pipes))

    @property
    def ended(self) -> bool:
        """Whether nothing more can come of it."""
        return not self.busy and (self.serving is None or self.serving.done())

    async def _serve(self, pipes: Pipes) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("stdout", pipes.stdout))
                group.create_task(self._pump("stderr", pipes.stderr))
        finally:
            self._on_end()
            await hang_up(pipes)

    async def _pump(self, stream: Stream, reader: Reader | None) -> None:
        while data := await _pieces(reader):
            self._on_output(stream, data)
            await self._room.wait()

    def _read(self, *, more: bool) -> None:
        if more:
            self._room.set()
        else:
            self._room.clear()

    def _hang_up(self) -> None:
        """Children may print more, which is read and dropped."""
        self._room.set()
        if self._pipes is not None and self._command.stdin:
            _writer(self._pipes).write_eof()

    def on_look(self, pids: Collection[int]) -> None:
        """These processes are there. A wrapper that is not, twice in a row, was killed: a child
        that holds its streams open hides its end."""
        begun = self.begun.result() if self.begun.done() else None
        missing = not self._result.done() and begun is not None and begun[0] not in pids
        if missing and self._missed:
            self._on_end()
        self._missed = missing

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._result.done() or self._pipes is None:
                raise BrokenPipeError("the command does not read its stdin")
            writer = _writer(self._pipes)
            writer.write(bytes(view[:PIECE]))
            view = view[PIECE:]
            drained = asyncio.create_task(_drained(writer))
            waiting: set[asyncio.Future[Any]] = {drained, self._result}
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if drained.done():
                    drained.result()
            except OSError as error:
                raise BrokenPipeError("the command does not read its stdin") from error
            finally:
                drained.cancel()

    async def send_eof(self) -> None:
        if not self._result.done() and self._pipes is not None:
            _writer(self._pipes).write_eof()
