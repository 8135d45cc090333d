"""The life of a plan: drafted, approved, executed once.

::

    draft -> approved -> executing -> executed | failed

Each step is a compare-and-set in the store, so of any number of processes that ask at once one
executes the plan. An execution that began and has no end, because its process died or was
cancelled, has failed with an unknown outcome; nothing runs it again.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from paddock._concurrency import finish
from paddock.errors import ApprovalError, PlanError, ReferenceFailed
from paddock.runtime.core.claims import Claim, renewing
from paddock.runtime.orchestration.bodies import actions_and_context
from paddock.runtime.orchestration.dispatching import outcome_of
from paddock.runtime.orchestration.records import StoredPlan, canonical
from paddock.runtime.orchestration.references import kind_and_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from paddock.runtime.core.approval import Decision
    from paddock.runtime.orchestration.dispatching import ActionDispatcher
    from paddock.runtime.orchestration.references import References
    from paddock.runtime.orchestration.spec import PlanSpec
    from paddock.runtime.orchestration.store import TenantStore

    StatusChanged = Callable[[str, str, str], Awaitable[None]]
    """Told the plan's id, and its status before and after."""

__all__ = ["PENDING", "PlanGate", "Plans"]

PENDING = "pending_approval"
"""What events call a draft while somebody is asked to approve it."""

MAX_ID = 200
"""Characters of a plan's id: a person has to read it."""

OTHERS = 30.0
"""Seconds for which a call waits while another one executes the plan: most dispatchers call some
services. An end has to come of it, since a dispatcher may ask for its own plan."""

LOOK_INTERVAL = 0.1
"""Seconds between two looks whether the other one has ended."""

UNKNOWN = (
    "its execution began and did not end; it may have had its effect, wholly or in part, "
    "and does not run again"
)


