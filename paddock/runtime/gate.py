"""Which of a turn's calls may run: each that needs an approval has one before any runs.

Knows no tool and nobody to ask: those are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.runtime.approvals.responders import ask
from paddock.runtime.core.approval import ApprovalInterrupt
from paddock.runtime.core.events import ApprovalDecided, ApprovalPending
from paddock.runtime.core.rules import Rules, call_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.runtime.core.calls import PreparedCall
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.history import History

__all__ = ["CallbackGate"]

NOBODY_TO_ASK = "this call needs approval, and there is nobody to ask"


@dataclass(frozen=True, kw_only=True)
class CallbackGate:
    """Asks the callback of the rules. Without one, calls are approved if the rules say so,
    else left open.

    Every approval is given under the rules' terms; see `call_digest`. `check` raises when
    the run is to be cancelled.
    """

    history: History
    out: Emitter
    check: Callable[[], None]

    async def allowed(self, calls: Sequence[PreparedCall], rules: Rules) -> int:
        """How many of `calls` come before the first that is refused.

        Raises `ApprovalInterrupt` when a call that comes before cannot be decided now.
        """
        for number, call in enumerate(calls):
            if not self._needs_approval(call, rules):
                continue
            self.check()
            given = self._given(call, rules)
            if given is None:
                given = await self._ask(call, rules)
            if not given:
                return number
        return len(calls)

    async def leave_open(self, calls: Sequence[PreparedCall], rules: Rules, note: str) -> None:
        """Tell which of `calls` wait for an approval."""
        for call in calls:
            if self._needs_approval(call, rules) and self._given(call, rules) is None:
                await self.out.emit(
                    ApprovalPending(
                        call_id=call.id,
                        tool_name=call.name,
                        arguments=call.arguments,
                        digest=_digest(call, rules),
                        note=note,
                    )
                )

    def _needs_approval(self, call: PreparedCall, rules: Rules) -> bool:
        if call.problem:
            return False
        known = self.history.open_call(call.id)
        if known is not None and known.digest is not None and not known.started:
            return True  # it was asked for; that holds, whatever would be asked for now
        if not rules.registry.requires_approval(call.name, call.arguments):
            return False
        return rules.approvals != "automatic"

    def _given(self, call: PreparedCall, rules: Rules) -> bool | None:
        """The decision that was taken before, if it was about exactly this.

        It is for once: a call that has begun is not open to be decided, and one that has a
        result is not open at all.
        """
        known = self.history.open_call(call.id)
        if known is None or known.started or known.digest != _digest(call, rules):
            return None
        return known.approved

    async def _ask(self, call: PreparedCall, rules: Rules) -> bool:
        if rules.callback is None:
            raise ApprovalInterrupt(NOBODY_TO_ASK)
        decision = await ask(rules.callback, call.name, call.arguments)
        await self.out.emit(
            ApprovalDecided(
                call_id=call.id,
                tool_name=call.name,
                approved=decision.approved,
                digest=_digest(call, rules),
                note=decision.note,
            )
        )
        return decision.approved


def _digest(call: PreparedCall, rules: Rules) -> str:
    return call_digest(call.name, call.arguments, rules.terms)
