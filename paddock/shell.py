"""A shell session: commands that share a directory and variables, each with its own result.

Each runs by `Sandbox.exec`, with the same promises about exit code, streams, limits and end, so
nothing that it prints can be taken for the result of another. The shell's state goes from one
command to the next in a file inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from typing import TYPE_CHECKING, Protocol

from paddock._arguments import check_text
from paddock._concurrency import AsyncResource
from paddock._shell_scripts import BEGIN, MAIN, RUN_BASH, RUN_SH
from paddock.errors import ExecFailed, SandboxClosed, SandboxError
from paddock.process import DEFAULT_MAX_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from paddock.process import ExecResult, OutputCallback, Process
    from paddock.redaction import Redactor

__all__ = ["Shell"]

CALL_TIMEOUT = 30.0
"""Seconds to create or remove the session's directory, on a machine under load."""
NOWHERE = "/"
"""The first directory of each command, which then changes to the session's: it always exists."""


class Exec(Protocol):
    """`Sandbox.exec`, which also adds the process to `started`."""

    async def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str] | None,
        user: str | None,
        started: list[Process],
        stdin: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline kills the process tree too
        max_output: int = DEFAULT_MAX_OUTPUT,
        on_output: OutputCallback | None = None,
        merge_output: bool = False,
    ) -> ExecResult: ...


class Shell(AsyncResource):
    """A shell session: ``async with sandbox.shell() as shell:``. Its processes end with it.

    Commands run one after the other, in the order of the calls, in bash if the sandbox has it,
    else in its ``sh``.
    """

    def __init__(
        self,
        run: Exec,
        *,
        cwd: str,
        env: Mapping[str, str] | None,
        user: str | None,
        secrets: Iterable[str],
        redactor: Redactor,
    ) -> None:
        self._exec = run
        self._cwd = cwd
        self._env = env
        self._user = user
        self._secrets = tuple(secrets)
        self._redactor = redactor
        self._turn = asyncio.Lock()
        self._started: list[Process] = []
        """The processes that may have left something behind, and the one that runs."""
        self._folder = ""
        self._has_bash = False

    async def run(
        self,
        command: str,
        *,
        stdin: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline kills the process tree too
        max_output: int = DEFAULT_MAX_OUTPUT,
        on_output: OutputCallback | None = None,
        check: bool = False,
        merge_output: bool = False,
    ) -> ExecResult:
        """Run shell text to its end, with the directory and state that earlier commands left.

        The directory, variables, options (such as ``set -e``) and the umask stay for the next
        command, in bash also functions, aliases and traps. Background processes run until the
        session ends. ``exit`` ends only this command.

        The arguments and the result are those of `Sandbox.exec`. A command that exceeds its
        `timeout` is killed with everything that it started, and the session continues.
        """
        check_text("command", command)
        async with self._turn:
            if not self._folder:
                await self._begin()
            self._raise_if_closed()
            known = len(self._started)
            stays = False
            try:
                result = await self._exec(
                    self._argv(command),
                    cwd=NOWHERE,
                    env=self._env,
                    user=self._user,
                    started=self._started,
                    stdin=stdin,
                    timeout=timeout,
                    max_output=max_output,
                    on_output=on_output,
                    merge_output=merge_output,
                )
                stays = result.background
            finally:
                if not stays:
                    del self._started[known:]
        if check and not result.ok:
            raise ExecFailed(command, result, redactor=self._redactor)
        return result

    def _raise_if_closed(self) -> None:
        if self.closed:
            raise SandboxClosed("the shell session is closed")

    async def _begin(self) -> None:
        self._raise_if_closed()
        state = f"_paddock_there={shlex.quote(self._cwd)}"
        result = await self._call(["sh", "-c", BEGIN, "sh", state], self._cwd)
        folder, *bash = result.stdout.splitlines() or [""]
        if not (result.ok and folder.startswith("/")):
            raise SandboxError(f"a shell session needs a temporary directory: {result.stderr}")
        self._folder, self._has_bash = folder, bool(bash)

    def _argv(self, command: str) -> list[str]:
        program, script = ("bash", RUN_BASH) if self._has_bash else ("sh", RUN_SH)
        return [program, "-c", MAIN, program, script, self._folder, command, *self._secrets]

    async def _call(self, argv: Sequence[str], cwd: str) -> ExecResult:
        return await self._exec(
            argv, cwd=cwd, env=self._env, user=self._user, started=[], timeout=CALL_TIMEOUT
        )

    async def _close(self) -> None:
        with contextlib.suppress(SandboxError):  # then all of it is gone
            await asyncio.gather(*(process.kill() for process in self._started))
            if self._folder:
                await self._call(["rm", "-rf", self._folder], NOWHERE)
