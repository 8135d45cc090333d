"""Approvals as plain data, and the interface of those who decide. Asks no one itself.

A policy says which calls need an approval. A request waits in a store until somebody answers
it by a decision, or its time is over. Implementations are in `paddock.runtime.approvals`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from paddock.errors import ConfigError
from paddock.runtime.core.text import clean_text

__all__ = [
    "Approval",
    "ApprovalCallback",
    "ApprovalInterrupt",
    "ApprovalOutcome",
    "ApprovalPolicy",
    "ApprovalRequest",
    "ApprovalStatus",
    "ApprovalStore",
    "Approvals",
    "Decision",
    "OnRefusal",
    "ProposedCall",
    "Question",
    "ToolApprovalItem",
    "ToolDecision",
    "check_on_refusal",
]

ApprovalOutcome = Literal["approve", "reject", "revise"]

ApprovalStatus = Literal["pending", "answered", "expired", "withdrawn"]
"""Of a request in a store. `withdrawn`: its run went on, or ended, without the answer."""

Approvals = Literal["asked", "automatic", "later"]
"""How calls that need an approval get one: somebody is asked, all are approved, or they wait."""

OnRefusal = Literal["end_turn", "continue"]
"""What a refused call does. `end_turn`: the calls after it do not run, and the agent waits for
the next prompt. `continue`: the model reads the refusal and is asked again; the other calls of
the turn are decided for themselves."""


def check_on_refusal(value: str | None) -> OnRefusal:
    """Return `value`, or the default for None. Raise `ConfigError` for anything else."""
    match value:
        case None:
            return "end_turn"
        case "end_turn" | "continue":
            return value
        case _:
            raise ConfigError(f"on_refusal {value!r}: give 'end_turn' or 'continue'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer to a request, and who gave it.

    `feedback` reaches the model. `revise` with `partial` runs the call with those of its
    arguments replaced; without `partial` the call does not run, and the model is asked to revise
    it by `feedback`. Raises `ConfigError` for another outcome, and for a `partial` that is no
    JSON object or comes with another outcome than `revise`.
    """

    outcome: ApprovalOutcome
    feedback: str | None = None
    partial: Mapping[str, Any] | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        known = get_args(ApprovalOutcome)
        if self.outcome not in known:
            raise ConfigError(f"outcome {self.outcome!r}: give one of {', '.join(known)}")
        if self.feedback is not None:
            object.__setattr__(self, "feedback", clean_text(str(self.feedback)))
        if self.partial is None:
            return
        if self.outcome != "revise":
            raise ConfigError(f"partial arguments come with 'revise', not with {self.outcome!r}")
        try:
            json.dumps(dict(self.partial.items()), allow_nan=False)
        except AttributeError:
            kind = type(self.partial).__name__
            raise ConfigError(f"partial: give a mapping of arguments, not {kind}") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"partial: the arguments are not JSON: {error}") from error

    @property
    def runs(self) -> bool:
        """Whether the call runs, perhaps with other arguments."""
        return self.outcome == "approve" or self.partial is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """A call that waits for an approval, as shown to someone who did not watch the run.

    One without a `call_id` is a `Question` that a tool asks in the middle of a call. The same call
    asked for again has the same `id`. `agent_path` has the names of the tools by
    which the agent was asked that makes the call; it is empty for a session's own. `digest` is
    the SHA-256 of what is approved: this tool, these arguments, in this kind of sandbox under
    this profile. `parameters` is the JSON schema of the arguments, where the tool is known.
    Times are in UTC; a request without `expires_at` waits for ever.
    """

    id: str
    call_id: str
    tool: str
    args: Mapping[str, Any]
    session_id: str
    run_id: int
    digest: str
    asked_at: dt.datetime
    agent_path: tuple[str, ...] = ()
    expires_at: dt.datetime | None = None
    parameters: Mapping[str, Any] | None = None

    @property
    def is_question(self) -> bool:
        """Whether a tool asks in the middle of a call, and not the model for a call."""
        return not self.call_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of a tool to the approvers, in the middle of a call.

    It is shown like a call of the tool `name` with the arguments `args`. A decision that revises
    it replaces some of them; `parameters` is the JSON schema that they then have to fit.
    """

    name: str
    args: Mapping[str, Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a store knows of a request."""

    request: ApprovalRequest
    decision: Decision | None = None
    decided_at: dt.datetime | None = None
    withdrawn: bool = False

    @property
    def status(self) -> ApprovalStatus:
        """What it is now: a request expires without anybody doing anything."""
        if self.decision is not None:
            return "answered"
        if self.withdrawn:
            return "withdrawn"
        expires = self.request.expires_at
        return (
            "expired" if expires is not None and expires <= dt.datetime.now(dt.UTC) else "pending"
        )

    @property
    def answer(self) -> Decision | None:
        """The decision; a refusal that says why if the request expired; None if it is open."""
        if self.status != "expired":
            return self.decision
        expires = self.request.expires_at
        return Decision(outcome="reject", feedback=f"nobody answered before {expires:%F %T} UTC")


