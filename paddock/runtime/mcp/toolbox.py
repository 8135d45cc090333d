"""What a server offers: tools, who may call them, and how a call is run. Knows no protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.tool import ToolOutput

__all__ = ["Report", "ServedTool", "ToolRequest", "Toolbox"]

Report = Callable[[str], None]
"""Called with what a tool does now, in any thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTool:
    """One tool as clients see it. `reads_only` says that its calls change nothing."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    reads_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One call of a client. `client` is the same for all calls of a client that has a session
    over HTTP, and empty for others. `approved` says that the client's user has approved it."""

    name: str
    arguments: dict[str, Any]
    report: Report
    client: str = ""
    approved: bool = False


class Toolbox(Protocol):
    """The tools of one server. Its methods may be called by many tasks at once."""

    @property
    def name(self) -> str:
        """What the server is called."""
        ...

    @property
    def instructions(self) -> str | None:
        """What a client's model is told about the server."""
        ...

    def tools(self) -> Sequence[ServedTool]:
        """Return the tools, always in the same order."""
        ...

    async def requires_approval(self, name: str, arguments: dict[str, Any]) -> bool:
        """Return whether this call has to be approved by somebody."""
        ...

    async def call(self, request: ToolRequest) -> ToolOutput:
        """Run one call. Return its result also when it fails; cancellation passes through, once
        all that the call has begun is ended."""
        ...
