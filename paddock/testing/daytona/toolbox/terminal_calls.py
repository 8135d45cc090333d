"""``/process/pty``: the calls that make, join, size and end terminals."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.toolbox.processes import Command, Processes
from paddock.testing.daytona.toolbox.replies import DaemonError, check_variables
from paddock.testing.daytona.toolbox.shells import Surroundings, find_shell
from paddock.testing.daytona.toolbox.sockets import attend
from paddock.testing.daytona.toolbox.terminals import Client, Size, Terminal

if TYPE_CHECKING:
    from paddock.testing.daytona.toolbox.routing import Handler

__all__ = ["TerminalCalls"]

EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"
"""The subprotocol of clients that take the end of the shell as a message."""
VARIABLES = "X-Daytona-Pty-Envs~"
"""What the subprotocol with the variables begins with; the rest is base64url of JSON."""
LARGEST = 1000
"""Columns or rows."""


class TerminalCalls:
    """All terminals of one sandbox. One that has ended is removed."""

    def __init__(self, surroundings: Surroundings, processes: Processes) -> None:
        self._surroundings = surroundings
        self._processes = processes
        self._terminals: dict[str, Terminal] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def routes(self) -> dict[str, Handler]:
        one = "/process/pty/{terminal}"
        return {
            "GET /process/pty/create-connect": self._create_and_join,
            "POST /process/pty": self._create,
            "GET /process/pty": self._list,
            f"GET {one}": self._get,
            f"DELETE {one}": self._kill,
            f"POST {one}/resize": self._resize,
            f"GET {one}/connect": self._join,
        }

    async def close(self) -> None:
        """Kill all terminals."""
        for terminal in list(self._terminals.values()):
            await terminal.close()
        self._terminals.clear()
        await asyncio.gather(*self._closing)

    async def _create_and_join(self, request: web.Request) -> web.StreamResponse:
        order = {**request.query, "envs": _offered_variables(request)}
        terminal = self._new(order)
        client = terminal.attach()
        await self._start(terminal)
        return await _attach(request, terminal, client)

    async def _create(self, request: web.Request) -> web.Response:
        terminal = self._new(await request.json())
        await self._start(terminal)
        return web.json_response({"sessionId": terminal.id}, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        sessions = [terminal.as_json() for terminal in self._terminals.values()]
        return web.json_response({"sessions": sessions})

    async def _get(self, request: web.Request, terminal: str) -> web.Response:
        return web.json_response(self._terminal(terminal).as_json())

    async def _kill(self, request: web.Request, terminal: str) -> web.Response:
        self._terminal(terminal).kill()
        return web.json_response({"message": "PTY session deleted"})

    async def _resize(self, request: web.Request, terminal: str) -> web.Response:
        if terminal not in self._terminals:  # the daemon takes it for one that has ended
            raise DaemonError(410, f"PTY session {terminal!r} has ended", "SESSION_ENDED")
        found = self._terminal(terminal)
        found.resize(_size(await request.json()))
        return web.json_response(found.as_json())

    async def _join(self, request: web.Request, terminal: str) -> web.StreamResponse:
        found = self._terminal(terminal)
        return await _attach(request, found, found.attach())

    def _new(self, order: dict[str, Any]) -> Terminal:
        identity: str = order.get("id") or uuid.uuid4().hex
        if identity in self._terminals:
            raise DaemonError(409, f"PTY session with ID {identity!r} already exists")
        variables = order.get("envs") or {}
        check_variables(variables)
        command = Command(
            argv=[find_shell(), "-i"],
            cwd=self._surroundings.resolve(order.get("cwd")),
            env=self._surroundings.variables({"TERM": "xterm-256color", **variables}),
            terminal=True,
        )
        terminal = Terminal(
            identity, command, _size(order), self._processes, lambda: self._forget(identity)
        )
        self._terminals[identity] = terminal
        return terminal

    async def _start(self, terminal: Terminal) -> None:
        try:
            await terminal.start()
        finally:
            if not terminal.started:
                del self._terminals[terminal.id]

    def _forget(self, identity: str) -> None:
        # From its own task, which closing it ends: so closing is a task of its own.
        task = asyncio.ensure_future(self._terminals.pop(identity).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _terminal(self, identity: str) -> Terminal:
        if (terminal := self._terminals.get(identity)) is None:
            raise DaemonError(404, f"PTY session {identity!r} not found", "PROCESS_NOT_FOUND")
        return terminal


async def _attach(request: web.Request, terminal: Terminal, client: Client) -> web.StreamResponse:
    """Show the client what the shell writes and the shell what the client does."""
    socket = web.WebSocketResponse(protocols=(EXIT_CONTROL,))
    try:
        await socket.prepare(request)
        await socket.send_json({"type": "control", "status": "connected"})
        await attend(socket, _show(socket, client), terminal.write)
    finally:
        terminal.detach(client)
    if terminal.exit is None:
        await socket.close()
        return socket
    told = terminal.exit.as_json()
    if socket.ws_protocol == EXIT_CONTROL:
        await socket.send_json({"type": "control", "status": "exited", **told})
    await socket.close(message=json.dumps(told).encode())
    return socket


async def _show(socket: web.WebSocketResponse, client: Client) -> None:
    while (data := await client.get()) is not None:
        await socket.send_bytes(data)


def _offered_variables(request: web.Request) -> dict[str, str]:
    for offered in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        name = offered.strip()
        if name.startswith(VARIABLES):
            text = name.removeprefix(VARIABLES)
            try:
                decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
                return dict(json.loads(decoded))
            except (ValueError, TypeError):
                raise DaemonError(400, "invalid PTY environment variables") from None
    return {}


def _size(order: dict[str, Any]) -> Size:
    try:
        size = Size(cols=int(order.get("cols") or 80), rows=int(order.get("rows") or 24))
    except ValueError:
        raise DaemonError(400, "cols and rows must be numbers") from None
    if max(size.cols, size.rows) > LARGEST or min(size.cols, size.rows) < 1:
        raise DaemonError(400, f"cols and rows must be from 1 to {LARGEST}")
    return size
