"""Questions of tools, in the middle of a call, to the approver of calls.

They are asked like approvals, and wait in the same store; but a call that has begun cannot wait for
another process, so a question ends with its call.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.errors import ApprovalError
from paddock.runtime.approvals.responders import ask
from paddock.runtime.core.approval import ApprovalInterrupt
from paddock.runtime.core.events import ApprovalRequested, ApprovalResolved

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.runtime.approvals.run_approvals import RunApprovals
    from paddock.runtime.core.approval import ApprovalRequest, Decision, Question
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.rules import Rules

__all__ = ["Questions"]

WAITS = "a tool asks this in the middle of its call, and waits for the answer"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Asks the questions of one run's tools, under the rules of that moment."""

    out: Emitter
    rules: Callable[[], Rules]
    approvals: RunApprovals

    async def ask(self, question: Question) -> Decision | None:
        """See `RunContext.ask`. No question is asked if calls are approved automatically: an answer
        would claim that a person gave it."""
        rules = self.rules()
        if rules.approvals == "automatic":
            return None
        request = self._request(question, rules)
        decision: Decision | None = None
        if rules.callback is not None:
            await self.out.emit(ApprovalRequested.of(request, None))
            with contextlib.suppress(ApprovalInterrupt):  # then it waits, if it can
                decision = await ask(rules.callback, question.name, question.args)
        if decision is None and self.approvals.wait:
            decision = await self._wait(request)
        if decision is not None:
            await self.out.emit(
                ApprovalResolved.of(
                    decision,
                    call_id="",
                    tool_name=request.tool,
                    digest=request.digest,
                    approval_id=request.id,
                )
            )
        return decision

    async def _wait(self, request: ApprovalRequest) -> Decision | None:
        """Return the answer that is given in the store; None if somebody withdrew the request."""
        self.approvals.asked.add(request.id)
        await self.approvals.store.ask(request)
        try:
            await self.out.emit(ApprovalRequested.of(request, WAITS))
            return await self.approvals.store.wait(request.id)
        except ApprovalError:
            return None
        except BaseException:
            await finish(self.approvals.store.withdraw([request.id]))
            raise

    def _request(self, question: Question, rules: Rules) -> ApprovalRequest:
        return self.approvals.request(
            call_id="",
            tool=question.name,
            args=question.args,
            rules=rules,
            out=self.out,
            parameters=question.parameters,
        )
