"""The rules that an agent and a session make for tool calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.runtime.core.rules import Rules

if TYPE_CHECKING:
    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.core.approval import ApprovalCallback, ApprovalPolicy

__all__ = ["rules_of"]


def rules_of(
    agent: Agent, callback: ApprovalCallback | None, policy: ApprovalPolicy | None
) -> Rules:
    """Return the rules that apply now to the calls of `agent`."""
    return Rules(
        registry=agent.registry,
        callback=callback,
        auto_approve=agent.config.auto_approve,
        backend=agent.config.backend_name,
        policy=policy,
    )
