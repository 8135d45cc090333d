"""A command: the request, the running process, and the result.

Part of the contract of `paddock.sandbox`, which exports these names. Independent of sandboxes.
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
    from datetime import datetime
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
    "ProcessInfo",
    "Pty",
    "SignalTarget",
    "Stream",
]

DEFAULT_MAX_OUTPUT = 1024 * 1024
"""Bytes kept of each of stdout and stderr unless `max_output` says otherwise."""

KILL_GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL when a process tree is killed: long enough for a tool to
remove its lock file, short enough not to be noticed."""

TERMINAL_MAX = 2**16 - 1
"""The largest number of rows or columns of a terminal."""

Stream = Literal["stdout", "stderr"]
SignalTarget = Literal["command", "group", "tree"]
"""The processes that `Process.signal` reaches."""
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

    Both may contain secrets; the sandbox's `redactor` removes them.
    """

    finished: CommandFinished
    command: str | Sequence[str]
    result: ExecResult | None


CommandCallback = Callable[[CommandReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The output of a command on one stream: its head and its tail.

    `dropped` counts the bytes between them. They are not lost if `spill` is set: that file in
    the sandbox has the stream from its beginning (all of it, unless `spill_truncated`).
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
        """The output as UTF-8, with invalid bytes replaced and a note where bytes were dropped."""
        if not self.dropped:
            return bytes(self).decode(errors="replace")
        whole = ""
        if self.spill is not None:
            part = "its beginning" if self.spill_truncated else "all of it"
            whole = f"; {part} is in {self.spill}"
        note = f"\n[... {self.dropped} bytes left out{whole} ...]\n"
        return self.head.decode(errors="replace") + note + self.tail.decode(errors="replace")

    def redacted(self, redactor: Redactor) -> Output:
        """Return the output without secrets, and without parts of one where bytes were dropped."""
        if not self.dropped:
            return replace(self, head=redactor.data(bytes(self)), tail=b"")
        return replace(self, head=redactor.head(self.head), tail=redactor.tail(self.tail))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command ended and what it printed.

    `exit_code` is the shell's: 128 + n for a process that signal n ended, 127 for
    a program that was not found, 126 for one that could not be run. `duration` is
    in seconds. `background`: processes that the command started still run. `oom_killed`: the
    kernel killed some of its processes for lack of memory (on backends that can see it).
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
        """Return the result without secrets, to show to others."""
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

    The command may write only to a temporary directory of its own, which TMPDIR names and which
    is removed afterwards. It cannot change modes, owners or times, signal processes that it did
    not start, or open sockets, except TCP and UDP with `network`.
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
    """A checked command, for a backend to start.

    The result keeps `keep` bytes of each stream; with `streamed` the host also gets every byte.
    With `merge_output`, or a terminal, stderr goes where stdout goes. With `stdin` the caller
    will send input; `input` is all of it, if it is known before.
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
    detached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A command that runs in a sandbox, or that ended detached; see `Sandbox.join`.

    `argv` is cut after about 500 characters. `exit_code` is None while it runs; afterwards
    `background` says that processes which it left behind still run.
    """

    id: str
    argv: tuple[str, ...]
    user: str | None = None
    started: datetime
    exit_code: int | None = None
    background: bool = False
    pty: bool = False
    detached: bool = False


class Process(AsyncResource):
    """A command that is running in a sandbox.

    It has one owner, who uses it with ``async with`` or calls `aclose()`; both kill the whole
    process tree if it still runs, unless it was started with ``detached=True`` or joined. One
    task may read its output while another writes its stdin.
    """

    id: str | None = None
    """The id for `Sandbox.join`; None without `Capability.PROCESSES`."""
    missed: int = 0
    """Bytes that were printed before it was joined and that were not kept. In `output()` they
    are missing after the first bytes that were kept."""

    @abstractmethod
    def output(self) -> AsyncIterator[tuple[Stream, bytes]]:
        """Yield pieces of stdout and stderr as they come, until the command has ended.

        A slow reader slows the command down (back-pressure); buffers are bounded. Raises
        `SandboxLost` if the sandbox dies.
        """

    async def send(self, data: bytes) -> None:
        """Write to stdin; wait until the command reads. `BrokenPipeError` if it never will."""
        await self._send(check_bytes("data", data))

    @abstractmethod
    async def send_eof(self) -> None:
        """Close stdin. For a terminal, type its end-of-file character (Ctrl-D) instead: the program
        that reads lines sees the end of its input, and more may be sent to the next one."""

    async def signal(self, number: int, *, to: SignalTarget = "command") -> None:
        """Send signal `number` (1 to 64) to the command; do nothing if it has ended.

        ``"command"`` is the leading process, or the foreground group of a terminal, as for
        Ctrl-C. ``"group"`` is the process group of the leading process. ``"tree"`` is all of the
        command's processes, including those that were left behind.
        """
        target = check_choice("to", to, get_args(SignalTarget))
        await self._signal(check_signal(number), target)

    async def resize(self, rows: int, cols: int) -> None:
        """Change the size of the command's terminal; its foreground group gets SIGWINCH.

        Do nothing if the command has ended. Raise `ConfigError` if it has no terminal.
        """
        await self._resize(*_check_size(rows, cols))

    async def kill(self, *, grace: float = KILL_GRACE) -> None:
        """Kill the whole process tree: SIGTERM, `grace` seconds, SIGKILL; then return.

        A grace of 0 kills at once. Children that called setsid or forked twice are included
        (if the backend has `Capability.TREE_KILL`). Idempotent.
        """
        await finish(self._kill(check_seconds("grace", grace)))

    @abstractmethod
    async def wait(self) -> ExecResult:
        """Wait until the leading process has ended, and return the result.

        It has the output that `output()` has not yielded by then, up to the command's limit.
        Another task may keep reading meanwhile; what the waiting task did not read is dropped.
        """

    async def _close(self) -> None:
        await self.kill()

    @abstractmethod
    async def _send(self, data: bytes) -> None:
        """Implement `send`."""

    @abstractmethod
    async def _signal(self, number: int, to: SignalTarget) -> None:
        """Implement `signal`."""

    async def _resize(self, rows: int, cols: int) -> None:
        """Implement `resize`, for a command with a terminal."""
        raise ConfigError("resize: the command has no terminal; start it with pty=Pty()")

    @abstractmethod
    async def _kill(self, grace: float) -> None:
        """Implement `kill`. It is never cancelled, and must bound its own waits."""
