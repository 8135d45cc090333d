"""What tools have in common that have another agent do the work. Knows no agent.

Who runs the agent is the tool's context; see `RunAgent`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from paddock.runtime.core.subagent import RunAgent
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.tools.base import ToolHandler

if TYPE_CHECKING:
    from paddock.runtime.core.approval import ToolApprovalItem
    from paddock.runtime.core.subagent import AgentReport, AgentTask
    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["ChildTool"]

SHOWN_ARGUMENTS = 300
"""Characters of the arguments of a call that nobody could approve."""


class ChildTool(ToolHandler):
    """A tool that has another agent do the work."""

    async def run_agent(self, invocation: ToolInvocation, task: AgentTask) -> ToolOutput:
        """What the agent of `task` says. Raises `RuntimeError` outside a session."""
        context: object = invocation.context
        if not isinstance(context, RunAgent):
            raise RuntimeError(f"the tool '{invocation.tool_name}' needs a session")
        report = await context.run_agent(task)
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


def _told(report: AgentReport) -> str:
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
