"""The part of a sandbox that runs commands; see `paddock.sandbox`."""

from __future__ import annotations

import posixpath
import time
from abc import abstractmethod
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from paddock._arguments import (
    check_callback,
    check_command,
    check_path,
    check_stdin,
    check_text,
    check_timeout,
    check_user,
    check_variables,
    check_whole,
)
from paddock._capability import Capability
from paddock._concurrency import AsyncResource
from paddock._exec import run_to_end, send_first
from paddock._long_commands import by_stdin
from paddock.errors import ConfigError, ExecFailed, FenceUnavailable, SandboxClosed, Unsupported
from paddock.process import (
    DEFAULT_MAX_OUTPUT,
    Command,
    CommandCallback,
    CommandFinished,
    CommandReport,
    ExecResult,
    Fence,
    OutputCallback,
    Process,
    ProcessInfo,
    Pty,
)
from paddock.redaction import NOTHING_SECRET, Redactor, Secrets
from paddock.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CommandMethods"]


class CommandMethods(AsyncResource):
    """`exec`, `start` and `shell`, over the one primitive `_start`."""

    id: str
    backend: str
    working_dir: PurePosixPath
    capabilities: frozenset[Capability]
    env: Mapping[str, str]
    secrets: Secrets = Secrets()
    """Added to the environment of each command; only the command gets them."""
    redactor: Redactor = NOTHING_SECRET
    """Redacts secrets in reports, errors and events. Results and files keep them."""
    on_command: CommandCallback | None = None
    """Called when a command of `exec` has ended, in the task of its caller; it must not block."""

    unfenced: ClassVar[str] = "commands of this backend cannot be fenced"
    """Why `exec` takes no `fence` here; empty if each command says whether it can be fenced."""
    no_terminals: ClassVar[str] = "it only starts commands with pipes"
    """Why `start` takes no `pty`, for a sandbox without `Capability.PTY`."""

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
        fence: Fence | None = None,
        merge_output: bool = False,
    ) -> ExecResult:
        """Run a command to its end.

        A string runs under ``sh -c``; a sequence is an argv and runs without a shell. A string
        of over 100 KB is sent to the shell on its stdin, before the command's own.

        - `cwd`: relative to `working_dir`, which is the default.
        - `env`: added to the sandbox's variables; takes precedence.
        - `stdin`: empty by default.
        - `user`: ``name``, ``uid``, ``name:group`` or ``uid:gid``; see `Capability.USER`.
        - `timeout`: in seconds; None and infinity set no limit; with 0 nothing is started.
        - `max_output`: bytes to keep of each stream, at most: head and tail of a longer one.
        - `on_output`: called with every byte.
        - `check`: raise `ExecFailed` for a non-zero exit, which is a result otherwise.
        - `fence`: let the kernel keep the command from changing anything. If it cannot, raise
          `FenceUnavailable` without running the command.
        - `merge_output`: put stderr into stdout, in the order in which the command wrote both.

        A child left behind with stdout open does not delay the result. On a timeout
        (`ExecTimeout`, with the output so far) and on cancellation, the call kills the command's
        whole process tree before it returns. Invalid arguments, and a user that the sandbox does
        not have, raise `ConfigError`.
        """
        return await self._exec(
            command,
            cwd=cwd,
            env=env,
            stdin=stdin,
            user=user,
            timeout=timeout,
            max_output=max_output,
            on_output=on_output,
            check=check,
            fence=fence,
            merge_output=merge_output,
        )

    async def _exec(
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
        fence: Fence | None = None,
        merge_output: bool = False,
        started: list[Process] | None = None,
    ) -> ExecResult:
        """`exec`, which also adds the process to `started`, for a caller that ends what is left."""
        if fence is not None and self.unfenced:
            raise FenceUnavailable(self.unfenced)
        given, limit = check_stdin(stdin), check_timeout(timeout)
        check_callback("on_output", on_output)
        argv, program = by_stdin(check_command(command))
        if program:
            given = program + (given or b"")
        request = self._command(
            argv,
            cwd=cwd,
            env=env,
            user=user,
            stdin=given is not None,
            given=given,
            streamed=on_output is not None,
            keep=max_output,
            fence=fence,
            merge_output=merge_output,
        )

        async def start() -> Process:
            process = await self._start(request)
            if started is not None:
                started.append(process)
            return process

        began = time.monotonic()
        try:
            result = await run_to_end(
                start,
                command,
                stdin=given,
                timeout=limit,
                on_output=on_output,
                redactor=self.redactor,
            )
        except BaseException as error:
            self._report(began, command, error=type(error).__name__)
            raise
        self._report(began, command, result=result)
        if check and not result.ok:
            raise ExecFailed(command, result, redactor=self.redactor)
        return result

    async def start(
        self,
        command: str | Sequence[str],
        *,
        cwd: str | PurePosixPath | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        max_output: int = DEFAULT_MAX_OUTPUT,
        merge_output: bool = False,
        pty: Pty | None = None,
        detached: bool = False,
    ) -> Process:
        """Start a command and return at once; its stdin is open. See `exec` for the arguments.

        ``async with await sandbox.start([...]) as process:`` kills the process tree at the end.

        With a `pty` the command has a terminal for all three streams: `output()` yields
        everything as stdout, and `send` types (see `Capability.PTY`).

        A `detached` command continues when its `Process` is closed, or when this program ends
        and the sandbox does not; `join` finds it again (see `Capability.PROCESSES`).
        """
        if detached:
            self._require_processes("detached=True")
        if pty is not None:
            if not isinstance(pty, Pty):
                raise ConfigError(f"pty={pty!r}: give Pty(rows=24, cols=80), or None")
            if Capability.PTY not in self.capabilities:
                raise Unsupported("pty=", backend=self.backend, hint=self.no_terminals)
        argv, program = by_stdin(check_command(command))
        if program and pty is not None:
            raise ConfigError("a command of over 100 KB cannot be typed; give the path of a file")
        request = self._command(
            argv,
            cwd=cwd,
            env=env,
            user=user,
            stdin=True,
            streamed=True,
            keep=max_output,
            merge_output=merge_output,
            pty=pty,
            detached=detached,
        )
        process = await self._start(request)
        if program:
            await send_first(process, program)
        return process

    async def processes(self) -> list[ProcessInfo]:
        """Return the commands that `join` finds, oldest first; at most the 1,000 newest.

        These are all running commands, whichever program started them, and ended ones that were
        detached, or whose program had gone before. Raise `Unsupported` without
        `Capability.PROCESSES`.
        """
        self._require_processes("processes()")
        self.raise_if_closed()
        return await self._list_processes()

    async def join(self, process_id: str, *, max_output: int = DEFAULT_MAX_OUTPUT) -> Process:
        """Join a process by its id, whichever program started it.

        ``async with await sandbox.join(process_id) as process:`` does not affect the process at
        the end of the block; `Process.kill` ends it. Its owner keeps it.

        `output()` begins with what was kept of the earlier output: the first and the last bytes
        of each stream, at most `max_output` and 1 MiB. `Process.missed` counts the bytes between
        them. Every joiner gets all later output, at the speed of the slowest, and may write to
        stdin. An ended process returns its result.

        Raise `ProcessLookupError` for an unknown id, and `OSError` if eight have joined already.
        If the connection to the sandbox breaks, a joined process raises `CommandLost`, and can be
        joined again.
        """
        wanted = check_text("process_id", process_id)
        keep = check_whole("max_output", max_output)
        self._require_processes("join()")
        self.raise_if_closed()
        return await self._join_process(wanted, keep)

    def shell(
        self,
        *,
        cwd: str | PurePosixPath | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Shell:
        """Open a shell session: its commands share a directory and variables.

        ``async with sandbox.shell() as shell: await shell.run("cd project && export A=1")``
        """
        self.raise_if_closed()
        there = self.working_dir if cwd is None else self.path(check_path("cwd", cwd))
        variables, owner = check_variables("env", env), check_user(user)
        return Shell(
            self._exec,
            cwd=str(there),
            env=variables,
            user=owner,
            secrets=self.secrets,
            redactor=self.redactor,
        )

    def raise_if_closed(self) -> None:
        """Raise `SandboxClosed` if the sandbox is closed, as every method does."""
        if self.closed:
            raise SandboxClosed(f"sandbox {self.id} is closed")

    def path(self, path: str | PurePosixPath) -> PurePosixPath:
        """Return `path` made absolute from `working_dir`; ``..`` is resolved by name."""
        found = posixpath.normpath(self.working_dir / check_path("path", path))
        return PurePosixPath(found[1:] if found.startswith("//") else found)

    def _report(
        self,
        began: float,
        command: str | Sequence[str],
        *,
        result: ExecResult | None = None,
        error: str | None = None,
    ) -> None:
        if self.on_command is None:
            return
        finished = CommandFinished(
            backend=self.backend,
            sandbox_id=self.id,
            duration=time.monotonic() - began,
            exit_code=None if result is None else result.exit_code,
            error=error,
        )
        self.on_command(CommandReport(finished=finished, command=command, result=result))

    def _command(
        self,
        argv: tuple[str, ...],
        *,
        cwd: str | PurePosixPath | None,
        env: Mapping[str, str] | None,
        user: str | None,
        stdin: bool,
        streamed: bool,
        keep: int,
        given: bytes | None = None,
        fence: Fence | None = None,
        merge_output: bool = False,
        pty: Pty | None = None,
        detached: bool = False,
    ) -> Command:
        self.raise_if_closed()
        terminal = {} if pty is None else {"TERM": pty.term}
        return Command(
            argv=argv,
            cwd=self.working_dir if cwd is None else self.path(check_path("cwd", cwd)),
            env={**self.env, **terminal, **self.secrets, **check_variables("env", env)},
            user=check_user(user),
            stdin=stdin,
            input=given,
            streamed=streamed,
            keep=check_whole("max_output", keep),
            fence=fence,
            merge_output=merge_output,
            pty=pty,
            detached=detached,
        )

    def _require_processes(self, what: str) -> None:
        if Capability.PROCESSES not in self.capabilities:
            hint = "nothing inside keeps its processes"
            raise Unsupported(what, backend=self.backend, hint=hint)

    async def _list_processes(self) -> list[ProcessInfo]:
        """Implement `processes`, with `Capability.PROCESSES`."""
        raise Unsupported("processes()", backend=self.backend)

    async def _join_process(self, process_id: str, keep: int) -> Process:
        """Implement `join`, with `Capability.PROCESSES`."""
        raise Unsupported("join()", backend=self.backend)

    @abstractmethod
    async def _start(self, command: Command) -> Process:
        """Start `command`. If cancelled, leave nothing of it running."""
