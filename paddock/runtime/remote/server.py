"""The server inside a sandbox: any number of connections, each with one request at a time."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve

from paddock._concurrency import AsyncResource, cancel
from paddock._logs import get_logger
from paddock.errors import ConfigError
from paddock.runtime.remote.connection import Connection
from paddock.runtime.remote.endings import Endings
from paddock.runtime.remote.handler import as_handler
from paddock.runtime.remote.run import Run
from paddock.runtime.remote.settings import ServerSettings
from paddock.runtime.remote.wire import MAX_FRAME_IN, MAX_QUEUE, OURS
from paddock.runtime.remote.workplace import Workplace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.http11 import Request, Response

    from paddock.runtime.remote.messages import CommandExecutionMessage, InvocationMessage
    from paddock.runtime.remote.wire import Peer

__all__ = ["RuntimeServer"]

DEFAULT_PORT = 8080
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_CONNECTIONS = 256
"""Connections at a time: a sandbox has one client, or a few."""
STOP_TIMEOUT = 150.0
"""Seconds for cancelled runs to bring out their artifacts when the server stops."""

_log = get_logger(__name__)
_wire_log = get_logger(f"{__name__}.wire")
_wire_log.setLevel("WARNING")  # websockets logs handshakes, and URLs have the token


class RuntimeServer(AsyncResource):
    """Serves `handler` to clients, as ``async with``.

    `handler` is an object with ``async def run(invocation, sender)``, or such a function. Without a
    `token` one is made; `url` has it. ``token=False`` lets in any client that reaches the port, on
    loopback only. Browsers send an `Origin`, and get in only from `allowed_origins`. `working_dir`
    is where commands run, and `state_dir` where the ends of runs are kept for clients that lost
    their connection.

    `aclose` takes no further request, gives running ones `settings.grace` seconds, cancels the
    others, brings out their artifacts, and closes all connections.
    """

    def __init__(
        self,
        handler: object,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        token: str | Literal[False] | None = None,
        allowed_origins: Sequence[str] = (),
        working_dir: str | None = None,
        state_dir: str | None = None,
        settings: ServerSettings | None = None,
    ) -> None:
        if token is False and host not in LOOPBACK:
            raise ConfigError(f"a server on {host} needs a token: others can reach it")
        if token == "":
            raise ConfigError("token: give a text that is not empty, or False for none")
        self.token = None if token is False else token or secrets.token_urlsafe(32)
        self.settings = settings or ServerSettings()
        self.host = host
        self.port = port
        self.is_stopping = False
        self._run_function = as_handler(handler)
        self._uses_sandbox = bool(getattr(handler, "uses_sandbox", True))
        self._origins = frozenset(allowed_origins)
        self._workplace = Workplace(os.path.abspath(working_dir or os.getcwd()))
        self._endings = Endings(state_dir, kept=self.settings.terminal_kept)
        self._runs: dict[str, Run] = {}
        self._waits: dict[str, asyncio.Task[None]] = {}
        self._connections: set[Connection] = set()
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Listen; `port` is then the real one. Raise `OSError` if the port is not available."""
        self._server = await serve(
            self._serve,
            self.host,
            self.port,
            process_request=self._admit,
            process_response=_say_ours,
            max_size=MAX_FRAME_IN,
            max_queue=MAX_QUEUE,
            compression=None,
            logger=_wire_log,
            server_header=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    @property
    def url(self) -> str:
        """Where clients on this machine connect, with the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        base = f"ws://{host}:{self.port}"
        return base if self.token is None else f"{base}/?token={self.token}"

    async def close(self) -> None:
        """The same as `aclose`."""
        await self.aclose()

    # ---------------------------------------------------------------------- access

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the refusal of a connection, before it is upgraded."""
        origins = request.headers.get_all("Origin")
        if any(origin not in self._origins for origin in origins):
            return connection.respond(HTTPStatus.FORBIDDEN, "this Origin is not allowed\n")
        if self.token is not None and not self._is_known(request):
            return connection.respond(
                HTTPStatus.UNAUTHORIZED,
                "give the token: Authorization: Bearer TOKEN, or ?token=TOKEN in the URL\n",
            )
        if len(self._connections) >= MAX_CONNECTIONS or self.is_stopping:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no more connections\n")
        return None

    def _is_known(self, request: Request) -> bool:
        given = parse_qs(urlsplit(request.path).query).get("token", [])
        for header in request.headers.get_all("Authorization"):
            scheme, _, value = header.partition(" ")
            if scheme.lower() == "bearer":
                given.append(value.strip())
        wanted = (self.token or "").encode()
        found = [hmac.compare_digest(each.encode(errors="replace"), wanted) for each in given]
        return any(found)

    async def _serve(self, socket: ServerConnection) -> None:
        connection = Connection(self, socket)
        self._connections.add(connection)
        try:
            left = await connection.serve()
        finally:
            self._connections.discard(connection)
        if left is not None and left.follower is connection:
            await self._leave(left)

    # ------------------------------------------------------------------------------ runs

    def begin(self, request: InvocationMessage | CommandExecutionMessage, peer: Peer) -> Run:
        """Start a run."""
        run_id = str(uuid.uuid4()) if request.paddock is None else request.paddock.run_id
        run = Run(
            request,
            peer,
            run_id,
            handler=self._run_function,
            uses_sandbox=self._uses_sandbox,
            workplace=self._workplace,
            settings=self.settings,
            save=self._endings.save_text,
            keep=self._endings.save,
        )
        self._runs[run_id] = run
        run.start()
        self._waits[run_id] = asyncio.create_task(self._until_forgotten(run))
        return run

    async def _until_forgotten(self, run: Run) -> None:
        """Keep a run until it has ended, and its client has had time to come back for the end."""
        await run.wait()
        if run.frames.peer.negotiated:
            await asyncio.sleep(self.settings.resume_grace)
        self._runs.pop(run.id, None)
        self._waits.pop(run.id, None)

    def find(self, run_id: str) -> Run | None:
        """Return a run that is known still."""
        return self._runs.get(run_id)

    async def find_ending(self, run_id: str) -> tuple[int, str] | None:
        """Return the last frame of a run that has ended, also of an earlier server's."""
        if not self._endings.has(run_id):
            return None
        return await asyncio.to_thread(self._endings.load, run_id)

    async def _leave(self, run: Run) -> None:
        """Take note that the client of `run` is gone; give one that negotiated time to return."""
        run.detach()
        departures = run.departures
        if run.frames.peer.negotiated:
            waiting = asyncio.create_task(run.wait())
            await asyncio.wait([waiting], timeout=self.settings.resume_grace)
            await cancel(waiting)
        if run.follower is None and run.departures == departures:
            run.cancel("client_lost")

    # --------------------------------------------------------------------------- the end

    async def _close(self) -> None:
        self.is_stopping = True
        if self._server is not None:
            self._server.close(close_connections=False)
        await self._end_runs()
        stops = [each.close(1001, "the server stops") for each in self._connections]
        await asyncio.gather(*stops, return_exceptions=True)  # each waits for its client
        if self._server is not None:
            await self._server.wait_closed()
        if self._waits:
            await cancel(*self._waits.values())
        await self._workplace.aclose()
        await asyncio.to_thread(self._endings.close)

    async def _end_runs(self) -> None:
        active = list(self._runs.values())
        if not active:
            return
        waits = [asyncio.create_task(run.wait()) for run in active]
        await asyncio.wait(waits, timeout=self.settings.grace)
        for run in active:
            run.cancel("stopping", bring_out=True)
        await asyncio.wait(waits, timeout=STOP_TIMEOUT)
        await cancel(*waits)


def _say_ours(_: ServerConnection, __: Request, response: Response) -> Response:
    response.headers[OURS] = "1"
    return response
