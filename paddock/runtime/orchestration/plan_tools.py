"""The tools for plans and references that agents have by their roles."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.approval import ApprovalRequest, Decision
from paddock.runtime.orchestration import roles
from paddock.runtime.orchestration.policy import plan_rule
from paddock.runtime.orchestration.spec import PlanSpec
from paddock.runtime.orchestration.tools import RuntimeTool
from paddock.runtime.orchestration.wire import approval_decision, approval_required
from paddock.runtime.tools.arguments import object_schema

if TYPE_CHECKING:
    from paddock.runtime.core.context import RunContext
    from paddock.runtime.core.tool import ToolInvocation
    from paddock.runtime.orchestration.records import StoredPlan
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.spec import AgentSpec

__all__ = ["ExecutePlan", "GetPlan", "GlimpseRef", "ResolveRef", "StorePlan"]

_PLAN_ID = {"type": "string", "description": "The plan's id, which you choose."}
_REFERENCE = object_schema(
    required=["kind", "id"],
    kind={"type": "string", "description": "The reference's kind."},
    id={"type": "string", "description": "The reference's id."},
)


class StorePlan(RuntimeTool):
    name = roles.STORE_PLAN
    is_resumable = True
    description = "Store a plan as a draft, or a new revision of a draft."

    def __init__(self, agent: AgentSpec) -> None:
        plan = agent.plan
        name = plan.name if isinstance(plan, PlanSpec) else plan
        known = "" if name is None else f", such as {name!r}"
        self.parameters = object_schema(
            required=["specName", "planId", "body"],
            specName={"type": "string", "description": f"The kind of the plan{known}."},
            planId=_PLAN_ID,
            body={"type": "object", "description": _body(plan)},
        )

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        plans, plan_id = _run(invocation).team.plans, arguments["planId"]
        again = invocation.context.is_resumed
        return await plans.save(arguments["specName"], plan_id, arguments["body"], again=again)


class GetPlan(RuntimeTool):
    name = roles.GET_PLAN
    is_resumable = True
    description = "Return a stored plan with its status; null if there is none."
    parameters = object_schema(required=["planId"], planId=_PLAN_ID)
    is_concurrent = True

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        return await _run(invocation).team.plans.get(arguments["planId"])


class ExecutePlan(RuntimeTool):
    name = roles.EXECUTE_PLAN
    is_resumable = True
    description = "Have a stored plan approved, and execute it once. Return what came of it."
    parameters = object_schema(required=["planId"], planId=_PLAN_ID)

    def __init__(self, agent: AgentSpec) -> None:
        self._agent = agent

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        run = _run(invocation)
        gate = _Gate(run, self._agent, invocation.context)
        return await run.team.plans.execute(arguments["planId"], gate=gate, changed=gate.changed)


class ResolveRef(RuntimeTool):
    name = roles.RESOLVE_REF
    is_resumable = True
    description = "Return the whole value of a reference."
    parameters = _REFERENCE
    is_concurrent = True

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        return {**arguments, "value": await _run(invocation).references.resolve(arguments)}


class GlimpseRef(RuntimeTool):
    name = roles.GLIMPSE_REF
    is_resumable = True
    description = "Return the summary of a reference, without its value."
    parameters = _REFERENCE
    is_concurrent = True

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        return {**arguments, "glimpse": await _run(invocation).references.glimpse(arguments)}


@dataclass(frozen=True)
class _Gate:
    """The `PlanGate` of one call of ``executePlan``."""

    run: TeamRun
    agent: AgentSpec
    context: RunContext[Any]

    async def requires_approval(self, plan: StoredPlan) -> bool:
        return plan_rule(self.run.team.spec, self.agent) == "always"

    async def ask(self, plan: StoredPlan) -> Decision:
        """Have the request wait in the store, as long as it may; the same one when a call is
        continued by another process."""
        store, request = self.run.team.store.approvals, self._request(plan)
        known = await store.ask(request)
        if known.answer is None:
            await self._say(request, known.request)
        decision = await store.wait(request.id)
        await self.run.emit(approval_decision(request.id, decision))
        return decision

    async def _say(self, asked: ApprovalRequest, kept: ApprovalRequest) -> None:
        event = approval_required(
            asked.id,
            kind="plan",
            target=str(kept.args["id"]),
            payload=kept.args,
            run=self.run,
            agent_path=asked.agent_path,
            expires_at=kept.expires_at,
            digest=asked.digest,
        )
        await self.run.emit(event)

    async def changed(self, plan_id: str, before: str, after: str) -> None:
        """Say that the status of a plan has changed."""
        data = {"planId": plan_id, "from": before, "to": after}
        await self.run.emit({"type": "plan-status-change", "data": data})

    def _request(self, plan: StoredPlan) -> ApprovalRequest:
        context, now = self.context, dt.datetime.now(dt.UTC)
        ttl = self.run.team.approval_ttl
        call = (self.run.run_id, context.session_id, context.call_id, plan.digest)
        return ApprovalRequest(
            id=hashlib.sha256("\0".join(call).encode()).hexdigest()[:12],
            call_id=context.call_id,
            tool=roles.EXECUTE_PLAN,
            args=context.redactor.value(plan.shown()),
            session_id=self.run.run_id,
            run_id=context.run_id,
            digest=plan.digest,
            asked_at=now,
            agent_path=context.agent_path,
            expires_at=None if ttl is None else now + dt.timedelta(seconds=ttl),
        )


def _run(invocation: ToolInvocation) -> TeamRun:
    run: TeamRun = invocation.context.deps
    return run


def _body(plan: PlanSpec | str | None) -> str:
    """Return the description of a plan's body for the model; storing a plan checks the body."""
    said = "The plan: its `actions`, and other fields."
    return (
        f"{said} Its JSON Schema: {json.dumps(plan.schema)}" if isinstance(plan, PlanSpec) else said
    )
