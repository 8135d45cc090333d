"""What tools have in common that have another agent do the work. Knows no agent.

The tool's context runs the agent; see `RunContext.run_agent`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.tools.base import ToolHandler

if TYPE_CHECKING:
    from paddock.runtime.core.approval import ToolApprovalItem
    from paddock.runtime.core.subagent import AgentReport

__all__ = ["ChildTool"]

SHOWN_ARGUMENTS = 300
"""Characters shown of the arguments of a call that could not be approved."""


class ChildTool(ToolHandler):
    """A tool that has another agent do the work, and continues that agent when its own call is
    entered again."""

    is_resumable = True

    def output(self, report: AgentReport) -> ToolOutput:
        """Return what the agent says."""
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
                "The agent stopped at calls that need an approval, and no one could be asked. "
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
