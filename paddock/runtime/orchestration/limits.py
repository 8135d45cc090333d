"""Limits of runs and agents, as budgets of the core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.budget import Budget, UsageMeter
from paddock.runtime.orchestration.fields import AgentLimits

if TYPE_CHECKING:
    from paddock.runtime.orchestration.spec import AgentSpec, RuntimeSpec

__all__ = ["Limits", "agent_budget", "run_meter"]

Limits = AgentLimits | Mapping[str, Any]
"""`usd`, `tokens`, `turns` and `seconds`, each optional."""


def run_meter(spec: RuntimeSpec, limits: AgentLimits | None) -> UsageMeter:
    """Return what counts one run of all its agents: within `limits`, and within the runtime's."""
    return UsageMeter(_budget(limits or AgentLimits()), parent=UsageMeter(_budget(spec.limits)))


def agent_budget(agent: AgentSpec) -> Budget:
    """Return what one run of `agent` may use up, with the agents that work for it."""
    return _budget(agent.limits)


def _budget(limits: AgentLimits) -> Budget:
    return Budget(cost=limits.usd, tokens=limits.tokens, turns=limits.turns, seconds=limits.seconds)
