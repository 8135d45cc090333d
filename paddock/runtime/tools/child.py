"""What tools need that have another agent do the work: a task, a report, and who runs it.

Knows no session: who runs the agent is the tool's context, which need not be one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.tools.base import ToolHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.core.approval import ApprovalCallback, ToolApprovalItem
    from paddock.runtime.core.cancellation import CancelCheck
    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["ChildReport", "ChildRunner", "ChildTask", "ChildTool"]

SHOWN_ARGUMENTS = 300
"""Characters of the arguments of a call that nobody could approve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildTask:
    """What an agent is to do for the one that calls the tool.

    Without a `config` it is that agent again: model, profile, tools, secrets, sandbox. With
    one it is another agent, which has only what its `config` says. `system_prompt` takes the
    place of either's. With `full_context` it knows the conversation up to the call. An
    `approval_callback` is asked instead of the caller's; `cancel_check` ends it early.
    """

    instruction: str
    call_id: str
    tool_name: str
    config: AgentConfig | None = None
    system_prompt: str | None = None
    full_context: bool = False
    own_sandbox: bool = False
    approval_callback: ApprovalCallback | None = None
    cancel_check: CancelCheck | None = None

    @property
    def shares_sandbox(self) -> bool:
        """Whether it works in the sandbox of the agent that calls."""
        return self.config is None and not self.own_sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildReport:
    """How it ended; see `RunResult`. `duration` is in seconds."""

    session_id: str
    status: str
    text: str
    usage: Mapping[str, Any]
    duration: float
    reason: str | None = None
    interruptions: tuple[ToolApprovalItem, ...] = ()


@runtime_checkable
class ChildRunner(Protocol):
    """A tool's context that can run agents."""

    async def run_child(self, task: ChildTask) -> ChildReport:
        """Run the agent of `task` to its end.

        Cancelled, the agent has ended, with its commands and its own sandbox, before it
        passes on. Raises what keeps an agent from running at all.
        """
        ...


class ChildTool(ToolHandler):
    """A tool that has another agent do the work. Such an agent has no tool of this kind."""

    async def run_child(self, invocation: ToolInvocation, task: ChildTask) -> ToolOutput:
        """What the agent of `task` says. Raises `RuntimeError` outside a session."""
        context: object = invocation.context
        if not isinstance(context, ChildRunner):
            raise RuntimeError(f"the tool '{invocation.tool_name}' needs a session")
        report = await context.run_child(task)
        return ToolOutput(
            content=_told(report),
            success=report.status == "completed",
            metadata={
                "child_usage": dict(report.usage),
                "child_status": report.status,
                "child_session_id": report.session_id,
                "duration_seconds": round(report.duration, 3),
            },
        )


def _told(report: ChildReport) -> str:
    match report.status:
        case "completed":
            return report.text or "(The agent ended without a word.)"
        case "interrupted":
            calls = "\n".join(map(_call, report.interruptions))
            problem = (
                "The agent stopped at calls that need an approval, and nobody could be asked. "
                f"They did not run. Make them yourself to have them approved:\n{calls}"
            )
        case status:
            because = f": {report.reason}" if report.reason else ""
            problem = f"The agent did not finish ({status}{because})."
    return f"{problem}\nIts last words were:\n{report.text}" if report.text else problem


def _call(item: ToolApprovalItem) -> str:
    arguments = json.dumps(item.tool_args, ensure_ascii=False)
    shown = arguments[:SHOWN_ARGUMENTS] + "..." * (len(arguments) > SHOWN_ARGUMENTS)
    return f"- {item.tool_name} {shown}"
