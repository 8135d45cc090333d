"""A `Toolbox` as a server of the official SDK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError

from paddock._concurrency import cancel
from paddock._logs import get_logger
from paddock.runtime.mcp.asking import STATE_LIFETIME, Refused, asker, require_approval
from paddock.runtime.mcp.progress import reporting
from paddock.runtime.mcp.results import as_result, failure
from paddock.runtime.mcp.toolbox import ToolRequest

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import TypeAlias

    from mcp.server.context import ServerRequestContext

    from paddock.runtime.mcp.toolbox import ServedTool, Toolbox

    Context: TypeAlias = ServerRequestContext[Any, Any]

__all__ = ["make_server"]

MAX_CALLS = 32
"""Calls that run at once, of all clients of one server; others wait. Models make fewer."""

_log = get_logger(__name__)


def make_server(toolbox: Toolbox, *, call_timeout: float | None = None) -> Server[Any]:
    """Return a server of the tools of `toolbox`, for both eras of the protocol.

    A call that takes longer than `call_timeout` seconds is cancelled, and is an error.
    """
    served = _Served(toolbox, call_timeout)
    server: Server[Any] = Server(
        toolbox.name,
        version=_version(),
        instructions=toolbox.instructions,
        on_list_tools=served.list_tools,
        on_call_tool=served.call_tool,
        get_tool_input_schema=served.parameters_of,
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

    async def list_tools(
        self, _ctx: Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_as_tool(each) for each in self._toolbox.tools()])

    def parameters_of(self, name: str) -> Any:
        return next((each.parameters for each in self._toolbox.tools() if each.name == name), None)

    async def call_tool(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        if self.parameters_of(params.name) is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        return await _in_own_task(self._call(ctx, params))

    async def _call(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        name, arguments = params.name, params.arguments or {}
        async with reporting(ctx.session.report_progress) as report:
            needed = await self._toolbox.approval(name, arguments)
            if needed is not None:
                question = f"{self._toolbox.name} asks {needed}"
                try:
                    asked = await require_approval(ctx, params, question)
                except Refused as refused:
                    return failure(str(refused))
                if asked is not None:
                    return asked
            request = ToolRequest(
                name=name,
                arguments=arguments,
                report=report,
                approved=needed,
                ask=asker(ctx, self._toolbox.name),
            )
            return await self._run(request)

    async def _run(self, request: ToolRequest) -> types.CallToolResult:
        limit = asyncio.timeout(self._timeout)
        try:
            async with self._room, limit:
                return as_result(await self._toolbox.call(request))
        except Exception as error:
            if limit.expired():
                told = f"'{request.name}' took longer than {self._timeout} s and was cancelled"
                return failure(told)
            _log.exception("serving a call of %s failed", request.name)
            return failure(f"'{request.name}' failed: {type(error).__name__}: {error}")


async def _in_own_task(
    work: Coroutine[Any, Any, types.CallToolResult | types.InputRequiredResult],
) -> types.CallToolResult | types.InputRequiredResult:
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


def _version() -> str:
    from importlib.metadata import version

    return version("paddock")
