"""``/process/execute`` and ``/process/code-run``: one command, one answer.

The daemon's ways, on purpose: the command's text is the standard input of a shell, so that a
program which reads stdin eats the rest; both streams come as one text; a signal is -1; a
time-out kills the process group and nothing that left it; a background child that holds the
output open holds the answer back. TypeScript is run as JavaScript, so it may have no types: there
is no image that has its compiler.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.toolbox.pipes import Inlet, Outlet
from paddock.testing.daytona.toolbox.processes import Command, Processes, Running, SpawnFailed
from paddock.testing.daytona.toolbox.replies import DaemonError, check_variables
from paddock.testing.daytona.toolbox.shells import SEARCH_PATH, Surroundings, find_shell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Execution", "Outcome"]

_INTERPRETERS = {
    "python": ("python3", ".py"),
    "javascript": ("node", ".js"),
    "typescript": ("node", ".js"),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left: its exit code, -1 for a signal, and all its output as one text."""

    exit_code: int
    result: str

    def as_json(self) -> dict[str, Any]:
        return {"exitCode": self.exit_code, "result": self.result}


class Execution:
    """Runs commands of one sandbox; `executed` is called for each that really started."""

    def __init__(
        self, surroundings: Surroundings, processes: Processes, executed: Callable[[], None]
    ) -> None:
        self._surroundings = surroundings
        self._processes = processes
        self._executed = executed

    async def execute(self, request: web.Request) -> web.Response:
        order = await request.json()
        text: str = order.get("command", "")
        if not text.strip():
            raise DaemonError(400, "command is required")
        if (order.get("timeout") or 0) < 0:
            raise DaemonError(400, "timeout must not be negative")
        check_variables(order.get("envs") or {})
        outcome = await self.run(
            [find_shell()],
            cwd=self._surroundings.resolve(order.get("cwd")),
            env=self._surroundings.variables(order.get("envs")),
            stdin=text.encode(),
            seconds=order.get("timeout"),
        )
        return web.json_response(outcome.as_json())

    async def run_code(self, request: web.Request) -> web.Response:
        order = await request.json()
        check_variables(order.get("envs") or {})
        program, suffix = _interpreter(order["language"])
        script = self._surroundings.code / f"{uuid.uuid4().hex}{suffix}"
        await asyncio.to_thread(script.write_text, order["code"])
        try:
            outcome = await self.run(
                [program, str(script), *(order.get("argv") or [])],
                cwd=self._surroundings.home,
                env=self._surroundings.variables(order.get("envs")),
                stdin=b"",
                seconds=order.get("timeout"),
            )
        finally:
            script.unlink(missing_ok=True)
        return web.json_response({**outcome.as_json(), "artifacts": {"charts": []}})

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: dict[str, str],
        stdin: bytes,
        seconds: int | None,
    ) -> Outcome:
        """Run it to its end; with `seconds`, raise `DaemonError` 408 when those are over."""
        command = Command(argv=argv, cwd=cwd, env=env)
        async with contextlib.AsyncExitStack() as stack:
            try:
                running, inlet, outlet = await self._spawn(command, stack)
            except SpawnFailed as error:
                return Outcome(exit_code=-1, result=f"fork/exec {argv[0]}: {error}")
            self._executed()
            try:
                async with asyncio.timeout(seconds or None):
                    feeding = inlet.send(stdin)
                    _, output = await asyncio.gather(feeding, outlet.read_to_end())
                    status = await asyncio.shield(running.ended)
            except TimeoutError:
                self._processes.kill(running)
                message = "request timeout: command execution timeout"
                raise DaemonError(408, message) from None
        # The daemon knows no signal's number: -1 for each.
        return Outcome(exit_code=max(status, -1), result=output.decode(errors="replace"))

    async def _spawn(
        self, command: Command, stack: contextlib.AsyncExitStack
    ) -> tuple[Running, Inlet, Outlet]:
        stdin, feed = os.pipe()
        output, stdout = os.pipe()
        try:
            inlet = await stack.enter_async_context(Inlet(feed))
            outlet = await stack.enter_async_context(Outlet(output))
            running = await self._processes.spawn(
                command, stdin=stdin, stdout=stdout, stderr=stdout
            )
        finally:
            os.close(stdin)
            os.close(stdout)
        return running, inlet, outlet


def _interpreter(language: str) -> tuple[str, str]:
    name, suffix = _INTERPRETERS.get(language, ("", ""))
    program = shutil.which(name, path=SEARCH_PATH) if name else None
    if program is None:
        raise DaemonError(400, f"no interpreter for language: {language}")
    return program, suffix
