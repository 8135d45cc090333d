"""``/process/interpreter``: Python code in contexts that keep their names from run to run.

Each context is one Python process of the sandbox. A run that takes too long is interrupted; a
process that ignores that is killed, and its names are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.toolbox import worker
from paddock.testing.daytona.toolbox.pipes import Inlet, Outlet
from paddock.testing.daytona.toolbox.processes import Command, Processes
from paddock.testing.daytona.toolbox.replies import DaemonError, check_variables, wire_time
from paddock.testing.daytona.toolbox.shells import SEARCH_PATH, Surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.testing.daytona.toolbox.processes import Running
    from paddock.testing.daytona.toolbox.routing import Handler

__all__ = ["Interpreter"]

LONGEST = 600
"""Seconds of a run that says nothing else."""
LATE = 4008
"""Closes the socket of a run that took too long."""
LEAVING = 3.0
"""Seconds for interrupted code to end."""
INTERRUPTS = 2
"""Before it is killed: the first may come before slow code has begun, and then has no effect."""
DEFAULT = "default"


@dataclass(kw_only=True, eq=False)
class _Context:
    """One process, started by its first run."""

    id: str
    cwd: Path
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    open: contextlib.AsyncExitStack | None = None
    running: Running | None = None
    inlet: Inlet | None = None
    outlet: Outlet | None = None
    rest: bytes = b""

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "language": "python",
            "cwd": str(self.cwd),
            "active": True,
            "createdAt": wire_time(self.created_at),
        }

    async def lines(self) -> AsyncIterator[dict[str, str]]:
        """What the run that is under way tells, to its end; also if the process dies."""
        assert self.outlet is not None, "nothing runs"
        while True:
            line, found, self.rest = self.rest.partition(b"\n")
            if found:
                message = json.loads(line)
                if message["type"] == "control":
                    return
                yield message
                continue
            self.rest = line
            if not (data := await self.outlet.read()):
                return
            self.rest += data


class Interpreter:
    """All contexts of one sandbox."""

    def __init__(self, surroundings: Surroundings, processes: Processes) -> None:
        self._surroundings = surroundings
        self._processes = processes
        self._contexts: dict[str, _Context] = {}

    def routes(self) -> dict[str, Handler]:
        one = "/process/interpreter/context"
        return {
            f"POST {one}": self._create,
            f"GET {one}": self._list,
            f"DELETE {one}/{{context}}": self._delete,
            "GET /process/interpreter/execute": self._execute,
        }

    async def close(self) -> None:
        """End all contexts."""
        while self._contexts:
            _, context = self._contexts.popitem()
            await self._end(context)

    async def _create(self, request: web.Request) -> web.Response:
        order = await request.json()
        if (language := order.get("language") or "python") != "python":
            raise DaemonError(400, f"unsupported language: {language}")
        context = self._context(uuid.uuid4().hex, self._surroundings.resolve(order.get("cwd")))
        return web.json_response(context.as_json())

    async def _list(self, request: web.Request) -> web.Response:
        found = [each.as_json() for each in self._contexts.values() if each.id != DEFAULT]
        return web.json_response({"contexts": found})

    async def _delete(self, request: web.Request, context: str) -> web.Response:
        if context == DEFAULT:
            raise DaemonError(400, "the default context cannot be deleted")
        await self._end(self._found(context, forget=True))
        return web.json_response({"message": "Context deleted successfully"})

    async def _execute(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        order = await socket.receive_json()
        try:
            check_variables(order.get("envs") or {})
            context = self._found(order.get("contextId") or DEFAULT)
        except DaemonError as error:
            await socket.close(code=1008, message=error.message.encode())
            return socket
        async with context.turn:
            await self._start(context)
            try:
                seconds = order.get("timeout", LONGEST) or None
                async with asyncio.timeout(seconds):
                    await self._run(context, order, socket)
            except ConnectionError:  # the client has left
                await self._interrupt(context)
                return socket
            except TimeoutError:
                await self._interrupt(context)
                await socket.close(code=LATE, message=b"execution timeout")
                return socket
        await socket.close()
        return socket

    async def _run(
        self, context: _Context, order: dict[str, Any], socket: web.WebSocketResponse
    ) -> None:
        assert context.inlet is not None, "nothing runs"
        told = {"code": order["code"], "envs": order.get("envs") or {}}
        await context.inlet.write((json.dumps(told) + "\n").encode())
        async for message in context.lines():
            await socket.send_json(message)

    async def _interrupt(self, context: _Context) -> None:
        """End what a context runs; its names stay unless it has to be killed."""
        for _ in range(INTERRUPTS):
            if context.running is not None and not context.running.ended.done():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(context.running.pid, signal.SIGINT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVING):
                    async for _message in context.lines():
                        pass
                return
        await self._end(context)

    async def _start(self, context: _Context) -> None:
        """See that the process of a context runs."""
        if context.running is not None and not context.running.ended.done():
            return
        await self._end(context)
        python = shutil.which("python3", path=SEARCH_PATH) or "python3"
        command = Command(
            argv=[python, "-I", worker.__file__],
            cwd=context.cwd,
            env=self._surroundings.variables(),
        )
        async with contextlib.AsyncExitStack() as stack:
            stdin, feed = os.pipe()
            output, stdout = os.pipe()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                context.inlet = await stack.enter_async_context(Inlet(feed))
                context.outlet = await stack.enter_async_context(Outlet(output))
                context.running = await self._processes.spawn(
                    command, stdin=stdin, stdout=stdout, stderr=nowhere
                )
            finally:
                for descriptor in (stdin, stdout, nowhere):
                    os.close(descriptor)
            context.open = stack.pop_all()

    async def _end(self, context: _Context) -> None:
        if context.running is not None:
            self._processes.kill(context.running, tree=True)
        context.running, context.rest = None, b""
        if context.open is not None:
            await context.open.aclose()
            context.open = None

    def _context(self, identity: str, cwd: Path) -> _Context:
        context = self._contexts[identity] = _Context(id=identity, cwd=cwd)
        return context

    def _found(self, identity: str, *, forget: bool = False) -> _Context:
        if identity == DEFAULT and identity not in self._contexts:
            return self._context(DEFAULT, self._surroundings.home)
        if (context := self._contexts.get(identity)) is None:
            raise DaemonError(404, f"context not found: {identity}")
        if forget:
            del self._contexts[identity]
        return context
