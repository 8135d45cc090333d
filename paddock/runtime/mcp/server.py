"""A `Toolbox` as a server of the official SDK."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError

from paddock._concurrency import cancel, finish
from paddock._logs import get_logger
from paddock.runtime.core.pausing import PausableTimeout
from paddock.runtime.mcp.asking import (
    STATE_LIFETIME,
    Refused,
    Tickets,
    answer_in,
    asker,
    can_be_asked,
    input_required,
    is_stateless,
    require_approval,
)
from paddock.runtime.mcp.parking import AskingCall, ParkedCalls
from paddock.runtime.mcp.progress import reporting
from paddock.runtime.mcp.results import as_result, failure
from paddock.runtime.mcp.toolbox import ToolRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import TypeAlias

    from mcp.server.context import ServerRequestContext

    from paddock.runtime.mcp.toolbox import Ask, Report, ServedTool, Toolbox

    Context: TypeAlias = ServerRequestContext[Any, Any]
    Answer: TypeAlias = types.CallToolResult | types.InputRequiredResult

__all__ = ["make_server"]

MAX_CALLS = 32
"""Calls that run at once, of all clients of one server; others wait. Models make fewer."""

GONE = (
    "Not known: the question of this call was not answered in time, or was answered before. The "
    "call was ended; it may have had a part of its effect."
)

_log = get_logger(__name__)


def make_server(toolbox: Toolbox, *, call_timeout: float | None = None) -> Server[Any]:
    """Return a server of the tools of `toolbox`, for both eras of the protocol.

    A call that takes longer than `call_timeout` seconds is cancelled, and is an error. Raises
    `ValueError` for an invalid limit.
    """
    _check_timeout(call_timeout)
    served = _Served(toolbox, call_timeout)
    server: Server[Any] = Server(
        toolbox.name,
        version=_version(),
        instructions=toolbox.instructions,
        on_list_tools=served.list_tools,
        on_call_tool=served.call_tool,
        get_tool_input_schema=served.parameters_of,
        lifespan=served.lifespan,
    )
    security = RequestStateSecurity.ephemeral(ttl=STATE_LIFETIME)
    server.middleware.append(RequestStateBoundary(security, default_audience=toolbox.name))
    return server


class _Served:
    """The handlers of one server."""

    def __init__(self, toolbox: Toolbox, call_timeout: float | None) -> None:
        self._toolbox = toolbox
        self._timeout = call_timeout
        self._room = asyncio.Semaphore(MAX_CALLS)
        self._parked = ParkedCalls()
        self._tickets = Tickets()

    @contextlib.asynccontextmanager
    async def lifespan(self, _server: Server[Any]) -> AsyncIterator[None]:
        """End with the server what waits for clients."""
        try:
            yield
        finally:
            await finish(self._parked.aclose())

    async def list_tools(
        self, _ctx: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_as_tool(each) for each in self._toolbox.tools()])

    def parameters_of(self, name: str) -> Any:
        return next((each.parameters for each in self._toolbox.tools() if each.name == name), None)

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> Answer:
        if self.parameters_of(params.name) is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        return await _in_own_task(self._call(ctx, params))

    async def _call(self, ctx: Context, params: types.CallToolRequestParams) -> Answer:
        async with reporting(ctx.session.report_progress) as report:
            if params.request_state is not None and self._parked.knows(params.request_state):
                return await self._continue(params, report)
            name, arguments = params.name, params.arguments or {}
            needed = await self._toolbox.approval(name, arguments)
            if needed is not None:
                try:
                    question = self._as_question(needed)
                    asked = await require_approval(ctx, params, question, self._tickets)
                except Refused as refused:
                    return failure(str(refused))
                if asked is not None:
                    return asked
            work = functools.partial(self._run, name, arguments, needed)
            if not can_be_asked(ctx):
                return await work(None, report)
            if not is_stateless(ctx):
                return await work(asker(ctx), report)
            return await self._run_on(AskingCall(work), report)

    async def _continue(self, params: types.CallToolRequestParams, report: Report) -> Answer:
        """Let a call run on that had a question, if this call has the answer."""
        state, answer = params.request_state or "", answer_in(params)
        call = self._parked.take(state)
        if call is None:
            return failure(GONE)
        if answer is not None:
            call.answer(answer.action == "accept")
        return await self._run_on(call, report)

    async def _run_on(self, call: AskingCall, report: Report) -> Answer:
        """Let `call` run until it has a result, or a question for the client's user."""
        while (result := await call.run(report)) is None:
            state = self._parked.park(call)
            if state is not None:
                return input_required(call.question, state)
            call.answer(False)
        return result

    async def _run(
        self,
        name: str,
        arguments: dict[str, Any],
        approved: str | None,
        ask: Ask | None,
        report: Report,
    ) -> types.CallToolResult:
        clock = PausableTimeout(self._timeout)

        async def outside(what: str) -> bool:
            assert ask is not None, "it is asked only where it can be"
            with clock.paused():
                return await ask(self._as_question(what))

        request = ToolRequest(
            name=name,
            arguments=arguments,
            report=report,
            approved=approved,
            ask=None if ask is None else outside,
        )
        try:
            async with self._room, clock.limit:
                return as_result(await self._toolbox.call(request))
        except Exception as error:
            if clock.limit.expired():
                return failure(f"'{name}' took longer than {self._timeout} s and was cancelled")
            _log.exception("serving a call of %s failed", name)
            return failure(f"'{name}' failed: {type(error).__name__}: {error}")

    def _as_question(self, what: str) -> str:
        return f"{self._toolbox.name} asks {what}"


async def _in_own_task(
    work: Coroutine[Any, Any, Answer],
) -> Answer:
    """Return what `work` returns. When this is cancelled, `work` is cancelled once and has ended
    before the cancellation passes on: the SDK's scopes cancel again and again."""
    task = asyncio.create_task(work, name="call of a tool")
    try:
        await asyncio.wait([task])
    finally:
        if not task.done():
            with anyio.CancelScope(shield=True):
                await cancel(task)
    return task.result()


def _as_tool(tool: ServedTool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema={**tool.parameters, "type": "object"},  # which some leave out
        annotations=types.ToolAnnotations(read_only_hint=tool.reads_only),
    )


def _check_timeout(seconds: object) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ValueError(f"the time for a call is {seconds!r}: give more than 0 seconds")


def _version() -> str:
    from importlib.metadata import version

    return version("paddock")
