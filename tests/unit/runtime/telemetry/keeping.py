"""Telemetry in a database, for sessions of tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from paddock import ObservabilityConfig, TelemetryStorage
from paddock.runtime.telemetry import Capture, SqliteBackend, attach

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.session.session import Session
    from paddock.runtime.telemetry import Observability

__all__ = [
    "CALL",
    "DEADLINE",
    "HELLO",
    "TURNS",
    "config",
    "kept",
    "kept_in_time",
    "look",
    "observe",
]

DEADLINE = 60.0
HELLO = [{"text": "Hello."}]
CALL = {"name": "look", "arguments": {"at": "it"}}
TURNS = [
    {"tool_calls": [CALL], "usage": {"input_tokens": 10, "output_tokens": 5}},
    {"text": "Seen.", "usage": {"input_tokens": 20, "output_tokens": 7, "reasoning_tokens": 3}},
]


def look(at: str) -> str:
    return f"a secret about {at}"


def config(path: Path, **capture: bool) -> ObservabilityConfig:
    return ObservabilityConfig(
        team_id="blue",
        project_id="search",
        backend=SqliteBackend(path=path),
        capture=Capture(**capture),
    )


def observe(session: Session, path: Path, **capture: bool) -> Observability:
    found = attach(session, config(path, **capture), metadata={"job_id": "job-123"})
    assert found is not None
    return found


def kept(path: Path, session: Session) -> dict[str, Any]:
    with TelemetryStorage(path, read_only=True) as storage:
        found = storage.get_session(session.id)
    assert found is not None
    return found


def kept_in_time(path: Path, session: Session) -> dict[str, Any]:
    """The session as soon as the writer has it."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with TelemetryStorage(path, read_only=True) as storage:
            if (found := storage.get_session(session.id)) is not None:
                return found
        time.sleep(0.005)
    raise AssertionError("it was not written")
