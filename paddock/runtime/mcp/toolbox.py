"""What a server offers: tools, their access rules, and how a call is run. Knows no protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from paddock.runtime.core.jsontext import as_text
from paddock.runtime.core.text import clean_text, head_and_tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.tool import ToolOutput

__all__ = ["Ask", "Report", "ServedTool", "ToolRequest", "Toolbox", "shown_call"]

SHOWN_ARGUMENTS = 4000
"""Characters of the arguments that a person is shown. Of more, the end is shown too, since a
command may be hidden in the middle of nothing."""

Report = Callable[[str], None]
"""Called with what a tool does now, in any thread."""

Ask = Callable[[str], Awaitable[bool]]
"""Asks the client's user for approval; False also if no answer comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTool:
    """One tool as clients see it. `reads_only` says that its calls change nothing."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    reads_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One call of a client. `approved` is what the client's user has approved, as
    `Toolbox.approval` has said it. `ask` asks them for more while the call runs; None where that
    cannot be done."""

    name: str
    arguments: dict[str, Any]
    report: Report
    approved: str | None = None
    ask: Ask | None = None


class Toolbox(Protocol):
    """The tools of one server. Its methods may be called by many tasks at once."""

    @property
    def name(self) -> str:
        """What the server is called."""
        ...

    @property
    def instructions(self) -> str | None:
        """The server's instructions for the client's model."""
        ...

    def tools(self) -> Sequence[ServedTool]:
        """Return the tools, always in the same order."""
        ...

    async def approval(self, name: str, arguments: dict[str, Any]) -> str | None:
        """Return what a person has to approve before this call; None if it may run."""
        ...

    async def call(self, request: ToolRequest) -> ToolOutput:
        """Run one call. Return its result also when it fails; cancellation passes through, once
        all that the call has begun is ended."""
        ...


def shown_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call as a person is asked about it."""
    shown = "\n".join(f"{key}: {as_text(value)}" for key, value in arguments.items())
    shown = head_and_tail(shown, SHOWN_ARGUMENTS)
    return clean_text(f"to run the tool '{name}' with\n{shown}")
