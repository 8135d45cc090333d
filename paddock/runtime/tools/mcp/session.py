"""One connection to a server, in a task of its own: the SDK's scopes have to end where they began.

The connection ends when it is closed, when the server does, and when it cannot be made.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from paddock._concurrency import cancel, finish
from paddock._logs import get_logger
from paddock.errors import MissingDependency, ToolError
from paddock.runtime.tools.mcp.messages import MAX_TOOLS
from paddock.runtime.tools.mcp.questions import RunningCalls

try:
    from mcp import Client
    from mcp import types as mcp_types
except ImportError as error:
    raise MissingDependency(error.name or "mcp", "mcp") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from mcp import types
    from mcp.client._transport import TransportStreams

    from paddock.runtime.core.pausing import PausableTimeout
    from paddock.runtime.tools.mcp.questions import Ask
    from paddock.runtime.tools.mcp.transports import LastWords

__all__ = ["ServerSession"]

MAX_PAGES = 100
"""Pages of tools that are asked for: a server may say without end that there are more."""

CLOSE_TIMEOUT = 10.0
"""Seconds for the goodbye over HTTP and for ending a process, of which each takes less than two."""

_log = get_logger(__name__)


class ServerSession:
    """A connection that has said which tools there are. See `open`."""

    def __init__(self, words: LastWords) -> None:
        self.words = words
        self.tools: list[types.Tool] = []
        self._calls = RunningCalls()
        self._closing = asyncio.Event()
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        transport: Callable[[LastWords], AbstractAsyncContextManager[TransportStreams]],
        words: LastWords,
        *,
        timeout: float,  # noqa: ASYNC109 - it is for the server's start, not for this call alone
    ) -> ServerSession:
        """Connect, and ask for the tools. Raises what the SDK or the transport raises, and
        `TimeoutError` after `timeout` seconds. When this fails, nothing is left."""
        session = cls(words)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        session._task = asyncio.create_task(
            session._run(transport(words), ready), name="connection to an MCP server"
        )
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wait([session._task, ready], return_when=asyncio.FIRST_COMPLETED)
                if not ready.done():
                    session._task.result()
        except BaseException:
            await cancel(session._task)
            raise
        return session

    async def _run(
        self, transport: AbstractAsyncContextManager[TransportStreams], ready: asyncio.Future[None]
    ) -> None:
        client = Client(
            transport,
            client_info=_client_info(),
            cache=None,
            elicitation_callback=self._calls.answer,
        )
        async with client:
            self._client = client
            self.tools = await _all_tools(client)
            if not ready.done():
                ready.set_result(None)
            closing = asyncio.create_task(self._closing.wait())
            lost = asyncio.create_task(self.words.ended.wait())
            try:
                await asyncio.wait([closing, lost], return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel(closing, lost)

    @property
    def ended(self) -> bool:
        """Whether every further call fails."""
        return self.words.ended.is_set() or self._task is None or self._task.done()

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        report: Callable[[str], None],
        ask: Ask,
        clock: PausableTimeout,
    ) -> types.CallToolResult:
        """Call a tool. Raises what the SDK raises. When cancelled, cancel it on the server too.

        What the server asks meanwhile is answered by `ask`, while `clock` stands still.
        """
        assert self._client is not None, "it is open"

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            of = "" if total is None else f" of {total:g}"
            report(message or f"{progress:g}{of}")

        async with self._calls.during(ask, clock):
            return await self._client.call_tool(name, arguments, progress_callback=hear)

    async def answers(self, within: float) -> bool:
        """Return whether the server answers at all within so many seconds."""
        assert self._client is not None, "it is open"
        with contextlib.suppress(Exception):
            async with asyncio.timeout(within):
                await self._client.list_tools()
                return True
        return False

    async def aclose(self) -> None:
        """End the connection, and the server if it is ours. Runs to its end if cancelled."""
        self._closing.set()
        if self._task is not None:
            await finish(self._close(self._task))

    async def _close(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait([task], timeout=CLOSE_TIMEOUT)
        await cancel(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("the connection to an MCP server ended with an error", exc_info=error)


async def _all_tools(client: Client) -> list[types.Tool]:
    found: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None or len(found) > MAX_TOOLS:
            break
    if len(found) > MAX_TOOLS or cursor is not None:
        raise ToolError(f"the server has more than {MAX_TOOLS} tools; name those you need")
    return found


def _client_info() -> mcp_types.Implementation:
    from importlib.metadata import version

    return mcp_types.Implementation(name="paddock", version=version("paddock"))
