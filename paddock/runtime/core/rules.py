"""The rules for tool calls at one moment, and the decision which calls may run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.approval import ApprovalCallback, ApprovalPolicy, Approvals
    from paddock.runtime.core.calls import PreparedCall
    from paddock.runtime.core.tool import ToolCatalog

__all__ = ["ApprovalGate", "Rules", "Ruling", "call_digest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What applies to calls at one moment: the tools, the approvers, and where they run.

    Without a `policy` the tools and their profile say which calls need an approval.
    """

    registry: ToolCatalog
    callback: ApprovalCallback | None
    auto_approve: bool
    backend: str
    policy: ApprovalPolicy | None = None

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
    def policy_digest(self) -> str:
        """SHA-256 of what an approval is given under besides the call itself: where it runs,
        and what else is allowed there."""
        profile = self.registry.profile
        policy = [self.backend, None if profile is None else profile.to_dict()]
        return hashlib.sha256(_canonical(policy)).hexdigest()

    def same_as(self, other: Rules) -> bool:
        """Return whether a person would call them the same, whatever objects they are made of."""
        return self == other or (
            self.approvals == other.approvals and self.policy_digest == other.policy_digest
        )


@dataclass(slots=True, kw_only=True)
class Ruling:
    """Which calls of a turn may run, in their order and as they run, and which may not.

    A refused or skipped call comes with what the model reads of it. `waits` says that a call
    cannot be decided now: then nothing runs, and the rest is empty.
    """

    allowed: list[PreparedCall] = field(default_factory=list)
    refused: list[tuple[PreparedCall, str]] = field(default_factory=list)
    skipped: list[tuple[PreparedCall, str]] = field(default_factory=list)
    ends_turn: bool = False
    waits: bool = False


class ApprovalGate(Protocol):
    """Decides which of a turn's calls may run."""

    async def decide(self, calls: Sequence[PreparedCall], rules: Rules) -> Ruling:
        """Return which of `calls` may run under `rules`, once all are decided that need to be.

        A refusal that was given stands, also under other rules.
        """
        ...


def call_digest(name: str, arguments: Mapping[str, Any], policy_digest: str) -> str:
    """Return the SHA-256 of a call: an approval is for these exact arguments under this policy, and
    no other."""
    return hashlib.sha256(_canonical([name, arguments, policy_digest])).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()
