"""What the loop knows of tools: calls, their results, and the catalog that runs them. Knows no
particular tool."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from paddock.runtime.core.context import NO_CONTEXT, RunContext

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from paddock.runtime.core.content import ImagePart

__all__ = [
    "TOOL_NAME",
    "InvalidCall",
    "Profile",
    "RunAborted",
    "ToolCatalog",
    "ToolInvocation",
    "ToolOutput",
]

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What every service takes for the name of a tool."""


@dataclass(frozen=True)
class ToolInvocation:
    """One call: `arguments` are parsed and fit the tool's schema."""

    call_id: str
    tool_name: str
    arguments: dict[str, Any]
    context: RunContext[Any] = NO_CONTEXT


@dataclass
class ToolOutput:
    """What the model reads, with `images` that it sees. `metadata` is for programs and is not
    sent to it.

    `error` is the exception that the call ended by, where it did.
    """

    content: str
    success: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)
    images: Sequence[ImagePart] = ()
    error: Exception | None = field(default=None, repr=False, compare=False)


class RunAborted(Exception):
    """Raised in a tool when no further call of this run can succeed: the run raises `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return str(self.cause)


class InvalidCall(ValueError):
    """A call that could not be tried: of a tool that is not there, or with wrong arguments."""


class Profile(Protocol):
    """What an agent may do, as far as the loop compares and records it."""

    @property
    def name(self) -> str: ...

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON values: equal for profiles that are equal."""
        ...


class ToolCatalog(Protocol):
    """The tools that one agent may call, by name."""

    @property
    def profile(self) -> Profile | None: ...

    @property
    def is_patient(self) -> bool:
        """Whether a run continues however many turns in a row have no call that is valid and
        approved."""
        ...

    def get_specs(self) -> list[dict[str, Any]]:
        """Return the tools in OpenAI function format, always in the same order."""
        ...

    def requires_approval(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Return whether this call has to be approved."""
        ...

    def is_concurrent(self, name: str) -> bool:
        """Return whether a call may run at the same time as others of the same answer."""
        ...

    def runs_agents(self, name: str) -> bool:
        """Return whether a call runs another agent, which ends in bounded time when cancelled."""
        ...

    def is_resumable(self, name: str) -> bool:
        """Return whether a call that was begun in an earlier run may be entered again."""
        ...

    def without(self, names: Collection[str]) -> ToolCatalog:
        """Return a copy that lacks the tools `names`."""
        ...

    async def dispatch(self, invocation: ToolInvocation) -> ToolOutput:
        """Run one call. Return its result also when it fails; cancellation passes through."""
        ...
