"""What happens in a run, as typed events: the one stream that every face is a projection of.

The trace's lines (`records`), the SDK's flat `AgentEvent` (`results`) and whatever
comes later are pure functions of these. Knows none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from paddock.process import CommandFinished
from paddock.runtime.core.approval import Decision
from paddock.runtime.core.model import ModelRetry

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.approval import ApprovalOutcome, ApprovalRequest, Approvals
    from paddock.runtime.core.content import ImagePart
    from paddock.runtime.core.model import Message, Usage

__all__ = [
    "RUN_STATUSES",
    "AnswerCut",
    "ApprovalRequested",
    "ApprovalResolved",
    "ChildModelFinished",
    "CommandFinished",
    "CompactionFinished",
    "CompactionStarted",
    "CompactionTrigger",
    "Event",
    "MessageAdded",
    "ModelFinished",
    "ModelRetry",
    "ModelStarted",
    "ProvisionFinished",
    "ProvisionStarted",
    "ReasoningAdded",
    "RulesChanged",
    "RunCancelled",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "RunStatus",
    "SessionStatus",
    "TextAdded",
    "ToolBlocked",
    "ToolFinished",
    "ToolProgress",
    "ToolStarted",
    "TraceRepaired",
    "TurnFinished",
    "check_run_status",
]

RunStatus = Literal[
    "completed", "truncated", "max_turns", "budget", "interrupted", "cancelled", "error"
]
"""How a run ended. `truncated`: the answer met the limit of its length. `max_turns`: the bound
on model calls was reached with work left.
`budget`: so was a bound of its `Budget`.
`interrupted`: it waits for an approval, or its process died."""

RUN_STATUSES: frozenset[str] = frozenset(get_args(RunStatus))

SessionStatus = Literal["created", "running"] | RunStatus
"""What became of a session: `created` before its first run, then as that run is or ended."""

CompactionTrigger = Literal["auto", "manual"]


def check_run_status(status: str) -> None:
    """Raise `ValueError` for what is not a `RunStatus`."""
    if status not in RUN_STATUSES:
        known = ", ".join(sorted(RUN_STATUSES))
        raise ValueError(f"{status!r} is not a status; give one of {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """`run_id` counts the session's runs from 1. One that is `resumed` has no prompt: it
    continues with the calls that waited for an approval. `profile`, `approvals` and
    `policy_digest` are as in `RulesChanged`. `provider` is whose protocol is spoken, where the
    configuration says so. `task_id` is what it works on, where somebody has to know it again."""

    session_id: str
    run_id: int
    prompt: str
    profile: str
    approvals: Approvals
    policy_digest: str
    model: str = ""
    provider: str | None = None
    backend: str = ""
    resumed: bool = False
    task_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesChanged:
    """The rules for tool calls changed during a run; these apply from the next call on.
    `policy_digest` is the SHA-256 of the profile's contents and the kind of backend."""

    profile: str
    approvals: Approvals
    policy_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAdded:
    """A message joined the history that no other event brings."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStarted:
    """`context_size` is an estimate, in tokens."""

    model: str
    context_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAdded:
    """A piece of the answer's text. It is not in the trace; the whole message is."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningAdded:
    """A piece of what the model thinks, where its service shows that. It is not in the trace."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFinished:
    """`call_index` counts the run's model calls from 1. With `is_cut_short` the answer was
    cancelled or broke off, and `usage` is an estimate where the service said nothing.
    `finish_reason` is in the service's words."""

    model: str
    usage: Usage
    call_index: int
    finish_reason: str = ""
    is_cut_short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCut:
    """The answer's text met the limit of its length, and so ends in the middle."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildModelFinished:
    """A model call of an agent that works for the tool call `call_id`, in session
    `session_id`. It is not in the history, but it is paid for here."""

    call_id: str
    session_id: str
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested:
    """A call needs an approval. Without a `note` a callback is asked, and the run continues.
    Without a `call_id` it is a question of a tool, in the middle of a call.

    With one the request waits in the store of approvals, as `approval_id`, until it is answered
    or `expires_at` (UTC). `note` says why. `digest` says what exactly is to be approved.
    """

    approval_id: str
    call_id: str
    tool_name: str
    arguments: Mapping[str, Any]
    digest: str
    expires_at: dt.datetime | None = None
    note: str | None = None

    @classmethod
    def of(cls, request: ApprovalRequest, note: str | None) -> Self:
        return cls(
            approval_id=request.id,
            call_id=request.call_id,
            tool_name=request.tool,
            arguments=request.args,
            digest=request.digest,
            expires_at=request.expires_at,
            note=note,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalResolved:
    """A call was approved, refused or revised. `digest` binds the answer to the arguments that
    were asked about; `partial` has those that replace some of them. `by` names who answered.
    An answer from the store of approvals has an `approval_id`.
    """

    call_id: str
    tool_name: str
    outcome: ApprovalOutcome
    digest: str
    feedback: str | None = None
    partial: Mapping[str, Any] | None = None
    by: str | None = None
    approval_id: str = ""

    @classmethod
    def of(
        cls, decision: Decision, *, call_id: str, tool_name: str, digest: str, approval_id: str = ""
    ) -> Self:
        return cls(
            call_id=call_id,
            tool_name=tool_name,
            outcome=decision.outcome,
            digest=digest,
            feedback=decision.feedback,
            partial=decision.partial,
            by=decision.by,
            approval_id=approval_id,
        )

    @property
    def decision(self) -> Decision:
        return Decision(
            outcome=self.outcome, feedback=self.feedback, partial=self.partial, by=self.by
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """The intent: from here on the call may have had an effect. One that is `resumable` may be
    entered again in a later run."""

    call_id: str
    tool_name: str
    arguments: Mapping[str, Any]
    resumable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolProgress:
    """What a call that runs says about itself; see `RunContext.progress`. The trace
    does not have it."""

    call_id: str
    tool_name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFinished:
    """The result of a call that was started: a text, and images. `duration` is in seconds."""

    call_id: str
    tool_name: str
    content: str
    success: bool
    duration: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[ImagePart] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBlocked:
    """A call was refused; it did not run. `content` is what the model reads."""

    call_id: str
    tool_name: str
    arguments: Mapping[str, Any]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionStarted:
    """A call needs the session's sandbox, and it is being made by the backend of this name."""

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionFinished:
    """The sandbox is ready, or could not be made: then `sandbox_id` is None and `error` is the
    name of the exception's class. `duration` is in seconds."""

    backend: str
    duration: float
    sandbox_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionStarted:
    """The history is about to be replaced by a summary of it."""

    trigger: CompactionTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionFinished:
    """The history is now the messages `kept`, and `summary` if that is not empty. Sizes are in
    tokens."""

    kept: Sequence[Message]
    summary: str
    tokens_before: int
    tokens_after: int
    trigger: CompactionTrigger


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFinished:
    """The agent's answer to the prompt. `run` is this run's usage, `total` the session's."""

    text: str
    run: Usage
    total: Usage
    context_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    """The run ends early, and `message` says why."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled:
    """The run was cancelled; `message` says where, `reason` why."""

    message: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRepaired:
    """The trace ended in the middle of a record; these bytes were moved to `quarantine`."""

    torn_bytes: int
    quarantine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """Always a run's last event. `total` and `run_count` are the session's, before this end."""

    run_id: int
    status: RunStatus
    run: Usage
    total: Usage
    run_count: int


Event = (
    RunStarted
    | RulesChanged
    | MessageAdded
    | ModelStarted
    | ReasoningAdded
    | TextAdded
    | ModelRetry
    | AnswerCut
    | ModelFinished
    | ChildModelFinished
    | ApprovalRequested
    | ApprovalResolved
    | ToolStarted
    | ToolProgress
    | ToolFinished
    | ToolBlocked
    | ProvisionStarted
    | ProvisionFinished
    | CommandFinished
    | CompactionStarted
    | CompactionFinished
    | TurnFinished
    | RunFailed
    | RunCancelled
    | RunFinished
    | TraceRepaired
)
