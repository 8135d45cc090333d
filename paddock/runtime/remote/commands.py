"""Commands of a request: each with its whole tree of processes, its output shown as it comes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, SandboxError
from paddock.runtime.remote.failures import RequestFailed
from paddock.runtime.remote.frames import CommandOutput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from paddock.process import ExecResult
    from paddock.redaction import Redactor
    from paddock.runtime.remote.frames import RunFrames
    from paddock.runtime.remote.messages import CommandInterface
    from paddock.runtime.remote.workplace import Workplace

__all__ = ["CommandRunner"]


class CommandRunner:
    """Runs commands for one run. `drained` waits while the client does not read."""

    def __init__(
        self, workplace: Workplace, frames: RunFrames, drained: Callable[[], Awaitable[None]]
    ) -> None:
        self._workplace = workplace
        self._frames = frames
        self._drained = drained

    async def run(self, commands: Sequence[CommandInterface]) -> list[dict[str, Any]]:
        """Run them until one fails; return an item for each that ran, without secrets in output.

        If cancelled, no process of the current one is left. Raises `RequestFailed` where a
        command could not be run at all.
        """
        results: list[dict[str, Any]] = []
        for command in commands:
            results.append(await self._run_one(command))
            if results[-1]["exit_code"]:
                break
        return results

    async def run_all(self, commands: Sequence[CommandInterface] | None, *, when: str) -> None:
        """Run those around an agent. Raise `RequestFailed` when one fails."""
        results = await self.run(commands or ())
        if results and (code := results[-1]["exit_code"]):
            raise RequestFailed(f"{when} command failed with exit code: {code}")

    async def _run_one(self, command: CommandInterface) -> dict[str, Any]:
        shown = CommandOutput(self._frames, command.command)

        async def take(stream: str, data: bytes) -> None:
            shown.feed(stream, data)
            await self._drained()

        try:
            sandbox = await self._workplace.sandbox()
            cwd = await self._folder(command.cwd)
            result = await sandbox.exec(command.command, cwd=cwd, env=command.env, on_output=take)
        except (ConfigError, SandboxError) as error:
            raise RequestFailed(f"the command could not be run: {error}") from error
        finally:
            shown.close()
        return _item(command.command, result, self._frames.redactor)

    async def _folder(self, given: str | None) -> str | None:
        """Make the directory that a command runs in, if it is missing."""
        if given is None:
            return None
        path = os.path.join(self._workplace.working_dir, given)
        try:
            await asyncio.to_thread(os.makedirs, path, exist_ok=True)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            details = {"errno": error.errno} if isinstance(error, OSError) else {}
            raise RequestFailed(f"cwd {given}: {why}", {"error_details": details}) from None
        return path


def _item(command: str, result: ExecResult, redactor: Redactor) -> dict[str, Any]:
    shown = result.redacted(redactor)
    item: dict[str, Any] = {
        "command": command,
        "exit_code": result.exit_code,
        "stdout": shown.stdout,
        "stderr": shown.stderr,
    }
    for stream, output in (("stdout", result.out), ("stderr", result.err)):
        if output.dropped:
            item[f"{stream}_truncated"] = True
            item[f"{stream}_bytes"] = output.total
            item[f"{stream}_file"] = None if output.spill is None else str(output.spill)
    return item
