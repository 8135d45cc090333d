"""The tool by which an agent hands a part of its work to an agent like itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from paddock.errors import ConfigError
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.child import ChildTool

if TYPE_CHECKING:
    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["DelegateHandler"]


class DelegateHandler(ChildTool):
    """Runs an instruction in a conversation of its own, and returns the last answer.

    The child has the caller's model, profile, working directory, backend, tools, secrets and
    approvals; it ends when the caller is cancelled, and what it uses up counts for the
    caller. It works in the caller's sandbox, or with ``sandbox="own"`` in a new one of the
    same recipe, which is taken down at its end. It has no ``delegate`` of its own unless
    `nested`; see `SessionSettings.max_agent_depth`.
    """

    name = "delegate"
    parameters = object_schema(
        required=["instruction"],
        instruction={
            "type": "string",
            "description": "What to do, with all that has to be known, and what to report.",
        },
        full_context={
            "type": "boolean",
            "description": "Whether the agent gets a copy of this conversation. Default false.",
        },
    )

    description = (
        "Hand a part of the work to another agent with the same tools, and get its final "
        "answer. It begins with an empty conversation and sees only the instruction, unless "
        "full_context is true."
    )

    def __init__(
        self, *, sandbox: Literal["shared", "own"] = "shared", nested: bool = False
    ) -> None:
        if sandbox not in {"shared", "own"}:
            raise ConfigError(f"a delegate's sandbox is 'shared' or 'own', not {sandbox!r}")
        self.is_concurrent: bool = sandbox == "own"
        self._without = frozenset[str]() if nested else frozenset({self.name})

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        instruction = invocation.arguments["instruction"]
        if not instruction.strip():
            return ToolOutput(content="The instruction is empty: say what to do.", success=False)
        report = await invocation.context.run_agent(
            instruction,
            full_context=invocation.arguments.get("full_context", False),
            own_sandbox=self.is_concurrent,
            without=self._without,
        )
        return self.output(report)
