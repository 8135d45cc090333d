"""What a tool is. Tools know the sandbox contract and no backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.core.tool import TOOL_NAME
from paddock.runtime.tools.arguments import fit_arguments

if TYPE_CHECKING:
    from paddock.runtime.core.tool import ToolInvocation, ToolOutput

__all__ = ["ToolHandler"]

_SPEC = "_paddock_spec"
"""Where a handler keeps its spec: a thousand sessions that share it need no thousand specs."""


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
    `is_resumable`
        Whether a call may be entered again, with the same id and arguments, after its run ended in
        the middle of it. `handle` then continues what it began (`RunContext.is_resumed`). A call
        of another tool that was begun gets a result that says so, and never runs again.
    """

    if TYPE_CHECKING:
        # A declared attribute would make type checkers refuse some of the ways to define it.
        def __getattr__(self, name: str) -> Any: ...

    else:
        is_enabled = True
        requires_approval = False
        is_concurrent = False
        is_resumable = False

    @abstractmethod
    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        """Do it. An exception becomes a result that the model can read; cancellation passes."""

    def read_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return what `handle` gets for a model's `arguments`. Raise `InvalidCall`."""
        return fit_arguments(self.parameters, arguments)

    def check_definition(self) -> None:
        """Raise `ConfigError` unless a model can be offered this tool."""
        kind = type(self).__name__
        name = getattr(self, "name", None)
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            raise ConfigError(
                f"tool {kind}: name is {name!r}; give at most 64 letters, digits, '_' and '-'"
            )
        if not isinstance(getattr(self, "description", None), str):
            raise ConfigError(f"tool {name!r}: description must be a string")
        parameters = getattr(self, "parameters", None)
        if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
            raise ConfigError(f"tool {name!r}: parameters must be a JSON schema of type 'object'")

    def to_spec(self) -> dict[str, Any]:
        """The tool in OpenAI function format: one object for all requests, as long as it is so."""
        name, description, parameters = self.name, self.description, self.parameters
        spec: dict[str, Any] | None = self.__dict__.get(_SPEC)
        if spec is None or (
            spec["function"]["name"] != name
            or spec["function"]["description"] != description
            or spec["function"]["parameters"] is not parameters
        ):
            function = {"name": name, "description": description, "parameters": parameters}
            spec = self.__dict__[_SPEC] = {"type": "function", "function": function}
        return spec
