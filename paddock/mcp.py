"""MCP servers: a sandbox, or the tools of a multi-agent runtime, for any MCP client.

Needs the official SDK: ``pip install 'paddock[mcp]'``. Without it the functions raise
`MissingDependency`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from paddock.backends.base import Backend, ProgressCallback
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["serve_sandbox"]


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
