"""Whose telemetry it is, and where it goes to: `Subject` and `Sink`. Knows no sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from paddock.runtime.core.emitter import Envelope

__all__ = ["BLOCKED", "Sink", "Subject"]

BLOCKED = "Blocked by user"
"""The error of a call that was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One session, as telemetry names it. `metadata` is the user's own; `provider` is whose
    protocol is spoken, if the configuration says so."""

    session_id: str
    team_id: str
    project_id: str
    model: str
    profile: str
    environment: str
    metadata: Mapping[str, Any]
    provider: str | None = None


class Sink(Protocol):
    """One place that telemetry goes to. Only `start` may fail."""

    async def start(self, subject: Subject) -> None:
        """Make ready. Raises `OSError` or `sqlite3.Error`."""
        ...

    def take(self, envelope: Envelope) -> None:
        """Take an event of the session, or of an agent that works for it; never blocks."""
        ...

    def around(self, envelope: Envelope) -> AbstractContextManager[object]:
        """See `EventSink.around`."""
        ...

    def update(self, subject: Subject) -> None:
        """The subject has changed."""
        ...

    async def close(self, status: str) -> None:
        """Get everything out that can be, within a bounded time."""
        ...

    def release(self) -> None:
        """Let go of threads without waiting, for a session that was forgotten."""
        ...
