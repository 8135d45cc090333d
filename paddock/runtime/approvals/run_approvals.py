"""How the calls of one run get approvals, and the answers that a resumed run is given."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.errors import ApprovalError, SessionError
from paddock.runtime.approvals.revising import check_revision, parameters_of
from paddock.runtime.core.approval import ApprovalRequest
from paddock.runtime.core.events import ApprovalResolved
from paddock.runtime.core.rules import call_digest
from paddock.runtime.tools.arguments import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from paddock.runtime.core.approval import ApprovalStore, Decision, OnRefusal, ToolApprovalItem
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.rules import Rules

__all__ = ["RunApprovals"]


@dataclass(frozen=True, kw_only=True)
class RunApprovals:
    """How the calls of one run get approvals.

    Requests are kept in `store` under `session_id`, and expire after `timeout` seconds. With
    `wait` the run waits for the answers; without, it ends and is resumed. `asked` has the ids
    of its requests that may be pending, and `below` those of agents that work for it.
    """

    store: ApprovalStore
    session_id: str
    wait: bool = False
    timeout: float | None = None
    on_refusal: OnRefusal = "end_turn"
    asked: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)

    def request(
        self,
        *,
        call_id: str,
        tool: str,
        args: Mapping[str, Any],
        rules: Rules,
        out: Emitter,
        parameters: Mapping[str, Any] | None,
    ) -> ApprovalRequest:
        """Return a new request of the run whose events go to `out`, under `rules`."""
        now = dt.datetime.now(dt.UTC)
        return ApprovalRequest(
            id=uuid.uuid4().hex[:12],
            call_id=call_id,
            tool=tool,
            args=out.redactor.value(dict(args)),
            session_id=self.session_id,
            run_id=out.run_id,
            digest=call_digest(tool, args, rules.policy_digest),
            asked_at=now,
            agent_path=out.origin.agent_path,
            expires_at=None if self.timeout is None else now + dt.timedelta(seconds=self.timeout),
            parameters=parameters,
        )

    async def withdraw(self, *, but: Iterable[str], left: bool) -> None:
        """Withdraw what was asked, except for the ids `but`.

        With `left`, that includes what a process had asked for that died.
        """
        asked = self.asked | self.below
        if left:
            found = await self.store.list(session_id=self.session_id, status="pending")
            asked.update(each.request.id for each in found)
        await self.store.withdraw(asked.difference(but))

    async def check(
        self, waiting: Iterable[ToolApprovalItem], decisions: Mapping[str, Decision], rules: Rules
    ) -> list[ApprovalResolved]:
        """Return `decisions` about calls that wait, by their ids, as events.

        Raises `SessionError` where a decision is about nothing that waits, lets another call run
        than the one that was asked for, revises it so that it does not fit its tool, or differs
        from what was answered before.
        """
        items = {item.tool_call_id: item for item in waiting}
        self.asked.update(item.approval_id for item in items.values())
        if unknown := sorted(decisions.keys() - items.keys()):
            raise SessionError(f"no such call waits for an approval: {', '.join(unknown)}")
        return [await self._check(items[call], given, rules) for call, given in decisions.items()]

    async def _check(
        self, item: ToolApprovalItem, decision: Decision, rules: Rules
    ) -> ApprovalResolved:
        call = f"call {item.tool_call_id}"
        digest = call_digest(item.tool_name, item.tool_args, rules.policy_digest)
        if decision.runs and digest != item.digest:
            raise SessionError(
                f"{call} cannot be approved: its arguments, the profile or the "
                "backend are not those it was asked for with"
            )
        try:
            parameters = parameters_of(rules.registry, item.tool_name)
            check_revision(item.tool_args, decision, parameters)
        except ArgumentError as error:
            raise SessionError(f"{call} cannot be revised so: {error}") from error
        known = await self.store.get(item.approval_id)
        if known is not None and known.answer not in (None, decision):
            if known.decision is None:
                raise SessionError(f"{call} can no longer be decided: {known.answer.feedback}")
            raise SessionError(f"{call} was answered already: {known.decision.outcome}")
        return ApprovalResolved.of(
            decision, call_id=item.tool_call_id, tool_name=item.tool_name, digest=digest
        )

    async def answer(
        self, waiting: Iterable[ToolApprovalItem], decided: Iterable[ApprovalResolved]
    ) -> None:
        """Answer in the store what waits there. Raises `ApprovalError` if somebody else has
        answered otherwise."""
        ids = {item.tool_call_id: item.approval_id for item in waiting}
        for event in decided:
            try:
                await self.store.resolve(ids[event.call_id], event.decision)
            except ApprovalError as error:
                if error.code != "unknown":  # it waited elsewhere, and is gone on with here
                    raise
