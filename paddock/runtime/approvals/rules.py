"""What holds for calls at one moment: the tools there are, who approves, where they run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.core.approval import ApprovalCallback, Approvals
    from paddock.runtime.tools.registry import ToolRegistry

__all__ = ["Rules", "call_digest", "rules_of"]


def call_digest(name: str, arguments: Mapping[str, Any], terms: str) -> str:
    """SHA-256 of a call: an approval is for these exact arguments, under `terms`, and no other."""
    return hashlib.sha256(_canonical([name, arguments, terms])).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for calls at one moment: the tools there are, who approves, where they run."""

    registry: ToolRegistry
    callback: ApprovalCallback | None
    auto_approve: bool
    backend: str

    @property
    def profile(self) -> str:
        """Its name; empty for tools without one."""
        return "" if self.registry.profile is None else self.registry.profile.name

    @property
    def approvals(self) -> Approvals:
        if self.callback is not None:
            return "asked"
        return "automatic" if self.auto_approve else "later"

    @property
    def terms(self) -> str:
        """SHA-256 of what an approval is given under besides the call itself: where it runs,
        and what else is allowed there."""
        profile = self.registry.profile
        terms = [self.backend, None if profile is None else profile.to_dict()]
        return hashlib.sha256(_canonical(terms)).hexdigest()

    def same_as(self, other: Rules) -> bool:
        """Whether a person would call them the same, whatever objects they are made of."""
        return self == other or (self.terms, self.approvals) == (other.terms, other.approvals)


def rules_of(agent: Agent, callback: ApprovalCallback | None) -> Rules:
    """What holds now for the calls of `agent`."""
    backend = agent.config.backend
    return Rules(
        registry=agent.registry,
        callback=callback,
        auto_approve=agent.config.auto_approve,
        backend=backend if isinstance(backend, str) else backend.name,
    )


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()
