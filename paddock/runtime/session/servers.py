"""The MCP servers of a session: connected before a run, and closed with the session."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from paddock.backends.base import get_backend
from paddock.runtime.core.lazy import LazyResource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from paddock.runtime.agents.secret_scope import SecretScope
    from paddock.runtime.tools.mcp.config import McpServer
    from paddock.runtime.tools.mcp.tools import McpServers, McpTool
    from paddock.runtime.tools.registry import ToolRegistry
    from paddock.sandbox import Sandbox

__all__ = ["SessionServers", "host_sandbox"]

HOST_VARIABLES = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER")
"""What of this process's environment a server gets that runs on this machine."""


class SessionServers:
    """The servers of the agent of `scope`, which may change between runs. Those that run in the
    sandbox get it by `get_sandbox`."""

    def __init__(self, scope: SecretScope, get_sandbox: Callable[[], Awaitable[Sandbox]]) -> None:
        self._scope = scope
        self._get_sandbox = get_sandbox
        self._host: LazyResource[Sandbox] = LazyResource(host_sandbox, name="host of MCP servers")
        self._servers: tuple[McpServer, ...] = ()
        self._connected: McpServers | None = None
        self._tools: Sequence[McpTool] = ()

    async def connect(self) -> None:
        """Connect to the servers, unless they are, and ask for their tools."""
        wanted = self._scope.agent.config.servers
        if self._servers != wanted:
            await self.aclose()
            self._servers = wanted
        if not wanted:
            return
        if self._connected is None:
            kind = await asyncio.to_thread(_load)  # the SDK takes a while to import
            sandbox = self._scope.agent.servers_in or self._get_sandbox
            self._connected = kind(wanted, sandbox=sandbox, host=self._host.get)
        self._tools = await self._connected.connect()

    def added_to(self, registry: ToolRegistry) -> ToolRegistry:
        """Return `registry` with the tools of the servers, but those whose names it has."""
        if not self._tools:
            return registry
        both = registry.copy()
        for tool in self._tools:
            if tool.name not in registry:
                both.register(tool)
        return both

    def release(self) -> None:
        """Ask for the end of all that is open from anywhere, without waiting."""
        if self._connected is not None:
            self._connected.release()
        self._host.release()

    async def aclose(self) -> None:
        """End the servers. The next `connect` starts them again."""
        connected, self._connected = self._connected, None
        self._tools = ()
        try:
            if connected is not None:
                await connected.aclose()
        finally:
            await self._host.aclose()


def _load() -> type[McpServers]:
    from paddock.runtime.tools.mcp.tools import McpServers

    return McpServers


async def host_sandbox() -> Sandbox:
    """Return what runs commands on this machine, as this process's user, where this process is."""
    env = {name: os.environ[name] for name in HOST_VARIABLES if name in os.environ}
    kind = get_backend("local")
    recipe = kind(env_vars=env, working_dir=os.getcwd(), isolation="none")  # type: ignore[call-arg]
    return await recipe.create()
