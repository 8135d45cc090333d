"""A command: what is asked for, how it is held while it runs, and what came of it.

Part of the contract of `paddock.sandbox`, which gives these names out. It knows no
sandbox.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from paddock._arguments import (
    check_bytes,
    check_choice,
    check_seconds,
    check_signal,
    check_text,
    check_whole,
)
from paddock._concurrency import AsyncResource, finish
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import PurePosixPath

    from paddock.redaction import Redactor

__all__ = [
    "DEFAULT_MAX_OUTPUT",
    "KILL_GRACE",
    "Command",
    "CommandCallback",
    "CommandFinished",
    "ExecResult",
    "Fence",
    "Output",
    "OutputCallback",
    "Process",
    "Pty",
    "SignalTarget",
    "Stream",
]

DEFAULT_MAX_OUTPUT = 1024 * 1024
"""Bytes kept of each of stdout and stderr unless `max_output` says otherwise."""

KILL_GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL when a tree of processes is ended: long
enough for a tool to remove its lock file, short enough not to be felt."""

TERMINAL_MAX = 2**16 - 1
"""Most rows or columns that a terminal has."""

Stream = Literal["stdout", "stderr"]
SignalTarget = Literal["command", "group", "tree"]
"""Whom `Process.signal` reaches."""
OutputCallback = Callable[[Stream, bytes], Awaitable[None] | None]
"""Called with each piece of output as it comes; a slow callback slows the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFinished:
    """A command that `Sandbox.exec` ran has ended. `duration` is in seconds.

    Without a result `exit_code` is None and `error` is the name of the exception's class, such
    as ``ExecTimeout`` or ``CancelledError``.
    """

    backend: str
    sandbox_id: str
    duration: float
    exit_code: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReport:
    """What `Sandbox.on_command` gets: `finished`, and the command with its result, if it has one.

    Both may hold secrets; the sandbox's `redactor` takes them out.
    """

    finished: CommandFinished
    command: str | Sequence[str]
    result: ExecResult | None


CommandCallback = Callable[[CommandReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one stream of a command printed: its head, its tail, what was left out.

    `dropped` counts the bytes between head and tail. They are not lost when `spill`
    is set: the file of that name inside the sandbox holds the stream from its
    beginning (whole, unless `spill_truncated`).
    """

    head: bytes = b""
    tail: bytes = b""
    dropped: int = 0
    spill: PurePosixPath | None = None
    spill_truncated: bool = False

    @property
    def total(self) -> int:
        """Bytes that the command printed."""
        return len(self.head) + self.dropped + len(self.tail)

    def __bytes__(self) -> bytes:
        return self.head + self.tail

    @property
    def text(self) -> str:
        """The output as UTF-8, invalid bytes replaced, a note where bytes were dropped."""
        if not self.dropped:
            return bytes(self).decode(errors="replace")
        whole = ""
        if self.spill is not None:
            part = "its beginning" if self.spill_truncated else "all of it"
            whole = f"; {part} is in {self.spill}"
        note = f"\n[... {self.dropped} bytes left out{whole} ...]\n"
        return self.head.decode(errors="replace") + note + self.tail.decode(errors="replace")

    def redacted(self, redactor: Redactor) -> Output:
        """The output without secrets, nor parts of one where bytes were dropped."""
        if not self.dropped:
            return replace(self, head=redactor.data(bytes(self)), tail=b"")
        return replace(self, head=redactor.head(self.head), tail=redactor.tail(self.tail))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command ended and what it printed.

    `exit_code` is the shell's: 128 + n for a process that signal n ended, 127 for
    a program that was not found, 126 for one that could not be run. `duration` is
    in seconds. `background` tells that processes the command started still run,
    `oom_killed` that the kernel ended some of it for lack of memory (where that can be told).
    """

    exit_code: int
    out: Output = field(default_factory=Output)
    err: Output = field(default_factory=Output)
    duration: float = 0.0
    background: bool = False
    oom_killed: bool = False

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def stdout(self) -> str:
        return self.out.text

    @property
    def stderr(self) -> str:
        return self.err.text

    @property
    def stdout_bytes(self) -> bytes:
        return bytes(self.out)

    @property
    def stderr_bytes(self) -> bytes:
        return bytes(self.err)

    @property
    def truncated(self) -> bool:
        return bool(self.out.dropped or self.err.dropped)

    def redacted(self, redactor: Redactor) -> ExecResult:
        """The result to show to others: without secrets, each stream by itself."""
        out, err = self.out.redacted(redactor), self.err.redacted(redactor)
        return replace(self, out=out, err=err)

    def __repr__(self) -> str:
        return (
            f"ExecResult(exit_code={self.exit_code}, stdout={self.stdout!r}, "
            f"stderr={self.stderr!r}, duration={self.duration:.3f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Limits for one command, enforced by the sandbox's kernel: it reads, and changes nothing.

    The command may write to a temporary directory of its own only, which TMPDIR names and
    which is removed afterwards. It can neither change modes, owners and times, nor signal
    processes that it has not started, nor open sockets, except TCP and UDP with `network`.
    """

    network: bool = False


