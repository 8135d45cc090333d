"""What a tool is. Tools know the sandbox contract and no backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddock.runtime.core.tool import ToolInvocation, ToolOutput

__all__ = ["ToolHandler"]


class ToolHandler(ABC):
    """A tool that an agent may call. Holds no state of a session.

    Besides `handle`, a subclass has these attributes: as class attributes, set in ``__init__``,
    or as properties. All but the first three have defaults.

    `name`, `description`
        What the model calls the tool by, and one paragraph about it.
    `parameters`
        JSON schema of the arguments, an object.
    `is_enabled`
        Whether the tool is offered to the model now.
    `requires_approval`
        Whether each call has to be approved.
    `is_concurrent`
        Whether a call may run at the same time as others of the same answer, as those may that
        change nothing. The other calls run one after the other, in the order given.
    """

    if TYPE_CHECKING:
        # A declared attribute would make type checkers refuse some of the ways to define it.
        def __getattr__(self, name: str) -> Any: ...

    else:
        is_enabled = True
        requires_approval = False
        is_concurrent = False

    @abstractmethod
    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        """Do it. An exception becomes a result that the model can read; cancellation passes."""

    def to_spec(self) -> dict[str, Any]:
        """The tool in OpenAI function format."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
        }
