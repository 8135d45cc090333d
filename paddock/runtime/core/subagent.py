"""A task for a sub-agent, as plain data, and the interface of its runner. Knows no agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.core.approval import ApprovalCallback, ToolApprovalItem
    from paddock.runtime.core.budget import Budget
    from paddock.runtime.core.cancellation import CancelCheck
    from paddock.runtime.core.events import RunStatus

__all__ = ["AgentDefinition", "AgentReport", "AgentTask", "RunAgent"]


class AgentDefinition:
    """What an agent is made from: an `Agent` or an `AgentConfig`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTask:
    """What an agent is to do for the agent whose call `call_id` of `tool_name` it answers.

    Without an `agent` it is the calling agent again: model, profile, tools, secrets, sandbox.
    With one it has only what its definition says. `system_prompt` replaces that of either. If the
    call `is_resumed`, the agent continues what it did for the call before. `conversation` names a
    conversation that it continues, and that others of that name continue after it. With
    `full_context` it knows the conversation up to the call. An `approval_callback` is asked
    instead of the caller's; `cancel_check` ends it early. It lacks the tools `without`. In agent
    paths it is called `name`, or by the tool. It may use up `budget`, and no more than the caller,
    and makes at most `max_turns` model calls itself.
    """

    instruction: str
    call_id: str
    tool_name: str
    name: str | None = None
    is_resumed: bool = False
    conversation: str | None = None
    agent: AgentDefinition | None = None
    system_prompt: str | None = None
    full_context: bool = False
    own_sandbox: bool = False
    without: frozenset[str] = frozenset()
    approval_callback: ApprovalCallback | None = None
    cancel_check: CancelCheck | None = None
    budget: Budget | None = None
    max_turns: int | None = None

    @property
    def shares_sandbox(self) -> bool:
        """Whether it works in the sandbox of the calling agent."""
        return self.agent is None and not self.own_sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReport:
    """How it ended; see `RunResult`. `duration` is in seconds."""

    session_id: str
    status: RunStatus
    text: str
    usage: Mapping[str, Any]
    duration: float
    reason: str | None = None
    interruptions: tuple[ToolApprovalItem, ...] = ()


@runtime_checkable
class RunAgent(Protocol):
    """A tool's context that can run agents."""

    async def run_agent(self, task: AgentTask) -> AgentReport:
        """Run the agent of `task` to its end.

        When cancelled, the agent, its commands and its own sandbox have ended before the
        cancellation is passed on. Raises what keeps an agent from running at all: `ConfigError`
        for an agent that would be nested too deep.
        """
        ...
