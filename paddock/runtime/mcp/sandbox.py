"""A sandbox as a toolbox: it is made when a tool first needs it, and ends with the toolbox."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

from paddock._concurrency import AsyncResource
from paddock.errors import PaddockError, SandboxLost, ToolError
from paddock.runtime.core.context import RunContext
from paddock.runtime.core.lazy import LazyResource
from paddock.runtime.core.tool import ToolInvocation
from paddock.runtime.mcp.toolbox import ServedTool, shown_call
from paddock.runtime.permissions.profile import FileWriteMode, load_profile
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.transfer import DownloadHandler, UploadHandler, UrlHandler

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from paddock.backends.base import Backend, ProgressCallback
    from paddock.runtime.core.tool import ToolOutput
    from paddock.runtime.mcp.toolbox import ToolRequest
    from paddock.runtime.permissions.profile import PermissionProfile
    from paddock.sandbox import Sandbox

__all__ = ["SandboxToolbox"]

LOST = "\nThe next call gets a new sandbox, without the files of this one."


class SandboxToolbox(AsyncResource):
    """The tools of `profile` in one sandbox of `backend`, with those that bring files in and out.

    These may also copy from and to the directory `shared` of this machine. With `auto_approve`
    no call has to be approved. A sandbox that was lost is replaced at the next call.
    """

    name = "paddock-sandbox"

    def __init__(
        self,
        backend: Backend,
        *,
        profile: str | Path | PermissionProfile = "developer",
        shared: Path | None = None,
        auto_approve: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        self._backend = backend
        self._auto_approve = auto_approve
        resolved = load_profile(profile)
        registry = build_registry(resolved, placed=backend.working_dir is not None)
        self._registry = registry.without(["delegate"])  # there is no agent
        if resolved.file_write is FileWriteMode.FULL:
            self._registry.register(UploadHandler(shared=shared))
        self._registry.register(DownloadHandler(shared=shared))
        self._registry.register(UrlHandler())
        make = functools.partial(backend.create, on_progress=on_progress)
        self._sandbox: LazyResource[Sandbox] = LazyResource(make, name="sandbox")
        self._numbers = itertools.count(1)

    @property
    def instructions(self) -> str:
        return (
            f"All tools work in one sandbox ({self._backend.name}), which is made at the first "
            "call and removed when you disconnect. Relative paths begin in its working directory."
        )

    def tools(self) -> Sequence[ServedTool]:
        found = []
        for spec in self._registry.get_specs():
            function = spec["function"]
            found.append(
                ServedTool(
                    name=function["name"],
                    description=function["description"],
                    parameters=function["parameters"],
                    reads_only=self._registry.is_concurrent(function["name"]),
                )
            )
        return found

    async def approval(self, name: str, arguments: dict[str, Any]) -> str | None:
        kind = "write" if name == UploadHandler.name else name
        if self._auto_approve or not self._registry.requires_approval(kind, arguments):
            return None
        return shown_call(name, arguments)

    async def call(self, request: ToolRequest) -> ToolOutput:
        redactor = self._backend.redactor
        number = str(next(self._numbers))
        output = await self._registry.dispatch(
            ToolInvocation(
                call_id=number,
                tool_name=request.name,
                arguments=request.arguments,
                context=RunContext(
                    deps=None,
                    call_id=number,
                    tool_name=request.name,
                    redactor=redactor,
                    get_sandbox=self._get_sandbox,
                    on_progress=request.report,
                ),
            )
        )
        output.content = redactor.text(output.content)
        if isinstance(output.error, SandboxLost):
            output.content += LOST
        return output

    async def _get_sandbox(self) -> Sandbox:
        try:
            sandbox = await self._sandbox.get()
            if sandbox.lost:
                self._sandbox.renew()
                sandbox = await self._sandbox.get()
        except PaddockError as error:
            raise ToolError(f"The sandbox cannot be made: {error}") from error
        return sandbox

    async def _close(self) -> None:
        await self._sandbox.aclose()
