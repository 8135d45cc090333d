"""A toolbox for tests, and clients of the official SDK in both eras of the protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp import types

from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.mcp.toolbox import ServedTool, ToolRequest, shown_call

ERAS = ["2026-07-28", "legacy"]
"""What a client calls them: stateless, and with a handshake."""

Work = Callable[[ToolRequest], Awaitable[ToolOutput]]


async def say(request: ToolRequest) -> ToolOutput:
    return ToolOutput(content=f"{request.name} ran with {request.arguments}")


@dataclass
class OneTool:
    """Offers ``work``, which runs `work`. The arguments of `gated` calls need an approval."""

    work: Work = say
    gated: bool = False
    requests: list[ToolRequest] = field(default_factory=list)
    name: str = "test-box"
    instructions: str | None = "Use it well."

    def tools(self) -> Sequence[ServedTool]:
        properties = {"text": {"type": "string"}}
        return [
            ServedTool(
                name="work",
                description="Work.",
                parameters={"type": "object", "properties": properties},
                reads_only=True,
            )
        ]

    async def approval(self, name: str, arguments: dict[str, Any]) -> str | None:
        return shown_call(name, arguments) if self.gated else None

    async def call(self, request: ToolRequest) -> ToolOutput:
        self.requests.append(request)
        return await self.work(request)


def text_of(result: types.CallToolResult) -> str:
    return "\n".join(each.text for each in result.content if isinstance(each, types.TextContent))
