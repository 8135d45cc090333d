"""What is known of an approval: what waits for one, and what was answered. Asks nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ApprovalCallback", "ApprovalInterrupt", "Approvals", "ToolApprovalItem", "ToolDecision"]

ApprovalCallback = Callable[[str, dict[str, Any]], Awaitable[bool] | bool]
"""Given a tool's name and a call's arguments; True lets it run. May be async."""

Approvals = Literal["asked", "automatic", "later"]
"""How calls that need an approval get one: somebody is asked, all are approved, or they wait."""


class ApprovalInterrupt(Exception):
    """Raised by an approval callback that cannot answer now: the run ends as interrupted.

    The call stays open, and nothing of its turn has run.
    """


@dataclass(frozen=True, slots=True)
class ToolApprovalItem:
    """A call that waits for somebody to approve it; see `Session.resume`.

    `digest` (SHA-256) says what is approved: this tool, these arguments, in this kind of
    sandbox under this profile.
    """

    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDecision:
    """An answer that was given for a call which has no result yet; see `ToolApprovalItem`."""

    tool_call_id: str
    tool_name: str
    approved: bool
    digest: str
