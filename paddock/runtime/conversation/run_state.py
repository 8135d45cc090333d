"""A run that waits for approvals, as a value: to be kept anywhere, and gone on with later.

Knows no file: where it is kept is its holder's business.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from paddock.errors import TraceError
from paddock.runtime.conversation.records import approval_record, decision_record
from paddock.runtime.conversation.state import State
from paddock.runtime.core.approval import Decision, ToolApprovalItem, ToolDecision
from paddock.runtime.core.events import RUN_STATUSES, SessionStatus
from paddock.runtime.core.model import tool_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.core.model import Message

__all__ = ["RunState"]

UNKNOWN = "Unknown: the run ended while it ran. It may have had its effect, wholly or in part."


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """`history` is in OpenAI chat format, without the system prompt; `totals` are the
    session's tokens and cost. `decisions` were taken while others were still waited for;
    nothing of the turn has run. `status` is how the run ended: one that was decided and then
    failed waits for nothing, and can be gone on with, too.

    Go on with ``Session(agent, state=run_state.to_state())``.
    """

    session_id: str
    system_prompt: str
    history: list[Message]
    totals: dict[str, Any]
    pending_approvals: tuple[ToolApprovalItem, ...] = ()
    decisions: tuple[ToolDecision, ...] = ()
    status: SessionStatus = "interrupted"

    @classmethod
    def of(cls, state: State, system_prompt: str) -> Self:
        """What `state` is now; later changes of it are not seen.

        A call that has begun and has no result gets one that says so, or it would run again.
        """
        begun = [tool_message(call.id, UNKNOWN) for call in state.open_calls if call.started]
        return cls(
            session_id=state.session_id or "",
            system_prompt=system_prompt,
            history=[*(dict(message) for message in state.messages), *begun],
            totals={**state.usage, "run_count": state.run_count},
            pending_approvals=state.pending_approvals,
            decisions=state.decisions,
            status=state.status,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, which JSON can hold."""
        return copy.deepcopy(
            {
                "session_id": self.session_id,
                "system_prompt": self.system_prompt,
                "history": self.history,
                "totals": self.totals,
                "pending_approvals": [asdict(item) for item in self.pending_approvals],
                "decisions": [asdict(decision) for decision in self.decisions],
                "status": self.status,
            }
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. Raises `TraceError` for what is no such thing."""
        try:
            given = copy.deepcopy(dict(data))
            waiting = tuple(ToolApprovalItem(**item) for item in given.pop("pending_approvals"))
            decided = tuple(map(_decision, given.pop("decisions", ())))
            made = cls(**given, pending_approvals=waiting, decisions=decided)
        except (TypeError, KeyError, ValueError) as error:
            raise TraceError(f"this is not the state of a run: {error!r}") from error
        made.to_state()
        return made

    def to_state(self) -> State:
        """Return a state that continues from here. Raise `TraceError` for an invalid history."""
        state = State(self.session_id)
        self.restore(state)
        return state

    def restore(self, state: State) -> None:
        """Bring `state`, which has seen nothing yet, to here. Raises `TraceError`."""
        try:
            state.replay([{"type": "message", **message} for message in self.history])
            state.replay([approval_record(item) for item in self.pending_approvals])
            state.replay([decision_record(decision) for decision in self.decisions])
            if self.status not in {"created", "running", *RUN_STATUSES}:
                raise TypeError(f"{self.status!r} is no status of a run")
            state.replay([{"type": "usage", **self.totals, "status": self.status}])
        except TypeError as error:
            raise TraceError(f"this is not the state of a run: {error}") from error


def _decision(data: Mapping[str, Any]) -> ToolDecision:
    return ToolDecision(**{**data, "decision": Decision(**data["decision"])})
