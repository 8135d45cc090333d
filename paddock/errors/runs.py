"""What tools, models, plans and sessions raise."""

from __future__ import annotations

from typing import Literal

from paddock.errors.base import PaddockError

__all__ = [
    "ApprovalError",
    "BudgetExceeded",
    "ContextOverflow",
    "ModelError",
    "ObservabilityInitializationError",
    "PlanError",
    "ReferenceFailed",
    "RunClaimed",
    "RunNotCompleted",
    "SessionError",
    "SessionLocked",
    "ToolError",
    "TraceError",
    "TraceWriteError",
]


class ToolError(PaddockError):
    """Raise it in a tool that cannot do what it was asked, to tell the model what to do better.

    The model reads the text and nothing else; any other exception is reported to it as a failure
    of the tool.
    """


class ModelError(PaddockError):
    """The model's service failed and retrying did not help.

    `status` is the HTTP status, or None when no answer came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ContextOverflow(ModelError):
    """The service says that the request has more tokens than the model takes."""


class ObservabilityInitializationError(PaddockError, RuntimeError):
    """Telemetry was asked for and cannot be kept; `details` says why.

    `config_path` is the file that asked for it, where one did.
    """

    def __init__(
        self,
        details: str,
        *,
        config_path: str | None = None,
        team_id: str | None = None,
        project_id: str | None = None,
    ) -> None:
        super().__init__(details)
        self.details = details
        self.config_path = config_path
        self.team_id = team_id
        self.project_id = project_id

    def __str__(self) -> str:
        return f"telemetry cannot be kept: {self.details}"


class PlanError(PaddockError, RuntimeError):
    """A plan cannot be stored or executed as asked; `code` says why."""

    def __init__(
        self,
        plan_id: str,
        code: Literal["unknown", "invalid", "not_draft", "changed", "busy", "ended", "dispatcher"],
        reason: str,
    ) -> None:
        super().__init__(plan_id, code, reason)
        self.plan_id = plan_id
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"plan {self.plan_id!r}: {self.reason}"


class ReferenceFailed(PaddockError, RuntimeError):
    """A reference of the kind `kind` cannot be made or resolved; `code` says why.

    Models read the same text for the last three codes, so that no tenant learns about others.
    """

    def __init__(
        self,
        kind: str,
        code: Literal["unknown_kind", "schema", "gone", "expired", "other_tenant"],
        reason: str,
    ) -> None:
        super().__init__(kind, code, reason)
        self.kind = kind
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"reference of kind {self.kind!r}: {self.reason}"


_UNITS = {
    "turns": "model calls",
    "tokens": "tokens",
    "cost": "US dollars",
    "seconds": "seconds",
}


class SessionError(PaddockError, RuntimeError):
    """A session could not be opened, written or read."""


class ApprovalError(SessionError):
    """An approval cannot be answered, or waited for, as asked; `code` says why."""

    def __init__(
        self,
        approval_id: str,
        code: Literal["unknown", "answered", "expired", "withdrawn", "arguments"],
        reason: str,
    ) -> None:
        super().__init__(approval_id, code, reason)
        self.approval_id = approval_id
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"approval {self.approval_id}: {self.reason}"


class SessionLocked(SessionError):
    """Another process holds this session: `pid` on `host`, `since` (UTC, ISO 8601).

    They are None where they were not noted.
    """

    def __init__(
        self,
        session_id: str,
        *,
        pid: int | None = None,
        host: str | None = None,
        since: str | None = None,
    ) -> None:
        super().__init__(session_id)
        self.session_id = session_id
        self.pid = pid
        self.host = host
        self.since = since

    def __str__(self) -> str:
        holder = "another process"
        if self.pid is not None:
            holder = f"process {self.pid} on {self.host} since {self.since}"
        return f"session {self.session_id} is in use by {holder}"


class BudgetExceeded(SessionError):
    """No more is to be spent: of `what` (turns, tokens, cost, seconds) `limit` was reached."""

    def __init__(self, what: str, *, limit: float, spent: float) -> None:
        super().__init__(what, limit, spent)
        self.what = what
        self.limit = limit
        self.spent = spent

    def __str__(self) -> str:
        return f"the budget of {self.limit:,g} {_UNITS[self.what]} is used up: {self.spent:,.6g}"


class RunClaimed(SessionLocked):
    """Another worker has claimed the run `run_id`; its claim holds for `seconds` more unless it
    is renewed."""

    def __init__(self, run_id: str, *, seconds: float) -> None:
        super().__init__(run_id)
        self.run_id = run_id
        self.seconds = seconds

    def __str__(self) -> str:
        again = f"; if it has died, try again in {self.seconds:.0f} s" if self.seconds else ""
        return f"another worker has claimed the run {self.run_id!r}{again}"


class RunNotCompleted(SessionError):
    """A run ended, and not by an answer: `status` says how, `reason` why where that is known."""

    def __init__(self, status: str, reason: str | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"the run ended as {self.status!r}" + (f": {self.reason}" if self.reason else "")


class TraceError(SessionError):
    """A trace holds something that is not a trace."""


class TraceWriteError(SessionError):
    """An event could not be written to the trace, so the run was stopped."""
