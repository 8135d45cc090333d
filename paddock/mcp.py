"""MCP servers: a sandbox, or the tools of a multi-agent runtime, for any MCP client.

Needs the official SDK: ``pip install 'paddock[mcp]'``. Without it what serves raises
`MissingDependency`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from paddock.backends.base import Backend, ProgressCallback
    from paddock.runtime.orchestration.fields import TenantIdentity
    from paddock.runtime.orchestration.runtime import Runtime
    from paddock.runtime.orchestration.spec import ToolSpec
    from paddock.runtime.permissions.profile import PermissionProfile
    from paddock.runtime.tools.mcp.config import McpServer

__all__ = ["create_mcp_runtime", "list_tools", "serve_http", "serve_sandbox", "serve_stdio"]


def create_mcp_runtime(
    tools: Iterable[ToolSpec] = (),
    toolkits: Iterable[str | Mapping[str, Any]] = (),
    agent: str = "mcp",
    tenant: str | TenantIdentity = "paddock-mcp",
    data_environment: Mapping[str, Any] | None = None,
    services: Mapping[str, Any] | None = None,
    mcp_servers: Iterable[McpServer | Mapping[str, Any]] = (),
) -> Runtime:
    """Return a runtime with one agent that has these tools and toolkits, to be served.

    It calls no model. `data_environment` and `services` are those of `create_runtime`, and
    `mcp_servers` those of `define_runtime`: their tools are served, too.
    """
    from paddock.runtime.orchestration.define import (
        define_runtime,
        define_specialist,
        define_tenant,
    )
    from paddock.runtime.orchestration.making import make_runtime

    served = define_specialist(
        agent,
        model={"id": "none", "provider": "openai-compatible"},
        prompt="",
        tools=tools,
        toolkits=toolkits,
    )
    spec = define_runtime(
        define_tenant(tenant, "1") if isinstance(tenant, str) else tenant,
        agents=[served],
        providers={"openai-compatible": {}},
        mcp_servers=mcp_servers,
    )
    return make_runtime(spec, data_environment=data_environment, services=services)


def list_tools(
    runtime: Runtime, *, agent: str, expose_agent_tools: bool = False
) -> list[dict[str, Any]]:
    """See `Runtime.list_mcp_tools`."""
    return runtime.list_mcp_tools(agent=agent, expose_agent_tools=expose_agent_tools)


async def serve_stdio(
    runtime: Runtime,
    *,
    agent: str,
    thread_id: str | None = None,
    call_timeout_secs: float = 30.0,
    expose_agent_tools: bool = False,
) -> None:
    """See `Runtime.serve_mcp_stdio`."""
    await runtime.serve_mcp_stdio(
        agent=agent,
        thread_id=thread_id,
        call_timeout_secs=call_timeout_secs,
        expose_agent_tools=expose_agent_tools,
    )


async def serve_http(
    runtime: Runtime,
    *,
    agent: str,
    thread_id: str | None = None,
    call_timeout_secs: float = 30.0,
    expose_agent_tools: bool = False,
    host: str = "127.0.0.1",
    port: int = 8765,
    path: str = "/mcp",
    transport: str = "streamable-http",
    allowed_origins: Sequence[str] | None = None,
    token: str | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """See `Runtime.serve_mcp_http`."""
    await runtime.serve_mcp_http(
        agent=agent,
        thread_id=thread_id,
        call_timeout_secs=call_timeout_secs,
        expose_agent_tools=expose_agent_tools,
        host=host,
        port=port,
        path=path,
        transport=transport,
        allowed_origins=allowed_origins,
        token=token,
        on_ready=on_ready,
    )


async def serve_sandbox(
    backend: Backend,
    *,
    profile: str | PermissionProfile = "developer",
    shared: str | os.PathLike[str] | None = None,
    auto_approve: bool = False,
    on_progress: ProgressCallback | None = None,
) -> None:
    """Serve the client at this process's stdin and stdout a sandbox of `backend`.

    The sandbox is made at the first call. It is gone when this returns: when the client closes
    its end, or this is cancelled.

    - `profile`: which tools there are, and which calls need an approval. The client asks its user
      for it, or the call is an error at once.
    - `shared`: a directory of this machine that `upload` and `download` may copy from and to.
    - `auto_approve`: let all calls run without an approval.
    """
    from paddock.runtime.mcp.sandbox import SandboxToolbox
    from paddock.runtime.mcp.server import make_server
    from paddock.runtime.mcp.stdio import serve_over_stdio

    toolbox = SandboxToolbox(
        backend,
        profile=profile,
        shared=None if shared is None else Path(shared),
        auto_approve=auto_approve,
        on_progress=on_progress,
    )
    async with toolbox:
        await serve_over_stdio(make_server(toolbox))