class PlanGate(Protocol):
    """Says whether the execution of a plan needs an approval, and gets one."""

    async def requires_approval(self, plan: StoredPlan) -> bool: ...

    async def ask(self, plan: StoredPlan) -> Decision:
        """Return the answer of a user who was shown this revision of the plan."""
        ...


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans of one tenant, of the kinds `specs`, by their names."""

    store: TenantStore
    references: References
    specs: Mapping[str, PlanSpec]
    dispatcher: ActionDispatcher | None = None

    async def save(
        self, spec_name: str, plan_id: str, body: Mapping[str, Any], *, again: bool = False
    ) -> dict[str, Any]:
        """Keep a draft, or a new revision of one, and return it as agents see it.

        If it is to be kept `again`, by a caller that does not know whether it was, and is there as
        the last revision, nothing is changed.
        Raises `PlanError` for a spec that is unknown, a body that does not fit it, and a plan
        that is no longer a draft.
        """
        if not plan_id or len(plan_id) > MAX_ID or not plan_id.isprintable():
            reason = f"its id is not 1 to {MAX_ID} printable characters"
            raise PlanError(plan_id, "invalid", reason)
        spec = self.specs.get(spec_name)
        if spec is None:
            known = ", ".join(sorted(self.specs)) or "none"
            raise PlanError(plan_id, "invalid", f"unknown spec {spec_name!r}; there is {known}")
        # It may be big.
        actions, context = await asyncio.to_thread(actions_and_context, plan_id, spec, body)
        key = secrets.token_hex(16)

        def save(known: StoredPlan | None) -> StoredPlan:
            if again and known is not None and _has(known, spec, actions, context):
                return known
            if known is not None and known.status != "draft":
                raise PlanError(plan_id, "not_draft", _not_draft(known))
            revision = 1 if known is None else known.revision + 1
            return StoredPlan(
                id=plan_id,
                spec=spec.name,
                actions=actions,
                context=context,
                revision=revision,
                digest=_digest([plan_id, spec.name, revision, actions, context]),
                idempotency_key=key,
            )

        return (await self._change(plan_id, save)).shown()

    async def get(self, plan_id: str) -> dict[str, Any] | None:
        """Return a plan as agents see it; None if there is none.

        What is found to be executing and whose process has died is given as failed.
        """
        plan = await self.store.plans.get(plan_id)
        if plan is not None and _is_abandoned(plan):
            plan = await self._give_up(plan_id)
        return None if plan is None else plan.shown()

    async def execute(
        self, plan_id: str, *, gate: PlanGate, changed: StatusChanged
    ) -> dict[str, Any]:
        """Have a plan approved and executed, if that was not done before; return the result.

        The result has an `error` where the plan was not executed, or failed. `changed` is told of
        each change of the status. A plan that was executed gives the result that it gave then.
        """
        try:
            return await _Execution(self, plan_id, gate, changed).run()
        except (PlanError, ReferenceFailed) as error:
            return {"error": str(error), "planId": plan_id}

    async def _change(
        self, plan_id: str, change: Callable[[StoredPlan | None], StoredPlan]
    ) -> StoredPlan:
        plan = await self.store.plans.change(plan_id, change)
        assert plan is not None, "a plan is never removed"
        return plan

    async def _give_up(self, plan_id: str) -> StoredPlan:
        """Note that an execution has no end, if it is still so."""

        def fail(known: StoredPlan | None) -> StoredPlan:
            known = _there(plan_id, known)
            return _failed(known, UNKNOWN, unknown=True) if _is_abandoned(known) else known

        return await self._change(plan_id, fail)


class _Execution:
    """One call of `executePlan`."""

    def __init__(self, plans: Plans, plan_id: str, gate: PlanGate, changed: StatusChanged) -> None:
        self._plans = plans
        self._id = plan_id
        self._gate = gate
        self._changed = changed

    async def run(self) -> dict[str, Any]:
        plan = _there(self._id, await self._plans.store.plans.get(self._id))
        if plan.status == "draft":
            await self._prepare(plan)
            plan, refusal = await self._approve(plan)
            if refusal is not None:
                return refusal
        if plan.status == "approved":
            return await self._execute(plan)
        return await self._result_of_another(plan)

    async def _result_of_another(self, plan: StoredPlan) -> dict[str, Any]:
        """Return the result of the call that executes the plan, or has; wait a while for it."""
        deadline = time.monotonic() + OTHERS
        while plan.status == "executing":
            if _is_abandoned(plan):
                plan = await self._plans._give_up(self._id)
                await self._changed(self._id, "executing", "failed")
            elif time.monotonic() >= deadline:
                break
            else:
                await asyncio.sleep(LOOK_INTERVAL)
                plan = _there(self._id, await self._plans.store.plans.get(self._id))
        return _result(plan)

    async def _prepare(self, plan: StoredPlan) -> dict[str, dict[str, Any]]:
        """Return the values of the references, by kind and id; raise if the plan cannot run."""
        if self._plans.dispatcher is None:
            reason = "there is nothing to execute it; give create_runtime an action_dispatcher"
            raise PlanError(self._id, "dispatcher", reason)
        found: dict[str, dict[str, Any]] = {}
        for reference in _references(plan):
            kind, identity = kind_and_id(reference)
            if identity not in found.setdefault(kind, {}):
                found[kind][identity] = await self._plans.references.resolve(reference)
        return found

    async def _approve(self, plan: StoredPlan) -> tuple[StoredPlan, dict[str, Any] | None]:
        """Return the plan as it is after the gate, or the result of one that may not run."""
        decision, before = None, "draft"
        if await self._gate.requires_approval(plan):
            before = PENDING
            await self._changed(self._id, "draft", PENDING)
            decision = await self._ask(plan)
            if decision.outcome != "approve":
                await self._changed(self._id, PENDING, "draft")
                return plan, _refused(self._id, decision)

        def approve(known: StoredPlan | None) -> StoredPlan:
            known = _there(self._id, known)
            if known.status != "draft":
                return known
            if known.digest != plan.digest:
                reason = f"it has a new revision, {known.revision}, which was not approved"
                raise PlanError(self._id, "changed", reason)
            approval = {"feedback": decision.feedback, "by": decision.by} if decision else {}
            return replace(known, status="approved", approval=approval)

        try:
            plan = await self._plans._change(self._id, approve)
        except PlanError:
            if before == PENDING:
                await self._changed(self._id, PENDING, "draft")
            raise
        await self._changed(self._id, before, plan.status)
        return plan, None

    async def _ask(self, plan: StoredPlan) -> Decision:
        try:
            return await self._gate.ask(plan)
        except ApprovalError:
            await self._changed(self._id, PENDING, "draft")
            raise

    async def _execute(self, plan: StoredPlan) -> dict[str, Any]:
        values = await self._prepare(plan)
        claim = Claim.take()

        def begin(known: StoredPlan | None) -> StoredPlan:
            known = _there(self._id, known)
            if known.status != "approved":
                return known
            return replace(known, status="executing", claim=claim)

        plan = await self._plans._change(self._id, begin)
        if plan.claim is None or plan.claim.token != claim.token:
            return await self._result_of_another(plan)
        try:
            await self._changed(self._id, "approved", "executing")
        except BaseException:  # nothing has begun
            await finish(self._end(claim, lambda known: replace(known, status="approved")))
            raise
        try:
            renew = functools.partial(self._renew, claim)
            async with renewing(renew, name=f"claim of plan {self._id!r}"):
                ended = await self._dispatch(plan, values)
        except BaseException:
            await finish(self._end(claim, lambda known: _failed(known, UNKNOWN, unknown=True)))
            raise
        plan = await self._end(claim, ended)
        await self._changed(self._id, "executing", plan.status)
        return _result(plan)

    async def _dispatch(
        self, plan: StoredPlan, values: dict[str, dict[str, Any]]
    ) -> Callable[[StoredPlan], StoredPlan]:
        """Run the actions; return how the plan ends."""
        assert self._plans.dispatcher is not None, "it was there before the approval"
        context = {
            "resolved_refs": values,
            "plan_id": plan.id,
            "revision": plan.revision,
            "idempotency_key": plan.idempotency_key,
        }
        try:
            outcome = await outcome_of(self._plans.dispatcher, plan.shown()["actions"], context)
        except PlanError as error:
            reason = str(error)
            return lambda known: _failed(known, reason)
        return lambda known: replace(known, status="executed", outcome=outcome, claim=None)

    async def _end(self, claim: Claim, ended: Callable[[StoredPlan], StoredPlan]) -> StoredPlan:
        """Note how the execution ended, unless it was given up meanwhile."""

        def end(known: StoredPlan | None) -> StoredPlan:
            known = _there(self._id, known)
            return ended(known) if _holds(known, claim) else known

        return await self._plans._change(self._id, end)

    async def _renew(self, claim: Claim) -> bool:
        plan = await self._end(claim, lambda known: replace(known, claim=claim.renewed()))
        return _holds(plan, claim)


def _there(plan_id: str, plan: StoredPlan | None) -> StoredPlan:
    if plan is None:
        raise PlanError(plan_id, "unknown", "there is no such plan")
    return plan


def _has(plan: StoredPlan, spec: PlanSpec, actions: Any, context: Any) -> bool:
    given = [plan.id, spec.name, plan.revision, actions, context]
    return plan.digest == _digest(given)


def _digest(revision: list[Any]) -> str:
    return hashlib.sha256(canonical(revision)).hexdigest()


def _references(plan: StoredPlan) -> Iterable[Mapping[str, Any]]:
    return (reference for action in plan.actions for reference in action["references"])


def _is_abandoned(plan: StoredPlan) -> bool:
    """Whether it is recorded as executing, though no process executes it."""
    return plan.status == "executing" and not (plan.claim is not None and plan.claim.holds)


def _holds(plan: StoredPlan, claim: Claim) -> bool:
    """Whether it is executing under this claim, however long that lasts."""
    own = plan.claim is not None and plan.claim.token == claim.token
    return own and plan.status == "executing"


def _failed(plan: StoredPlan, reason: str, *, unknown: bool = False) -> StoredPlan:
    outcome = {"error": reason} | ({"unknown": True} if unknown else {})
    return replace(plan, status="failed", outcome=outcome, claim=None)


def _not_draft(plan: StoredPlan) -> str:
    return f"it is {plan.status}, and only a draft can be replaced; use another planId"


def _refused(plan_id: str, decision: Decision) -> dict[str, Any]:
    told = {} if decision.feedback is None else {"feedback": decision.feedback}
    if decision.outcome == "revise":
        partial = dict(decision.partial or {})
        return {"planId": plan_id, "should_revise": True, "partial": partial, **told}
    return {"error": "rejected", **told, "planId": plan_id}


def _result(plan: StoredPlan) -> dict[str, Any]:
    """Return what a call of `executePlan` gives for a plan that was begun."""
    outcome = dict(plan.outcome or {})
    match plan.status:
        case "executed":
            return {"planId": plan.id, "status": plan.status, **outcome}
        case "failed":
            told = {"outcome": {"unknown": True}} if outcome.get("unknown") else {}
            return {"error": f"{outcome['error']}", "planId": plan.id, **told}
        case _:
            return {"error": f"plan {plan.id!r} is executed by another call", "planId": plan.id}
