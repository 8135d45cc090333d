"""Calls of the tools as a model makes them, in a sandbox and without a session."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.tools.factory import build_registry
from tests.lending import lending

if TYPE_CHECKING:
    from paddock.runtime.permissions.profile import PermissionProfile
    from paddock.sandbox import Sandbox

Call: TypeAlias = Callable[..., Awaitable[ToolOutput]]


def caller(sandbox: Sandbox, profile: str | PermissionProfile) -> Call:
    registry = build_registry(profile)

    async def call(tool: str, **arguments: Any) -> ToolOutput:
        return await registry.dispatch(
            ToolInvocation(
                call_id="1", tool_name=tool, arguments=arguments, context=lending(sandbox)
            )
        )

    return call


async def bash(call: Call, command: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    output = await call("bash", command=command, **arguments)
    shown = json.loads(output.content)
    assert set(shown) == {"output", "metadata"}
    return shown["output"], shown["metadata"]