@dataclass(frozen=True, slots=True)
class Pty:
    """A terminal for a command: its size, and the value of ``TERM``."""

    rows: int = 24
    cols: int = 80
    term: str = "xterm-256color"

    def __post_init__(self) -> None:
        _check_size(self.rows, self.cols)
        if not check_text("term", self.term):
            raise ConfigError("term: give the name of a kind of terminal, such as 'xterm'")


def _check_size(rows: object, cols: object) -> tuple[int, int]:
    return (
        check_whole("rows", rows, least=1, most=TERMINAL_MAX),
        check_whole("cols", cols, least=1, most=TERMINAL_MAX),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with everything settled: what a backend is asked to start.

    `keep` bytes of each stream are kept by the collector of the output; with
    `streamed` every byte is wanted on the host, else only what is kept. With `merge_output`, or
    a terminal, stderr goes where stdout goes. With `stdin` somebody sends what it reads; `input`
    is all of that, where it is known before.
    """

    argv: tuple[str, ...]
    cwd: PurePosixPath
    env: Mapping[str, str]
    user: str | None = None
    stdin: bool = False
    input: bytes | None = field(default=None, repr=False)
    streamed: bool = True
    keep: int = DEFAULT_MAX_OUTPUT
    fence: Fence | None = None
    merge_output: bool = False
    pty: Pty | None = None


class Process(AsyncResource):
    """A command that is running in a sandbox.

    Has one owner, who uses it as ``async with`` or calls `aclose()`; both end the
    whole process tree if it still runs. Reading its output and writing its stdin
    may be done by two tasks.
    """

    @abstractmethod
    def output(self) -> AsyncIterator[tuple[Stream, bytes]]:
        """Yield pieces of stdout and stderr as they come, until the command has ended.

        Not reading slows the command down (back-pressure); it never grows a buffer
        without bound. Raises `SandboxLost` if the sandbox dies.
        """

    async def send(self, data: bytes) -> None:
        """Write to stdin; waits until the command takes it. `BrokenPipeError` when it won't."""
        await self._send(check_bytes("data", data))

    @abstractmethod
    async def send_eof(self) -> None:
        """Close stdin. Into a terminal, type its end-of-file character (Ctrl-D) instead: what
        reads lines finds the end of its input there, and more may be sent to what reads next."""

    async def signal(self, number: int, *, to: SignalTarget = "command") -> None:
        """Send signal `number` (1 to 64) to the command; a no-op for what has ended.

        ``"command"`` is its leading process; with a terminal it is the foreground group, as for
        Ctrl-C. ``"group"`` is the process group of the leading process, ``"tree"`` all of its
        processes, those that it has left behind included.
        """
        target = check_choice("to", to, get_args(SignalTarget))
        await self._signal(check_signal(number), target)

    async def resize(self, rows: int, cols: int) -> None:
        """Change the size of the command's terminal; its foreground group gets SIGWINCH.

        A no-op once the command has ended. `ConfigError` for one that has no terminal.
        """
        await self._resize(*_check_size(rows, cols))

    async def kill(self, *, grace: float = KILL_GRACE) -> None:
        """End the whole tree: SIGTERM, `grace` seconds, SIGKILL; returns when none is left.

        A grace of 0 kills at once. Children that called setsid or double-forked are included
        (where the backend has `Capability.TREE_KILL`). Idempotent.
        """
        await finish(self._kill(check_seconds("grace", grace)))

    @abstractmethod
    async def wait(self) -> ExecResult:
        """The result, once the leading process has ended.

        What `output()` has not given by then is kept in it up to the command's limit. A task
        that reads keeps reading meanwhile; what the waiting task has not read is dropped.
        """

    async def _close(self) -> None:
        await self.kill()

    @abstractmethod
    async def _send(self, data: bytes) -> None:
        """For `send`."""

    @abstractmethod
    async def _signal(self, number: int, to: SignalTarget) -> None:
        """For `signal`."""

    async def _resize(self, rows: int, cols: int) -> None:
        """For `resize`, of a command with a terminal."""
        raise ConfigError("resize: the command has no terminal; start it with pty=Pty()")

    @abstractmethod
    async def _kill(self, grace: float) -> None:
        """For `kill`; never cancelled, bounds its own waits."""
