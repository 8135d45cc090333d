"""What a tool is. Tools know the sandbox contract and no backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddock.runtime.core.tool import ToolInvocation, ToolOutput
    from paddock.sandbox import Sandbox

__all__ = ["ToolHandler", "sandbox_of"]


class ToolHandler(ABC):
    """A tool that an agent may call. Holds no state of a session."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that the model calls it by."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One paragraph for the model."""

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments, an object."""

    @property
    def is_enabled(self) -> bool:
        """Whether it is offered to the model now."""
        return True

    @property
    def requires_approval(self) -> bool:
        """Whether each call has to be approved."""
        return False

    @property
    def is_concurrent(self) -> bool:
        """Whether a call may run at the same time as others of the same answer, as those may that
        change nothing. The other calls run one after the other, in the order given."""
        return False

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


async def sandbox_of(invocation: ToolInvocation) -> Sandbox:
    """The sandbox that the call is for; `RuntimeError` if it was made outside a session."""
    if invocation.context is None:
        raise RuntimeError(f"the tool '{invocation.tool_name}' needs a session's sandbox")
    return await invocation.context.sandbox()
