"""An agent as a tool of other agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from paddock.errors import ConfigError
from paddock.runtime.core.jsontext import as_text
from paddock.runtime.core.response_format import schema_validator
from paddock.runtime.core.tool import TOOL_NAME, ToolOutput
from paddock.runtime.tools.child import ChildTool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.core.approval import ApprovalCallback
    from paddock.runtime.core.cancellation import CancelCheck
    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["AgentToolHandler"]

INSTRUCTION: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"instruction": {"type": "string", "description": "What the agent is to do."}},
    "required": ["instruction"],
    "additionalProperties": False,
}


class AgentToolHandler(ChildTool):
    """A tool whose every call is a session of its own with another agent.

    - `config` is the agent or its configuration, and it gets a sandbox of its own. Without one
      it has the model, the profile, the tools except this one, and the sandbox of the agent that
      calls.
    - `system_prompt` replaces that of `config`.
    - `input_schema` is the JSON schema of the arguments, and `input_formatter` makes the
      prompt of them. Unless given, the one argument ``instruction`` is the prompt as it is;
      others become lines of ``name: value``.
    - `approval_callback` is asked instead of the caller's. `cancel_check` is polled; True
      ends the agent, and the caller continues. When the caller is cancelled, so is the agent.
    - `requires_approval`: whether each call has to be approved.

    Raises `ConfigError` for a name that no provider takes, which has at most 64 letters,
    digits, ``_`` and ``-``, and for an `input_schema` that is no schema.
    """

    def __init__(
        self,
        *,
        tool_name: str,
        tool_description: str,
        system_prompt: str | None = None,
        config: Agent | AgentConfig | None = None,
        input_schema: Mapping[str, Any] | None = None,
        input_formatter: Callable[[dict[str, Any]], str] | None = None,
        approval_callback: ApprovalCallback | None = None,
        cancel_check: CancelCheck | None = None,
        requires_approval: bool = False,
    ) -> None:
        if not TOOL_NAME.fullmatch(tool_name):
            raise ConfigError(f"tool_name {tool_name!r}: give at most 64 letters, digits, _ and -")
        if input_schema is not None:
            schema_validator(input_schema, source="input_schema")
        self.name = tool_name
        self.description = tool_description
        self.parameters: dict[str, Any] = dict(
            INSTRUCTION if input_schema is None else input_schema
        )
        self.requires_approval = requires_approval
        self.is_concurrent: bool = config is not None  # then it has a sandbox of its own
        self._system_prompt = system_prompt
        self._agent = config
        self._format = input_formatter or _prompt
        self._approval_callback = approval_callback
        self._cancel_check = cancel_check

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        instruction = self._format(dict(invocation.arguments))
        if not instruction.strip():
            return ToolOutput(content="The input is empty: say what to do.", success=False)
        report = await invocation.context.run_agent(
            instruction,
            agent=self._agent,
            system_prompt=self._system_prompt,
            approval_callback=self._approval_callback,
            cancel_check=self._cancel_check,
            without=frozenset({self.name} if self._agent is None else ()),
        )
        return self.output(report)


def _prompt(arguments: dict[str, Any]) -> str:
    if arguments.keys() == {"instruction"}:
        return str(arguments["instruction"])
    return "\n".join(f"{name}: {as_text(value)}" for name, value in arguments.items())
