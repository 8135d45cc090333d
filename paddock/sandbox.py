"""The contract: what a sandbox is, whichever backend made it.

Policy is written here once (deadlines, output limits, path rules, transfers); a
backend supplies the primitives, the methods whose names start with an underscore.
This module does not know how any backend does its part, nor what an agent is.
"""

from __future__ import annotations

import asyncio
import enum
import posixpath
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Self

from paddock._concurrency import finish
from paddock.errors import ExecFailed, ExecTimeout, SandboxClosed, SandboxLost, Unsupported

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from paddock.files import FileSystem
    from paddock.image import Image
    from paddock.network import NetworkDecision

__all__ = [
    "DEFAULT_MAX_OUTPUT",
    "Capability",
    "Command",
    "ExecResult",
    "Output",
    "OutputCallback",
    "Process",
    "Resources",
    "Sandbox",
    "Stats",
    "Stream",
]

DEFAULT_MAX_OUTPUT = 1024 * 1024
"""Bytes kept of each of stdout and stderr unless `max_output` says otherwise."""

KILL_GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL when a tree of processes is ended: long
enough for a tool to remove its lock file, short enough not to be felt."""

Stream = Literal["stdout", "stderr"]
OutputCallback = Callable[[Stream, bytes], Awaitable[None] | None]
"""Called with each piece of output as it comes; a slow callback slows the command."""


class Capability(enum.StrEnum):
    """What not every backend can do. Asking for one that is missing raises `Unsupported`."""

    URL = "url"
    SNAPSHOT = "snapshot"
    FORK = "fork"
    PAUSE = "pause"
    USER = "user"
    TREE_KILL = "tree_kill"
    """Children that left their session die with their command."""
    ISOLATION = "isolation"
    """The sandbox sees none of the host's files, processes and sockets."""
    NETWORK_NONE = "network_none"
    NETWORK_ALLOWLIST = "network_allowlist"
    STATS = "stats"
    LIMIT_PIDS = "limit_pids"
    LIMIT_MEMORY = "limit_memory"
    LIMIT_CPU = "limit_cpu"
    LIMIT_DISK = "limit_disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Upper bounds for one sandbox; None leaves the backend's default.

    `cpu` in cores, `memory` and `disk` in bytes, `pids` in processes and threads.
    """

    cpu: float | None = None
    memory: int | None = None
    pids: int | None = None
    disk: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """`cpu` in seconds used so far, `memory` and its limit in bytes, `pids` in tasks.

    A limit that there is not is None.
    """

    cpu: float
    memory: int
    memory_limit: int | None
    pids: int


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

    def __repr__(self) -> str:
        return (
            f"ExecResult(exit_code={self.exit_code}, stdout={self.stdout!r}, "
            f"stderr={self.stderr!r}, duration={self.duration:.3f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with everything settled: what a backend is asked to start.

    `keep` bytes of each stream are kept by whoever collects the output; with
    `streamed` every byte is wanted on the host, else only what is kept.
    """

    argv: tuple[str, ...]
    cwd: PurePosixPath
    env: Mapping[str, str]
    user: str | None = None
    stdin: bool = False
    streamed: bool = True
    keep: int = DEFAULT_MAX_OUTPUT


