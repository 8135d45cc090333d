"""A sandbox's toolbox daemon: what answers below ``/toolbox/{sandboxId}``.

It is no sandbox: commands run on this machine, as this user, with no isolation whatsoever, and
absolute paths are this machine's. For tests that trust what they run, on Linux.

Not served, and answered 501: ``/lsp`` (it needs the language servers of the default image, which
this machine has none of), ``/computeruse`` (it needs that image's desktop), ``/init`` and the
session of the entrypoint (there is no image whose entrypoint ran).

Does not know keys, a sandbox's state or faults: the server that mounts it checks those first.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock._concurrency import finish
from paddock.testing.daytona.schema import Schema
from paddock.testing.daytona.toolbox.execution import Execution
from paddock.testing.daytona.toolbox.files import Files
from paddock.testing.daytona.toolbox.git import Git
from paddock.testing.daytona.toolbox.interpreter import Interpreter
from paddock.testing.daytona.toolbox.processes import Processes, SpawnFailed
from paddock.testing.daytona.toolbox.replies import DaemonError, check_variables
from paddock.testing.daytona.toolbox.routing import Routes
from paddock.testing.daytona.toolbox.searching import Searching
from paddock.testing.daytona.toolbox.session_calls import SessionCalls
from paddock.testing.daytona.toolbox.shells import Surroundings
from paddock.testing.daytona.toolbox.system import System
from paddock.testing.daytona.toolbox.terminal_calls import TerminalCalls
from paddock.testing.daytona.toolbox.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Toolbox"]

LENIENT = {"/files/folder": ("mode",)}
"""What the SDK always says, and the daemon does without."""


class Toolbox:
    """The daemon of one sandbox, whose files are below `root`.

    `env` is in the environment of every command; `image` is remembered and does nothing.
    May be started again after `stop`.
    """

    def __init__(self, root: Path, *, env: Mapping[str, str], image: str) -> None:
        self.image = image
        self.executions = 0
        """Commands that really started, or were handed to the shell of a session."""
        self._active_at = time.monotonic()
        self._surroundings = Surroundings(root.resolve(), env)
        self._processes = Processes()
        self._serving = False
        self._calls: set[asyncio.Task[web.StreamResponse]] = set()
        self._sessions = SessionCalls(self._surroundings, self._processes, self._count)
        self._terminals = TerminalCalls(self._surroundings, self._processes)
        self._interpreter = Interpreter(self._surroundings, self._processes)
        self._system = System(self._surroundings, self._processes)
        self._routes = self._mount()

    @property
    def active_at(self) -> float:
        """The `time.monotonic` of the last call."""
        return self._active_at

    async def start(self) -> None:
        """Make the folders and start the process that will be the parent of all commands."""
        await asyncio.to_thread(self._surroundings.make_folders)
        await self._processes.start()
        self._serving = True

    async def stop(self) -> None:
        """Kill every process of the sandbox, daemons included; its files stay.

        Calls that are still open, or come now, lose their connection. Finishes although it is
        cancelled. Raises `TimeoutError` when something does not die in `processes.ENDING` seconds.
        """
        await finish(self._stop())

    async def remove(self) -> None:
        """`stop`, and delete the files."""
        await finish(self._remove())

    async def handle(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer a call; `path` is what follows the sandbox's id, such as ``/process/execute``.

        The work continues when the client hangs up, as the daemon's does. Raises `Violation`
        for a request or an answer that the SDK's own models do not describe.
        """
        if not self._serving:
            return _hang_up(request)
        self._active_at = time.monotonic()
        task = asyncio.ensure_future(self._answer(request, path))
        self._calls.add(task)
        task.add_done_callback(self._called)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise  # the client hung up
            return _hang_up(request)

    async def measure(self) -> dict[str, Any]:
        """What the sandbox uses now, as ``/system/metrics`` tells it."""
        return await self._system.measure()

    def _mount(self) -> Routes:
        execution = Execution(self._surroundings, self._processes, self._count)
        return Routes(
            {
                "POST /process/execute": execution.execute,
                "POST /process/code-run": execution.run_code,
                "GET /work-dir": self._folder,
                "GET /user-home-dir": self._folder,
                "POST /env": self._change_env,
                **Transfers(self._surroundings).routes(),
                **Files(self._surroundings).routes(),
                **Searching(self._surroundings).routes(),
                **Git(self._surroundings, execution).routes(),
                **self._sessions.routes(),
                **self._terminals.routes(),
                **self._interpreter.routes(),
                **self._system.routes(),
            }
        )

    async def _answer(self, request: web.Request, path: str) -> web.StreamResponse:
        await _check_request(request, path)
        try:
            handler, fields = self._routes.find(request.method, path)
            answer = await handler(request, **fields)
        except DaemonError as error:
            answer = error.answer(request)
        except SpawnFailed as error:
            answer = DaemonError(400, f"failed to start: {error}").answer(request)
        finally:
            self._active_at = time.monotonic()
        _check_answer(request, path, answer)
        return answer

    async def _folder(self, request: web.Request) -> web.Response:
        return web.json_response({"dir": str(self._surroundings.home)})

    async def _change_env(self, request: web.Request) -> web.Response:
        order = await request.json()
        values = order.get("set") or {}
        check_variables(values)
        self._surroundings.change_env(
            values, unset=order.get("unset") or (), prefix=order.get("unsetValuePrefix")
        )
        return web.json_response({"message": "environment updated"})

    async def _stop(self) -> None:
        self._serving = False
        # Calls first: an open one must lose its connection, not report processes we killed.
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._sessions.close()
        await self._terminals.close()
        await self._interpreter.close()
        await self._processes.stop()

    async def _remove(self) -> None:
        await self._stop()
        await asyncio.to_thread(_delete_tree, self._surroundings.root)

    def _count(self) -> None:
        self.executions += 1

    def _called(self, call: asyncio.Task[web.StreamResponse]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # seen by `handle`, unless its client hung up before


async def _check_request(request: web.Request, path: str) -> None:
    form = request.content_type.startswith("multipart/")
    body = None if form else await request.text()
    order = json.loads(body) if body else None
    query = {*request.query, *LENIENT.get(path, ())}
    Schema.toolbox().check_request(request.method, path, query, order)


def _check_answer(request: web.Request, path: str, answer: web.StreamResponse) -> None:
    text = answer.text if isinstance(answer, web.Response) else None
    told = json.loads(text) if text else None
    Schema.toolbox().check_response(request.method, path, answer.status, told)


def _delete_tree(root: Path) -> None:
    for folder, folders, _ in os.walk(root):
        for name in folders:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)  # of what may not be written nothing can be deleted
    if root.exists():
        shutil.rmtree(root)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
