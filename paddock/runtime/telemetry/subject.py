"""Whose telemetry it is, and where it goes to: `Subject` and `Sink`. Knows no sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Listener", "Record", "Sink", "Subject"]

Record = dict[str, Any]
"""A record of the trace, with its time as ``ts``."""


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


class Listener(Protocol):
    """Who takes the records of a session."""

    def on_event(self, record: Record) -> None:
        """Take a record, on the event loop's thread; never blocks."""
        ...


class Sink(Listener, Protocol):
    """One place that telemetry goes to. Only `start` may fail."""

    async def start(self, subject: Subject) -> None:
        """Make ready. Raises `OSError` or `sqlite3.Error`."""
        ...

    def update(self, subject: Subject) -> None:
        """The subject has changed."""
        ...

    def below(self, subject: Subject) -> Listener:
        """Who takes the records of an agent that works for the session's, in its run."""
        ...

    async def close(self, status: str) -> None:
        """Get everything out that can be, within a bounded time."""
        ...

    def release(self) -> None:
        """Let go of threads without waiting, for a session that was forgotten."""
        ...
