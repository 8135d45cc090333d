"""Approvals of a runtime's runs, as its users see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from paddock.errors import ApprovalError
from paddock.runtime.core.approval import Decision
from paddock.runtime.orchestration.roles import EXECUTE_PLAN

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from paddock.runtime.core.approval import (
        Approval,
        ApprovalOutcome,
        ApprovalRequest,
        ApprovalStatus,
        ApprovalStore,
    )

__all__ = ["RuntimeApproval", "ToolApprovalStore", "kind_of", "respond", "runs_as_asked"]

NO_PARTIAL = "partial is for plans: a tool's call that is to be revised does not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeApproval:
    """A call of a tool, or the execution of a plan, that somebody has to approve.

    `agent_path` has the names of the agents from the first one on, as in ``lead/planner``.
    `target` is the tool or the plan, and `payload` the arguments or the whole plan. `digest` is
    the SHA-256 of what is approved. Times are in UTC.
    """

    id: str
    run_id: str
    agent_path: str
    kind: Literal["tool", "plan"]
    target: str
    payload: Mapping[str, Any]
    digest: str
    asked_at: dt.datetime
    expires_at: dt.datetime | None
    status: ApprovalStatus
    decision: Decision | None = None

    @classmethod
    def of(cls, approval: Approval) -> RuntimeApproval:
        request = approval.request
        kind = kind_of(request)
        return cls(
            id=request.id,
            run_id=request.session_id,
            agent_path="/".join(request.agent_path),
            kind=kind,
            target=request.tool if kind == "tool" else str(request.args.get("id")),
            payload=request.args,
            digest=request.digest,
            asked_at=request.asked_at,
            expires_at=request.expires_at,
            status=approval.status,
            decision=approval.answer,
        )


def kind_of(request: ApprovalRequest) -> Literal["tool", "plan"]:
    """Return what is asked for. Calls of ``executePlan`` have no rule of their own."""
    return "plan" if request.tool == EXECUTE_PLAN else "tool"


def runs_as_asked(request: ApprovalRequest) -> bool:
    """Whether it is for a call that runs with these arguments, or not at all."""
    return kind_of(request) == "tool" and not request.is_question


async def respond(
    store: ApprovalStore,
    approval_id: str,
    outcome: ApprovalOutcome,
    *,
    feedback: str | None,
    partial: Mapping[str, Any] | None,
    by: str | None,
) -> RuntimeApproval:
    """Answer a request in `store`; see `Runtime.respond_to_approval`."""
    decision = Decision(outcome=outcome, feedback=feedback, partial=partial, by=by)
    known = await store.get(approval_id)
    if partial is not None and known is not None and runs_as_asked(known.request):
        raise ApprovalError(approval_id, "arguments", NO_PARTIAL)
    return RuntimeApproval.of(await store.resolve(approval_id, decision))


@dataclass(frozen=True)
class ToolApprovalStore:
    """An `ApprovalStore` for calls of tools, where one that is to be revised does not run,
    whatever arguments came with the answer."""

    store: ApprovalStore

    async def ask(self, request: ApprovalRequest) -> Approval:
        return _refusing(await self.store.ask(request))

    async def get(self, approval_id: str) -> Approval | None:
        known = await self.store.get(approval_id)
        return None if known is None else _refusing(known)

    async def list(
        self, *, session_id: str | None = None, status: ApprovalStatus | None = None
    ) -> Sequence[Approval]:
        found = await self.store.list(session_id=session_id, status=status)
        return [_refusing(each) for each in found]

    async def resolve(self, approval_id: str, decision: Decision) -> Approval:
        return await self.store.resolve(approval_id, decision)

    async def withdraw(self, approval_ids: Iterable[str]) -> None:
        await self.store.withdraw(approval_ids)

    async def wait(self, approval_id: str) -> Decision:
        decision = await self.store.wait(approval_id)
        known = await self.store.get(approval_id)
        return decision if known is None else _refusal(known.request, decision)


def _refusing(approval: Approval) -> Approval:
    decision = approval.decision
    if decision is None:
        return approval
    return replace(approval, decision=_refusal(approval.request, decision))


def _refusal(request: ApprovalRequest, decision: Decision) -> Decision:
    return replace(decision, partial=None) if runs_as_asked(request) else decision
