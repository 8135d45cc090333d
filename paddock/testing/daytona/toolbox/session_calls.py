"""``/process/session``: the calls that make, feed, read and end sessions."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from aiohttp import web

from paddock.testing.daytona.toolbox.processes import Command, Processes
from paddock.testing.daytona.toolbox.replies import DaemonError, no_content
from paddock.testing.daytona.toolbox.sessions import Session, SessionCommand
from paddock.testing.daytona.toolbox.shells import Surroundings, find_shell
from paddock.testing.daytona.toolbox.sockets import attend

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona.toolbox.routing import Handler

__all__ = ["SessionCalls"]


class SessionCalls:
    """All sessions of one sandbox; `executed` is called for each command that a shell takes."""

    def __init__(
        self, surroundings: Surroundings, processes: Processes, executed: Callable[[], None]
    ) -> None:
        self._surroundings = surroundings
        self._processes = processes
        self._executed = executed
        self._sessions: dict[str, Session] = {}

    def routes(self) -> dict[str, Handler]:
        one = "/process/session/{session}"
        return {
            "POST /process/session": self._create,
            "GET /process/session": self._list,
            f"GET {one}": self._get,
            f"DELETE {one}": self._delete,
            f"POST {one}/exec": self._execute,
            f"GET {one}/command/{{command}}": self._get_command,
            f"GET {one}/command/{{command}}/logs": self._logs,
            f"POST {one}/command/{{command}}/input": self._input,
        }

    async def close(self) -> None:
        """End all sessions."""
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()

    async def _create(self, request: web.Request) -> web.Response:
        identity: str = (await request.json()).get("sessionId", "")
        if not identity:
            raise DaemonError(400, "session ID is required")
        if identity in self._sessions:
            raise DaemonError(409, "session already exists")
        folder = self._surroundings.sessions / uuid.uuid4().hex
        folder.mkdir(parents=True)
        session = self._sessions[identity] = Session(identity, folder, self._processes)
        shell = Command(
            argv=[find_shell()], cwd=self._surroundings.home, env=self._surroundings.variables()
        )
        try:
            await session.start(shell)
        except BaseException:
            self._sessions.pop(identity, None)
            raise
        return web.Response(status=201)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response([_as_json(session) for session in self._sessions.values()])

    async def _get(self, request: web.Request, session: str) -> web.Response:
        return web.json_response(_as_json(self._session(session)))

    async def _delete(self, request: web.Request, session: str) -> web.Response:
        found = self._session(session)
        del self._sessions[session]
        await found.close()
        return no_content()

    async def _execute(self, request: web.Request, session: str) -> web.Response:
        if session not in self._sessions:  # the daemon's own way to say so
            raise DaemonError(500, "session not found", "INTERNAL_SERVER_ERROR")
        found = self._session(session)
        order = await request.json()
        text: str = order.get("command", "")
        if not text:
            raise DaemonError(400, "command cannot be empty")
        runs_on = bool(order.get("runAsync") or order.get("async"))
        echoes = not order.get("suppressInputEcho")
        command = await found.run(text, takes_input=runs_on, echoes=echoes)
        self._executed()
        if runs_on:
            return web.json_response({"cmdId": command.id}, status=202)
        await _end_of(command, found)
        result = {"cmdId": command.id, "exitCode": command.exit_code}
        return web.json_response({**result, **command.journal.as_json()})

    async def _get_command(self, request: web.Request, session: str, command: str) -> web.Response:
        return web.json_response(self._command(session, command).as_json())

    async def _logs(self, request: web.Request, session: str, command: str) -> web.StreamResponse:
        journal = self._command(session, command).journal
        if request.query.get("follow") != "true":
            return web.json_response(journal.as_json())
        socket = web.WebSocketResponse()
        await socket.prepare(request)

        async def replay() -> None:
            async for data in journal.follow():
                await socket.send_bytes(data)

        async def ignore(data: bytes) -> None:
            """Input has a call of its own."""

        await attend(socket, replay(), ignore)
        await socket.close()
        return socket

    async def _input(self, request: web.Request, session: str, command: str) -> web.Response:
        found = self._command(session, command)
        if found.exit_code is None and not self._session(session).alive:
            raise DaemonError(410, "session process has exited", "SESSION_ENDED")
        found.give((await request.json())["data"])
        return no_content()

    def _session(self, identity: str) -> Session:
        if (session := self._sessions.get(identity)) is None:
            raise DaemonError(404, "session not found", "PROCESS_NOT_FOUND")
        return session

    def _command(self, session: str, identity: str) -> SessionCommand:
        if (command := self._session(session).commands.get(identity)) is None:
            raise DaemonError(404, "command not found", "PROCESS_NOT_FOUND")
        return command


async def _end_of(command: SessionCommand, session: Session) -> None:
    """Wait for its exit code: for ever, if the command ended its shell.

    Raises `DaemonError` when the session is deleted meanwhile.
    """
    waiting = [
        asyncio.ensure_future(command.ended.wait()),
        asyncio.ensure_future(session.closed.wait()),
    ]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    if not command.ended.is_set():
        raise DaemonError(400, "session cancelled")


def _as_json(session: Session) -> dict[str, object]:
    return {
        "sessionId": session.id,
        "commands": [command.as_json() for command in session.commands.values()],
    }