class ApprovalStore(Protocol):
    """Keeps requests and decisions, for any number of tasks, threads and processes.

    Every method but `wait` bounds its own waits, and has had its effect or none when it is
    cancelled. What was kept survives the end of the process where the store lasts longer.
    Raises `SessionError` where it cannot be read or written.
    """

    async def ask(self, request: ApprovalRequest) -> Approval:
        """Keep `request`, and return what is known of it. One that is there already stays as it
        is, with its decision; one that was withdrawn waits again."""
        ...

    async def get(self, approval_id: str) -> Approval | None:
        """Return what is known of a request; None if there is none."""
        ...

    async def list(
        self, *, session_id: str | None = None, status: ApprovalStatus | None = None
    ) -> Sequence[Approval]:
        """Return the requests of one session, or of all, oldest first."""
        ...

    async def resolve(self, approval_id: str, decision: Decision) -> Approval:
        """Answer a request that is pending. Of several answers the first one counts.

        The same decision once more changes nothing. Raises `ApprovalError` for a request that
        is unknown, answered otherwise, expired or withdrawn, and for revised arguments that do
        not fit `ApprovalRequest.parameters`.
        """
        ...

    async def withdraw(self, approval_ids: Iterable[str]) -> None:
        """Withdraw the pending ones: their callers no longer wait for an answer."""
        ...

    async def wait(self, approval_id: str) -> Decision:
        """Wait until a request is answered or has expired, which is a refusal.

        Raises `ApprovalError` for one that is unknown or withdrawn.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedCall:
    """A call that a model wants to make, for a policy to look at. `args` is a copy."""

    tool: str
    args: dict[str, Any]
    session_id: str
    agent_path: tuple[str, ...] = ()


class ApprovalPolicy(Protocol):
    """Says which calls need an approval."""

    async def requires_approval(self, call: ProposedCall) -> bool:
        """Whether `call` has to be approved. Anything but False, and an exception, means yes."""
        ...


ApprovalCallback = Callable[[str, dict[str, Any]], Awaitable[bool | Decision] | bool | Decision]
"""Given a tool's name and a call's arguments; True, or a `Decision`, lets it run. May be async;
one that is not runs in a thread of its own."""


class ApprovalInterrupt(Exception):
    """Raised by an approval callback that cannot answer now: the request waits in the store.

    The call stays open, and nothing of its turn has run.
    """


@dataclass(frozen=True, slots=True)
class ToolApprovalItem:
    """A call that waits for somebody to approve it; see `Session.resume`.

    `digest` (SHA-256) says what is approved: this tool, these arguments, in this kind of
    sandbox under this profile. `approval_id` is its name in an `ApprovalStore`.
    """

    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any]
    digest: str
    approval_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDecision:
    """An answer that was given for a call which has no result yet; see `ToolApprovalItem`."""

    tool_call_id: str
    tool_name: str
    digest: str
    decision: Decision

    @property
    def approved(self) -> bool:
        """Whether the call runs."""
        return self.decision.runs
