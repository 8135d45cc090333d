"""What the multi-agent runtime keeps: plans, references and runs, as frozen data and as JSON."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from paddock.errors import SessionError
from paddock.runtime.core.claims import Claim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.orchestration.fields import PlanStatus

__all__ = [
    "Run",
    "RunStatus",
    "StoredPlan",
    "StoredReference",
    "canonical",
    "decode",
    "encode",
]

T = TypeVar("T")

FOREVER = 100 * 365 * 24 * 3600 * 1000
"""Milliseconds for which nothing is kept: a hundred years. Dates end in the year 9999."""

RunStatus = Literal["running", "waiting", "died", "finished", "failed", "cancelled", "superseded"]
"""`waiting`: for an approval, and no process works on it. `died`: its process ended meanwhile.
`superseded`: another prompt came in its thread, so it cannot be continued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan as it is now.

    `digest` is the SHA-256 of what is approved: this revision, whole. `approval` says how it was
    approved, and `outcome` how its execution ended; `claim` is that of the execution, and
    `idempotency_key` names it for the action dispatcher.
    """

    id: str
    spec: str
    actions: Sequence[Mapping[str, Any]]
    context: Mapping[str, Any]
    digest: str
    idempotency_key: str
    revision: int = 1
    status: PlanStatus = "draft"
    approval: Mapping[str, Any] | None = None
    outcome: Mapping[str, Any] | None = None
    claim: Claim | None = None

    def shown(self) -> dict[str, Any]:
        """Return what agents, approvers and events see of it."""
        shown: dict[str, Any] = {
            "id": self.id,
            "status": self.status,
            "revision": self.revision,
            "actions": [dict(each) for each in self.actions],
            "context": dict(self.context),
        }
        return shown if self.outcome is None else shown | {"outcome": dict(self.outcome)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReference:
    """The summary that stands for a value too big for a prompt, and how long it does."""

    glimpse: Any
    expires_at: dt.datetime | None = None

    @classmethod
    def of(cls, glimpse: Any, *, ttl_ms: int | None) -> Self:
        """Return one that begins now."""
        if ttl_ms is None or ttl_ms >= FOREVER:
            return cls(glimpse=glimpse)
        end = dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=ttl_ms)
        return cls(glimpse=glimpse, expires_at=end)

    def has_expired(self, *, since: dt.timedelta = dt.timedelta()) -> bool:
        """Whether it ended, at least so long ago."""
        return self.expires_at is not None and self.expires_at + since <= dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of an agent: what was asked, how it stands, and whose process works on it.

    `limits` are those that it was begun with, and `seconds` is for how long processes worked on
    it, as far as that is noted.
    """

    run_id: str
    thread_id: str
    agent: str
    prompt: str
    started_at: dt.datetime
    updated_at: dt.datetime
    state: RunStatus = "running"
    claim: Claim | None = None
    limits: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @property
    def status(self) -> RunStatus:
        """How it stands now: a run dies without anybody noting it."""
        if self.state == "running" and not (self.claim is not None and self.claim.holds):
            return "died"
        return self.state


def canonical(value: object) -> bytes:
    """Return the one JSON text of `value`; raise `TypeError` or `ValueError` if it has none."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def encode(record: Any) -> bytes:
    """Return a record as JSON. Fields called ``..._at`` are times."""
    return json.dumps(asdict(record), default=dt.datetime.isoformat, allow_nan=False).encode()


def decode(kind: type[T], data: bytes) -> T:
    """Return the record in what `encode` gave; raise `SessionError` for anything else."""
    try:
        fields = json.loads(data)
        for name, value in fields.items():
            if name.endswith("_at") and value is not None:
                fields[name] = dt.datetime.fromisoformat(value)
        if fields.get("claim") is not None:
            fields["claim"] = Claim(**fields["claim"])
        return kind(**fields)
    except (AttributeError, TypeError, ValueError) as error:
        raise SessionError(f"this is not a {kind.__name__} of the store: {error!r}") from error
