"""The rules for tool calls at one moment, and who decides by them which calls may run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.approval import ApprovalCallback, Approvals
    from paddock.runtime.core.calls import PreparedCall
    from paddock.runtime.core.tool import ToolCatalog

__all__ = ["ApprovalGate", "Rules", "call_digest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What applies to calls at one moment: the tools there are, who approves, where they run."""

    registry: ToolCatalog
    callback: ApprovalCallback | None
    auto_approve: bool
    backend: str

    @property
    def profile(self) -> str:
        """The profile's name; empty for tools without one."""
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
        """Return whether a person would call them the same, whatever objects they are made of."""
        return self == other or (self.terms, self.approvals) == (other.terms, other.approvals)


class ApprovalGate(Protocol):
    """Decides which of a turn's calls may run."""

    async def allowed(self, calls: Sequence[PreparedCall], rules: Rules) -> int:
        """Return how many of `calls` come before the first that is refused.

        Raise `ApprovalInterrupt` when a call before that one cannot be decided now.
        """
        ...

    async def leave_open(self, calls: Sequence[PreparedCall], rules: Rules, note: str) -> None:
        """Emit which of `calls` wait for an approval."""
        ...


def call_digest(name: str, arguments: Mapping[str, Any], terms: str) -> str:
    """SHA-256 of a call: an approval is for these exact arguments, under `terms`, and no other."""
    return hashlib.sha256(_canonical([name, arguments, terms])).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()
