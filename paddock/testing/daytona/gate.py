"""What every request passes on its way in: it is recorded, meets its faults, is checked.

Knows nothing of what is behind it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from paddock.testing.daytona.envelope import ApiError, error_response
from paddock.testing.daytona.faults import (
    CutWebSocket,
    Delay,
    DropAfter,
    DropBefore,
    ExpiredKey,
    GiveUp,
    MoveProxy,
    Quota,
    Status,
    Truncate,
)
from paddock.testing.daytona.relay import abort, relay
from paddock.testing.daytona.schema import Schema, Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    import aiohttp

    from paddock.testing.daytona.faults import FaultKind, Faults
    from paddock.testing.daytona.throttling import Throttles

__all__ = ["EFFECTS", "Gate", "Request"]

EFFECTS = web.RequestKey("EFFECTS", tuple)  # the faults that a request met
_RELAYED = "X-Paddock-Relayed"
_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that arrived; `status` is None until answered, or when it never was.

    `path` is the whole path, with `/toolbox` for the toolbox wherever it has moved.
    """

    method: str
    path: str
    sandbox: str | None
    status: int | None = None

    @property
    def route(self) -> str:
        """The path as the SDK's clients name it: without `/api`, or without `/toolbox/{id}`."""
        return re.sub(r"^(/api|/toolbox/[^/]+)(?=/)", "", self.path)


class Gate:
    """The middleware of the server, and what it has seen."""

    def __init__(
        self,
        *,
        faults: Faults,
        session: Callable[[], aiohttp.ClientSession],
        url: Callable[[], str],
        sandbox: Callable[[str], str | None],
        move_proxy: Callable[[], None],
        throttles: Throttles,
    ) -> None:
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.closing = asyncio.Event()
        self._faults = faults
        self._session = session
        self._url = url
        self._sandbox = sandbox
        self._move_proxy = move_proxy
        self._throttles = throttles
        self._secret = secrets.token_hex(16)
        self._limited: set[asyncio.Task[web.StreamResponse]] = set()

    async def aclose(self) -> None:
        """Wait for the requests that were given up; what they wait for has ended by then."""
        if self._limited:
            await asyncio.wait(self._limited)

    @property
    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """For `web.Application`."""

        @web.middleware
        async def pass_gate(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            if request.headers.get(_RELAYED) == self._secret:
                request[EFFECTS] = ()
                return await self._serve(request, handler)
            return await self._admit(request, handler)

        return pass_gate

    async def _admit(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        path = re.sub(r"^/toolbox-\d+(?=/)", "/toolbox", request.path)
        number = len(self.requests)
        self.requests.append(Request(method=request.method, path=path, sandbox=self._sandbox(path)))
        kinds = request[EFFECTS] = self._faults.meeting(request.method, path)
        refused, limits = self._throttles.count(request.method, path)
        response = await self._before(request, kinds)
        if response is None and refused:
            response = error_response(request, 429, "ThrottlerException: Too Many Requests")
        if response is None:
            response = await self._spoiled(request, kinds)
        if response is None:
            ends = [kind for kind in kinds if isinstance(kind, GiveUp)]
            serving = self._serve(request, handler)
            response = await (self._until(ends[0], request, serving) if ends else serving)
        if not response.prepared:
            response.headers.update(limits)
        if any(isinstance(kind, DropAfter) for kind in kinds):
            abort(request)
        if not _gone(request):
            answered = dataclasses.replace(self.requests[number], status=response.status)
            self.requests[number] = answered
        return response

    async def _before(
        self, request: web.Request, kinds: tuple[FaultKind, ...]
    ) -> web.StreamResponse | None:
        """Faults that come before anything is executed; an answer if they give one."""
        for kind in kinds:
            match kind:
                case Delay():
                    await self._pause(kind.seconds)
                case MoveProxy():
                    self._move_proxy()
                case Status():
                    return _answer(request, kind)
                case Quota():
                    return error_response(
                        request, 400, "Total CPU limit exceeded. Maximum allowed: 10."
                    )
                case ExpiredKey():
                    return error_response(request, 401, "Invalid credentials")
                case DropBefore():
                    abort(request)
                    return web.Response()
                case _:
                    pass  # it comes later
        return None

    async def _spoiled(
        self, request: web.Request, kinds: tuple[FaultKind, ...]
    ) -> web.StreamResponse | None:
        """Serve through a connection to ourselves, of which the answer is cut."""
        headers = {_RELAYED: self._secret}
        url = f"{self._url()}{request.raw_path}"
        for kind in kinds:
            if isinstance(kind, Truncate):
                return await relay(
                    self._session(), request, url, headers=headers, budget=kind.bytes
                )
            if isinstance(kind, CutWebSocket):
                return await relay(
                    self._session(),
                    request,
                    url,
                    headers=headers,
                    budget=kind.bytes,
                    code=kind.code,
                )
        return None

    async def _until(
        self,
        limit: GiveUp,
        request: web.Request,
        serving: Coroutine[None, None, web.StreamResponse],
    ) -> web.StreamResponse:
        """What `serving` answers, unless that takes longer than the `limit`."""
        task = asyncio.create_task(serving)
        self._limited.add(task)
        task.add_done_callback(self._limited.discard)
        done, _ = await asyncio.wait([task], timeout=limit.seconds)
        if done:
            return task.result()
        if limit.status is None:
            abort(request)
            return web.Response()
        return _answer(request, Status(status=limit.status, body="html"))

    async def _serve(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return error_response(request, error.status, error.message, code=error.code)
        except Violation as error:
            self.violations.append(str(error))
            return error_response(request, 500, f"Violation: {error}")
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return _nothing_there(request)
        except web.HTTPException as error:
            return error_response(request, error.status, error.reason)
        except Exception as error:  # a defect of the server itself: a test has to see it
            if isinstance(error, ConnectionError) and _gone(request):
                return web.Response()  # the client has left
            self.violations.append(f"{request.method} {request.path}: {error!r}")
            return error_response(request, 500, f"Internal server error: {error!r}")

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for longer than the server is there."""
        waiter = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            waiter.cancel()


def _gone(request: web.Request) -> bool:
    """Whether the client has closed the connection, or we have."""
    return request.transport is None or request.transport.is_closing()


def _nothing_there(request: web.Request) -> web.Response:
    """404 as the service has it; 501 for what the service knows and this server does not."""
    try:
        row = Schema.control().operation(request.method, request.path.removeprefix("/api"))
    except Violation:
        return error_response(request, 404, f"Cannot {request.method} {request.path}")
    return error_response(request, 501, f"{row.method} {row.path} is not served here")


def _answer(request: web.Request, kind: Status) -> web.Response:
    if kind.body == "json":
        return error_response(request, kind.status, kind.message, headers=kind.headers)
    if kind.body == "empty":
        return web.Response(status=kind.status, headers=kind.headers)
    text = _PAGE.format(f"{kind.status} {kind.message}")
    return web.Response(
        status=kind.status, headers=kind.headers, text=text, content_type="text/html"
    )