class Process(ABC):
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

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write to stdin; waits until the command takes it. `BrokenPipeError` when it won't."""

    @abstractmethod
    async def send_eof(self) -> None:
        """Close stdin."""

    @abstractmethod
    async def signal(self, number: int) -> None:
        """Send signal `number` to the command's leading process; a no-op once it has ended."""

    @abstractmethod
    async def kill(self, *, grace: float = KILL_GRACE) -> None:
        """End the whole tree: SIGTERM, `grace` seconds, SIGKILL; returns when none is left.

        Children that called setsid or double-forked are included (where the backend
        has `Capability.TREE_KILL`). Idempotent.
        """

    @abstractmethod
    async def wait(self) -> ExecResult:
        """The result, once the leading process has ended; what `output()` did not take is kept
        in it up to the command's limit."""

    async def aclose(self) -> None:
        await finish(self.kill())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class Sandbox(ABC):
    """One live sandbox.

    Use it as ``async with``, or call `aclose()` yourself. All methods may be called
    by many tasks at once. A sandbox that died raises `SandboxLost` from every
    method; one that was closed raises `SandboxClosed`.
    """

    id: str
    backend: str
    working_dir: PurePosixPath
    labels: Mapping[str, str]
    capabilities: frozenset[Capability]
    env: Mapping[str, str]
    fs: FileSystem

    _closing: asyncio.Task[None] | None = None

    async def exec(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | PurePosixPath | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | str | None = None,
        user: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline kills the process tree too
        max_output: int = DEFAULT_MAX_OUTPUT,
        on_output: OutputCallback | None = None,
        check: bool = False,
    ) -> ExecResult:
        """Run a command to its end.

        A string runs under ``sh -c``; a sequence is an argv and never meets a shell.
        `cwd` is taken from `working_dir`; `env` is added to the sandbox's own; `stdin`
        is empty unless given. `timeout` is in seconds; `max_output` in bytes for each
        stream, beyond which head and tail are kept. `on_output` sees every byte.

        A non-zero exit is a result unless `check`, then it is `ExecFailed`. A child
        that stays behind with stdout open does not keep the call. A timeout
        (`ExecTimeout`, with the output so far) or a cancellation returns only when
        the command's whole tree is dead.
        """
        request = self._command(
            command,
            cwd=cwd,
            env=env,
            user=user,
            stdin=stdin is not None,
            streamed=on_output is not None,
            keep=max_output,
        )
        process = await self._start(request)
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                result = await _run(process, stdin, on_output)
        except TimeoutError as error:
            if timeout is None or time.monotonic() - started < timeout:
                await process.aclose()
                raise
            await process.aclose()
            raise ExecTimeout(command, await process.wait(), timeout=timeout) from error
        except BaseException:
            await process.aclose()
            raise
        if check and not result.ok:
            raise ExecFailed(command, result)
        return result

    async def start(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | PurePosixPath | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        max_output: int = DEFAULT_MAX_OUTPUT,
    ) -> Process:
        """Start a command and return at once; its stdin is open. See `exec` for the arguments.

        ``async with await sandbox.start([...]) as process:`` ends the tree on the way out.
        """
        return await self._start(
            self._command(
                command, cwd=cwd, env=env, user=user, stdin=True, streamed=True, keep=max_output
            )
        )

    async def snapshot(self, name: str) -> Image:
        """Keep the sandbox's files as an image called `name`, for recipes to begin with.

        Processes and what lies in memory (tmpfs) are not kept. The sandbox stands still
        for as long as it takes, and goes on.
        """
        raise Unsupported("snapshot()", backend=self.backend)

    async def fork(self, count: int = 1) -> list[Sandbox]:
        """Make `count` sandboxes with this one's files, environment and labels; see `snapshot`.

        They are the caller's to close, this one is not touched. All are made, or none.
        """
        raise Unsupported("fork()", backend=self.backend)

    async def pause(self) -> None:
        """Stop all processes where they are; calls wait until `resume`."""
        raise Unsupported("pause()", backend=self.backend)

    async def resume(self) -> None:
        """Let a paused sandbox go on."""
        raise Unsupported("resume()", backend=self.backend)

    async def detach(self) -> None:
        """Let the sandbox go on without us, for `Backend.attach` to find it by its id.

        What runs in it runs on; this object is closed.
        """
        raise Unsupported("detach()", backend=self.backend)

    async def stats(self) -> Stats:
        """What the sandbox uses now."""
        raise Unsupported("stats()", backend=self.backend)

    async def url(self, port: int) -> str:
        """Where TCP `port` of the sandbox can be reached: ``http://127.0.0.1:NNNNN``.

        HTTP, WebSocket and anything else over TCP; the port need not be declared, and the
        sandbox needs no network. The same port has the same address until the sandbox
        closes, which closes all its connections. A server that does not listen yet is no
        error here: until it does, connections are reset. Any program of this machine can
        use the address. `Unsupported` without `Capability.URL`.
        """
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no TCP port")
        if self.closed:
            raise SandboxClosed(f"sandbox {self.id} is closed")
        return await self._url(port)

    @property
    def network_log(self) -> Sequence[NetworkDecision]:
        """What an allow list let through and what not, oldest first; the last 1,000 of it."""
        return ()

    async def aclose(self) -> None:
        """Take the sandbox down: its processes die, and what was made for it is removed.

        Idempotent; callers at the same time wait for the one that closes. Runs to
        its end even if the caller is cancelled.
        """
        await self._end_with(self._close)

    async def _end_with(self, ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End this object, once, by the first `ending` that is asked for."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(ending())
        await finish(_wait_for(self._closing))

    @property
    def closed(self) -> bool:
        return self._closing is not None

    @property
    def lost(self) -> bool:
        """Whether it is known to be gone, without asking: False may only mean that nothing has
        told so yet."""
        return self.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    def path(self, path: str | PurePosixPath) -> PurePosixPath:
        """`path` made absolute from `working_dir`; ``..`` is resolved by name."""
        return PurePosixPath(posixpath.normpath(self.working_dir / path))

    def _command(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | PurePosixPath | None,
        env: Mapping[str, str] | None,
        user: str | None,
        stdin: bool,
        streamed: bool,
        keep: int,
    ) -> Command:
        if self.closed:
            raise SandboxClosed(f"sandbox {self.id} is closed")
        argv = ("sh", "-c", command) if isinstance(command, str) else tuple(command)
        if not argv:
            raise ValueError("the command is empty")
        if any("\0" in word for word in argv):
            raise ValueError("a command cannot hold a NUL byte")
        return Command(
            argv=argv,
            cwd=self.working_dir if cwd is None else self.path(cwd),
            env={**self.env, **env} if env else self.env,
            user=user,
            stdin=stdin,
            streamed=streamed,
            keep=keep,
        )

    @abstractmethod
    async def _start(self, command: Command) -> Process:
        """Start `command`. If cancelled, nothing of it is left running."""

    async def _url(self, port: int) -> str:
        """For those with `Capability.URL`."""
        raise Unsupported("url()", backend=self.backend)

    @abstractmethod
    async def _close(self) -> None:
        """Take everything down; called once, never cancelled, bounds its own waits."""


async def _run(
    process: Process, stdin: bytes | str | None, on_output: OutputCallback | None
) -> ExecResult:
    feeder = None if stdin is None else asyncio.create_task(_feed(process, stdin))
    try:
        if on_output is not None:
            async for stream, data in process.output():
                waiting = on_output(stream, data)
                if waiting is not None:
                    await waiting
        return await process.wait()
    finally:
        if feeder is not None:
            feeder.cancel()
            await finish(_settled(feeder))


async def _feed(process: Process, stdin: bytes | str) -> None:
    try:
        await process.send(stdin.encode() if isinstance(stdin, str) else stdin)
        await process.send_eof()
    except (BrokenPipeError, SandboxLost):
        pass  # the command ended without reading it all, as `head` does; a loss is told by `wait`


async def _settled(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


async def _wait_for(task: asyncio.Task[None]) -> None:
    await task
