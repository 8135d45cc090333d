"""A Daytona on loopback, for tests: control plane, events, toolboxes and previews.

The unmodified SDK talks to it over real HTTP, WebSocket and Socket.IO. Every request and
every answer is checked against the SDK's own generated models.

**Commands run on this machine, as the user that runs the server, without any isolation.**
Files of a sandbox are in a temporary folder; its paths are mapped there by the toolbox.
Networks, resources and volumes are returned as asked for, and not enforced. A paused sandbox
answers nothing, but its processes run on.

Calls that are answered 501: secrets (nothing here puts their values into requests), logs and
traces of sandboxes (no collector keeps any), ancestors and forks, backups, runners, and what
belongs to organisations, users and keys (there is one of each). In the toolbox: language servers,
the desktop, the entrypoint's session, see `toolbox.service`.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

from paddock._concurrency import finish
from paddock.testing.daytona.access import Access, signature_holds
from paddock.testing.daytona.calls import Call
from paddock.testing.daytona.catalog import Catalog, Snapshot
from paddock.testing.daytona.clock import Clock
from paddock.testing.daytona.control import Control, Limits
from paddock.testing.daytona.envelope import ApiError
from paddock.testing.daytona.events import Events
from paddock.testing.daytona.extras import Extras
from paddock.testing.daytona.faults import Faults
from paddock.testing.daytona.fleet import Fleet
from paddock.testing.daytona.gate import EFFECTS, Gate
from paddock.testing.daytona.leftovers import remove_leftovers
from paddock.testing.daytona.pools import Pools
from paddock.testing.daytona.relay import relay
from paddock.testing.daytona.schema import Schema, UnknownFields, Violation
from paddock.testing.daytona.settings import Settings
from paddock.testing.daytona.storage import Storage
from paddock.testing.daytona.telemetry import Telemetry
from paddock.testing.daytona.throttling import Throttler, Throttles
from paddock.testing.daytona.toolbox import Toolbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from paddock.testing.daytona.calls import Handler, Routes
    from paddock.testing.daytona.gate import Request
    from paddock.testing.daytona.sandbox import Sandbox, ToolboxType
    from paddock.testing.daytona.schema import Operation

__all__ = ["DaytonaServer"]

_BODY = 1 << 40  # bytes, more than any test sends; zero would mean none at all for forms
_SWEEP = 1.0  # seconds between two looks at what has fallen due; intervals are minutes
_GOODBYE = 2.0  # seconds for answers under way when the server ends; nothing runs by then
_SNAPSHOT = "daytonaio/sandbox:latest"  # what a sandbox is made of when nothing is said
_REQUIRED = ("X-Daytona-Source", "X-Daytona-SDK-Version")


class DaytonaServer:
    """A server for as long as the `async with` lasts; afterwards nothing of it is left.

    Every change of state passes through the real intermediate states, each of `delay`
    seconds (`delays` for single ones, by name). `limits` are the organisation's quotas;
    `sandbox_class` "container" refuses what the service refuses for containers: fork, pause
    and resume. `throttlers` limit how often it is asked; lists are read from an index that is
    `index_lag` seconds behind; `regions` are those there are, the account's own first. `toolbox`
    makes what runs inside a sandbox.
    """

    def __init__(
        self,
        *,
        delay: float = 0.01,
        delays: Mapping[str, float] = MappingProxyType({}),
        limits: Limits | None = None,
        sandbox_class: str = "linux-vm",
        throttlers: Sequence[Throttler] = (),
        regions: Sequence[str] = ("us", "eu"),
        index_lag: float = 0.0,
        toolbox: ToolboxType = Toolbox,
    ) -> None:
        self.api_key = secrets.token_hex(16)
        self.faults = Faults()
        self.clock = Clock()
        self._port = 0
        self._moved = 0
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self._root = Path(tempfile.gettempdir()) / f"paddock-daytona-{secrets.token_hex(8)}"
        self._events = Events(self.api_key)
        self._storage = Storage(lambda: f"{self.url}/_s3")
        self._fleet = Fleet(
            folder=self._root,
            clock=self.clock,
            events=self._events,
            delay=delay,
            index_lag=index_lag,
            url=lambda: self._toolbox_url,
        )
        self._fleet.delays.update(delays)
        self._catalog = Catalog(
            Snapshot(name=_SNAPSHOT, image=_SNAPSHOT, created_at=self.clock.now(), general=True)
        )
        self._gate = Gate(
            faults=self.faults,
            session=self._client,
            url=lambda: self.url,
            sandbox=self._sandbox_of,
            move_proxy=self._move_proxy,
            throttles=Throttles.of(throttlers, self.clock.seconds),
        )
        self._settings = Settings(self._fleet)
        self._telemetry = Telemetry(fleet=self._fleet, snapshot=_SNAPSHOT, url=lambda: self.url)
        self._pools = Pools(regions=tuple(regions), catalog=self._catalog, clock=self.clock)
        self._access = Access(fleet=self._fleet, clock=self.clock, url=lambda: self.url)
        self._control = Control(
            fleet=self._fleet,
            catalog=self._catalog,
            clock=self.clock,
            limits=limits or Limits(),
            toolbox=toolbox,
            sandbox_class=sandbox_class,
            pools=self._pools,
            api_url=lambda: self.api_url,
            toolbox_url=lambda: self._toolbox_url,
        )
        self._extras = Extras(
            catalog=self._catalog,
            clock=self.clock,
            storage=self._storage,
            fleet=self._fleet,
            api_url=lambda: self.api_url,
            delay=delay,
        )

    @property
    def url(self) -> str:
        """Where everything is under."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def api_url(self) -> str:
        """What the SDK calls `api_url`."""
        return f"{self.url}/api"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order of arrival; a copy."""
        return list(self._gate.requests)

    @property
    def violations(self) -> list[str]:
        """What the SDK's models do not describe, and defects of the server; keep it empty."""
        return self._gate.violations

    @property
    def sandboxes(self) -> Mapping[str, Sandbox]:
        """Those that are not destroyed, by id."""
        return MappingProxyType(self._fleet.sandboxes)

    @property
    def objects(self) -> Mapping[str, bytes]:
        """Build contexts that were uploaded, by key."""
        return MappingProxyType(self._storage.objects)

    def count(self, method: str, path: str) -> int:
        """How many requests there were; `path` is a regular expression for all of a path.

        It is the path of the SDK's clients, such as `/sandbox/.*/start` or
        `/process/execute`, or a whole one.
        """
        pattern = re.compile(path)
        return sum(
            each.method == method
            and bool(pattern.fullmatch(each.route) or pattern.fullmatch(each.path))
            for each in self._gate.requests
        )

    def environment(self) -> dict[str, str]:
        """The variables that lead the SDK here."""
        return {
            "DAYTONA_API_KEY": self.api_key,
            "DAYTONA_API_URL": self.api_url,
            "DAYTONA_TARGET": "us",
        }

    def release(self) -> None:
        """Let the sandboxes continue that a fault keeps stuck."""
        self._fleet.release()

    async def settled(self) -> None:
        """Wait until no sandbox is on its way, but those that a fault keeps stuck."""
        await self._fleet.settled()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, remove_leftovers, time.time())
            await asyncio.to_thread(self._root.mkdir, mode=0o700)
            stack.push_async_callback(asyncio.to_thread, shutil.rmtree, self._root)
            self._session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),  # cookies are the client's
                    timeout=aiohttp.ClientTimeout(total=None),
                )
            )
            runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_GOODBYE)
            stack.push_async_callback(runner.cleanup)
            stack.push_async_callback(self._gate.aclose)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._port = runner.addresses[0][1]
            await stack.enter_async_context(self._events)
            stack.push_async_callback(self._extras.aclose)
            stack.push_async_callback(self._fleet.aclose)
            sweeper = asyncio.create_task(self._sweep())
            stack.push_async_callback(asyncio.wait, [sweeper])
            stack.callback(sweeper.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._gate.closing.set()
        await finish(self._stack.aclose())

    @property
    def served(self) -> frozenset[str]:
        """The names of the control plane's operations that are served here."""
        return frozenset(Schema.control().operation(*route).name for route in self._routes())

    def _routes(self) -> Routes:
        parts = (
            self._control,
            self._settings,
            self._access,
            self._extras,
            self._pools,
            self._telemetry,
        )
        return {route: handler for part in parts for route, handler in part.routes.items()}

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._gate.middleware], client_max_size=_BODY)
        schema = Schema.control()
        rows = [(schema.operation(*route), handler) for route, handler in self._routes().items()]
        for row, handler in sorted(rows, key=lambda each: -each[0].literals):
            app.router.add_route(row.method, f"/api{row.path}", self._called(row, handler))
        self._events.attach(app, "/api/socket.io")
        app.router.add_route("*", r"/{proxy:toolbox(-\d+)?}/{id}{path:/.*}", self._toolbox)
        app.router.add_route("*", "/preview/{who}/{port}{path:(?:/.*)?}", self._preview)
        bucket = self._storage.bucket
        app.router.add_route("*", f"/_s3/{bucket}/{{key:.+}}", self._storage.handle)
        return app

    def _called(
        self, row: Operation, handler: Handler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler of the control plane, between the checks of what goes in and out."""
        status = min(int(each) for each in row.responses if int(each) < 300)

        async def called(request: web.Request) -> web.StreamResponse:
            self._authorise(request)
            schema, body = Schema.control(), await _json(request)
            try:
                schema.check_request(row.method, row.path, set(request.query), body)
            except UnknownFields as error:  # which the service ignores, and we remember
                self._gate.violations.append(str(error))
            call = Call(request=request, body=body, effects=request[EFFECTS])
            answer = await handler(call)
            if isinstance(answer, web.StreamResponse):
                return answer
            schema.check_response(row.method, row.path, status, answer)
            if answer is None:
                return web.Response(status=status)
            return web.json_response(answer, status=status)

        return called

    async def _toolbox(self, request: web.Request) -> web.StreamResponse:
        if f"{self.url}/{request.match_info['proxy']}" != self._toolbox_url:
            raise ApiError(404, "Not Found")
        sandbox = self._fleet.sandboxes.get(request.match_info["id"])
        path = request.match_info["path"]
        if sandbox is None or "signature" not in request.query:
            self._authorise(request)
        elif not signature_holds(sandbox, request.method, request.query):
            raise ApiError(403, "Invalid or expired signature")
        if sandbox is None:
            raise ApiError(404, f"Sandbox with ID {request.match_info['id']} not found")
        if sandbox.state != "started":
            raise ApiError(
                400,
                "failed to resolve container IP after 3 attempts: no IP address found. "
                "Is the Sandbox started?",
            )
        self._fleet.touch(sandbox)
        return await sandbox.toolbox.handle(request, path)

    async def _preview(self, request: web.Request) -> web.StreamResponse:
        port = request.match_info["port"]
        token = request.headers.get("x-daytona-preview-token") or request.query.get(
            "DAYTONA_SANDBOX_AUTH_KEY"
        )
        if not port.isdigit() or not self._access.admits(
            request.match_info["who"], int(port), token
        ):
            raise ApiError(401, "unauthorized")
        rest = request.rel_url.raw_path.split("/", 4)[4:]  # as sent: escapes are the app's
        url = f"http://127.0.0.1:{port}/{''.join(rest)}"
        if request.rel_url.raw_query_string:
            url = f"{url}?{request.rel_url.raw_query_string}"
        try:
            return await relay(self._client(), request, url)
        except aiohttp.ClientConnectionError as error:
            raise ApiError(502, f"no answer from port {port}") from error

    def _authorise(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {self.api_key}".encode()):
            raise ApiError(401, "Invalid credentials")
        for name in _REQUIRED:
            if name not in request.headers:
                raise ApiError(401, f"The header {name} is missing")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the server has not been entered")
        return self._session

    @property
    def _toolbox_url(self) -> str:
        return f"{self.url}/toolbox-{self._moved}" if self._moved else f"{self.url}/toolbox"

    def _move_proxy(self) -> None:
        self._moved += 1

    def _sandbox_of(self, path: str) -> str | None:
        found = re.match(r"^/(?:api/sandbox|toolbox|preview)/([^/]+)", path)
        if found is None:
            return None
        try:
            return self._fleet.find(found[1]).id
        except ApiError:
            return None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self._fleet.sweep()


async def _json(request: web.Request) -> Any:
    content = await request.read()
    if not content:
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        raise Violation(f"{request.method} {request.path}: not JSON: {error}") from error
