"""Which of a turn's calls may run: each that needs an approval has one before any runs.

A callback of the user's is asked where there is one. What it cannot answer, and what nobody is
there to answer, waits in the store of approvals, for any process with access to it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.runtime.approvals.policies import needs_approval
from paddock.runtime.approvals.responders import ask
from paddock.runtime.approvals.revising import (
    approved,
    check_revision,
    parameters_of,
    refusal,
    skipped,
)
from paddock.runtime.core.approval import ApprovalInterrupt, Decision, ProposedCall
from paddock.runtime.core.events import ApprovalRequested, ApprovalResolved
from paddock.runtime.core.rules import Ruling, call_digest
from paddock.runtime.tools.arguments import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from paddock.runtime.approvals.run_approvals import RunApprovals
    from paddock.runtime.core.approval import ApprovalRequest
    from paddock.runtime.core.calls import PreparedCall
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.history import History
    from paddock.runtime.core.rules import Rules

__all__ = ["StoreGate"]

NOBODY_TO_ASK = "this call needs approval, and no one can be asked"
WAITS = "this call needs approval, and waits for it"


@dataclass(frozen=True, kw_only=True)
class StoreGate:
    """The `ApprovalGate` of one run. `check` raises when the run is to be cancelled.

    Every approval is given under the rules' policy; see `call_digest`.
    """

    history: History
    out: Emitter
    check: Callable[[], Awaitable[None]]
    approvals: RunApprovals

    async def decide(self, calls: Sequence[PreparedCall], rules: Rules) -> Ruling:
        """See `ApprovalGate.decide`."""
        given: dict[str, Decision] = {}
        undecided: list[PreparedCall] = []
        why: str | None = None
        for call in calls:
            if call.resumed:  # it was allowed to begin
                given |= self._begun(call)
                continue
            if not await self._needs_approval(call, rules):
                continue
            await self.check()
            decision = await self._known(call, rules)
            if decision is None and why is None:
                decision, why = await self._ask(call, rules)
            if decision is None:
                undecided.append(call)
                continue
            given[call.id] = decision
            if self._stops(decision):
                break
        if undecided:
            await self._request(undecided, rules, why or NOBODY_TO_ASK)
            if not self.approvals.wait:
                return Ruling(waits=True)
            given |= await self._answers(undecided, rules)
        return self._ruling(calls, given)

    def _begun(self, call: PreparedCall) -> dict[str, Decision]:
        """Return the decision by which a call began, if it took one."""
        known = self.history.open_call(call.id)
        return {} if known is None or known.decision is None else {call.id: known.decision}

    def _stops(self, decision: Decision) -> bool:
        return self.approvals.on_refusal == "end_turn" and not decision.runs

    def _ruling(self, calls: Sequence[PreparedCall], given: Mapping[str, Decision]) -> Ruling:
        ruling = Ruling()
        after: str | None = None
        for call in calls:
            decision = given.get(call.id)
            if after is not None:
                ruling.skipped.append((call, after))
            elif decision is None:
                ruling.allowed.append(call)
            elif decision.runs:
                ruling.allowed.append(approved(call, decision))
            else:
                ends = self._stops(decision) and decision.outcome == "reject"
                ruling.refused.append((call, refusal(decision, ends_turn=ends)))
                ruling.ends_turn |= ends
                after = skipped(decision) if self._stops(decision) else None
        return ruling

    async def _needs_approval(self, call: PreparedCall, rules: Rules) -> bool:
        if call.problem:
            return False
        known = self.history.open_call(call.id)
        if known is not None and known.digest is not None and not known.started:
            return True  # it was asked for; that holds, whatever would be asked for now
        if rules.approvals == "automatic":
            return False
        if rules.policy is None:
            return rules.registry.requires_approval(call.name, call.arguments)
        if parameters_of(rules.registry, call.name) is None:
            return False  # there is no such tool: the call does nothing
        proposed = ProposedCall(
            tool=call.name,
            args=copy.deepcopy(call.arguments),
            session_id=self.approvals.session_id,
            agent_path=self.out.origin.agent_path,
        )
        return await needs_approval(rules.policy, proposed)

    async def _known(self, call: PreparedCall, rules: Rules) -> Decision | None:
        """The decision that was taken before, if it was about exactly this, or a refusal.

        It is for once: a call that has begun is not open to be decided, and one that has a
        result is not open at all.
        """
        known = self.history.open_call(call.id)
        if known is None or known.started:
            return None
        asked_so = known.digest == _digest(call, rules)
        if known.decision is not None:
            return known.decision if asked_so or not known.decision.runs else None
        if not asked_so or not known.approval_id:
            return None
        kept = await self.approvals.store.get(known.approval_id)
        if kept is None or kept.answer is None or kept.request.digest != known.digest:
            return None
        return await self._record(call, rules, kept.answer, kept.request.id)

    async def _ask(self, call: PreparedCall, rules: Rules) -> tuple[Decision | None, str | None]:
        """The answer of the rules' callback, or why there is none now."""
        if rules.callback is None:
            return None, WAITS if self.approvals.wait else NOBODY_TO_ASK
        await self.out.emit(ApprovalRequested.of(self._new_request(call, rules), None))
        try:
            decision = await ask(rules.callback, call.name, call.arguments)
        except ApprovalInterrupt as interrupt:
            return None, str(interrupt)
        try:
            check_revision(call.arguments, decision, parameters_of(rules.registry, call.name))
        except ArgumentError as error:
            told = f"the arguments were revised, and do not fit the tool: {error}"
            decision = Decision(outcome="reject", feedback=told, by=decision.by)
        return await self._record(call, rules, decision), None

    async def _request(self, calls: Sequence[PreparedCall], rules: Rules, why: str) -> None:
        """Have `calls` wait in the store, and say so."""
        for call in calls:
            known = self.history.open_call(call.id)
            if known is not None and known.approval_id and known.digest == _digest(call, rules):
                kept = await self.approvals.store.get(known.approval_id)
                if kept is not None and kept.status == "pending":
                    await self.out.emit(ApprovalRequested.of(kept.request, why))
                    continue
            request = self._new_request(call, rules)
            self.approvals.asked.add(request.id)
            asked = self.out.keep(ApprovalRequested.of(request, why))
            await self.out.sync()  # a run that dies now is resumed by the same request
            await self.approvals.store.ask(request)
            await self.out.show(asked)  # a reader of the event can answer it

    async def _answers(self, calls: Sequence[PreparedCall], rules: Rules) -> dict[str, Decision]:
        """Wait for the answers to `calls`, in their order, up to the first that ends the turn."""
        given: dict[str, Decision] = {}
        for call in calls:
            known = self.history.open_call(call.id)
            assert known is not None, "it waits for an approval"
            answer = await self.approvals.store.wait(known.approval_id)
            await self.check()
            given[call.id] = await self._record(call, rules, answer, known.approval_id)
            if self._stops(answer):
                break
        return given

    def _new_request(self, call: PreparedCall, rules: Rules) -> ApprovalRequest:
        return self.approvals.request(
            call_id=call.id,
            tool=call.name,
            args=call.arguments,
            rules=rules,
            out=self.out,
            parameters=parameters_of(rules.registry, call.name),
        )

    async def _record(
        self, call: PreparedCall, rules: Rules, decision: Decision, approval_id: str = ""
    ) -> Decision:
        await self.out.emit(
            ApprovalResolved.of(
                decision,
                call_id=call.id,
                tool_name=call.name,
                digest=_digest(call, rules),
                approval_id=approval_id,
            )
        )
        return decision


def _digest(call: PreparedCall, rules: Rules) -> str:
    return call_digest(call.name, call.arguments, rules.policy_digest)
