"""The tools of an agent's servers, as handlers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import ConfigError, ToolError
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.mcp.answers import as_output
from paddock.runtime.tools.mcp.connection import Connection
from paddock.runtime.tools.mcp.definitions import (
    fit_description,
    fit_name,
    fit_schema,
    rename_arguments,
)
from paddock.runtime.tools.mcp.questions import ask_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mcp import types

    from paddock.runtime.core.tool import ToolInvocation, ToolOutput
    from paddock.runtime.tools.mcp.config import McpServer
    from paddock.runtime.tools.mcp.connection import GetSandbox

__all__ = ["McpServers", "McpTool"]

_log = get_logger(__name__)


class McpTool(ToolHandler):
    """A tool of a server. What it answers is redacted, and cut as other results are."""

    def __init__(self, connection: Connection, tool: types.Tool) -> None:
        server = connection.server
        self.name = fit_name(server.name, tool.name)
        self.description = fit_description(tool.description or tool.title)
        self.parameters, self._renamed = rename_arguments(fit_schema(tool.input_schema))
        self.requires_approval = server.always_asks
        hints = tool.annotations
        self.is_concurrent = hints is not None and bool(hints.read_only_hint)
        self._connection = connection
        self._tool = tool.name

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = {
            self._renamed.get(name, name): value for name, value in invocation.arguments.items()
        }
        context, server = invocation.context, self._connection.server.name
        result = await self._connection.call(
            self._tool,
            arguments,
            report=context.progress,
            ask=functools.partial(ask_user, context, server, self.name),
        )
        output = as_output(result)
        output.content = self._connection.redactor.text(output.content)
        return output


class McpServers:
    """The servers of one session. `sandbox` is the agent's; `host` returns what has this
    machine's files and programs, for servers that run there."""

    def __init__(
        self, servers: Iterable[McpServer], *, sandbox: GetSandbox, host: GetSandbox
    ) -> None:
        self._connections = [
            Connection(each, sandbox if each.where == "sandbox" else host) for each in servers
        ]
        self._known: dict[str, list[McpTool]] = {}

    async def connect(self) -> Sequence[McpTool]:
        """Return the tools of all servers, by name, once each is connected.

        Raises `ConfigError` for a server that cannot be reached and was not reached before, and
        for a tool that the server does not have.
        """
        found = await asyncio.gather(*map(self._tools, self._connections))
        return sorted((tool for tools in found for tool in tools), key=lambda each: each.name)

    async def _tools(self, connection: Connection) -> list[McpTool]:
        server = connection.server
        try:
            tools = await connection.tools()
        except ToolError as error:
            if known := self._known.get(server.name):
                _log.warning("%s; its tools are tried when they are called", error)
                return known
            raise ConfigError(str(error)) from error
        if server.tools is not None:
            names = [tool.name for tool in tools]
            if missing := [name for name in server.tools if name not in names]:
                raise ConfigError(
                    f"{server.place}.tools: the server has no tool {missing[0]!r}; it has "
                    f"{', '.join(names) or 'none'}"
                )
            tools = [tool for tool in tools if tool.name in server.tools]
        found = self._known[server.name] = [McpTool(connection, tool) for tool in tools]
        return found

    def release(self) -> None:
        """Ask for the end of all connections from anywhere, without waiting."""
        for connection in self._connections:
            connection.release()

    async def aclose(self) -> None:
        """End all connections. Runs to its end if cancelled."""
        await finish(self._close())

    async def _close(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for connection in self._connections:
                stack.push_async_callback(connection.aclose)
