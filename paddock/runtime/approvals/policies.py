"""Which calls need an approval: policies, and how they are put together.

A policy that fails, or answers anything but a bool, has asked for an approval.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock._logs import get_logger
from paddock.runtime.core.approval import ApprovalPolicy, ProposedCall
from paddock.runtime.core.calling import call as call_user

if TYPE_CHECKING:
    from paddock.runtime.core.tool import ToolCatalog
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = [
    "AskAlso",
    "AskAlways",
    "AskByProfile",
    "AskByTools",
    "AskNever",
    "AskWhen",
    "Predicate",
    "needs_approval",
]

Predicate = Callable[[ProposedCall], Awaitable[bool] | bool]
"""Given a call; True asks for an approval. May be async; one that is not runs in a thread."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AskNever:
    """Asks for no approval."""

    async def requires_approval(self, call: ProposedCall) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class AskAlways:
    """Asks for an approval of each call."""

    async def requires_approval(self, call: ProposedCall) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class AskWhen:
    """Asks for an approval where `predicate` says so, fails, or answers anything but a bool."""

    predicate: Predicate

    async def requires_approval(self, call: ProposedCall) -> bool:
        return await call_user(self.predicate, call) is not False


@dataclass(frozen=True, slots=True)
class AskByProfile:
    """Asks for an approval where `profile` does; see `PermissionProfile.requires_approval`."""

    profile: PermissionProfile

    async def requires_approval(self, call: ProposedCall) -> bool:
        return self.profile.requires_approval(call.tool, call.args)


@dataclass(frozen=True, slots=True)
class AskByTools:
    """Asks for an approval where the tools' registry does: their handlers, or its profile."""

    tools: ToolCatalog

    async def requires_approval(self, call: ProposedCall) -> bool:
        return self.tools.requires_approval(call.tool, call.args)


@dataclass(frozen=True, slots=True)
class AskAlso:
    """Asks for an approval where `policy` does, and also where `floor` does, whatever `policy`
    says."""

    policy: ApprovalPolicy
    floor: ApprovalPolicy

    async def requires_approval(self, call: ProposedCall) -> bool:
        return await needs_approval(self.floor, call) or await needs_approval(self.policy, call)


async def needs_approval(policy: ApprovalPolicy, call: ProposedCall) -> bool:
    """Whether `policy` asks for an approval of `call`. One that fails does."""
    try:
        return await policy.requires_approval(call) is not False
    except Exception:
        _log.exception("an approval policy failed; the call needs an approval")
        return True
