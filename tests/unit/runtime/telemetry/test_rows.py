"""Sessions as rows: what is kept of a run, for whom, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import sqlite3
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ObservabilityConfig, ObservabilityInitializationError, TelemetryStorage
from paddock.runtime.telemetry import Capture, OtlpBackend, SqliteBackend, attach
from paddock.runtime.telemetry.writer import TelemetryWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from paddock.runtime.session.session import Session
    from paddock.runtime.telemetry import Observability
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import OpenSession

DEADLINE = 60.0
HELLO = [{"text": "Hello."}]
CALL = {"name": "look", "arguments": {"at": "it"}}
TURNS = [
    {"tool_calls": [CALL], "usage": {"input_tokens": 10, "output_tokens": 5}},
    {"text": "Seen.", "usage": {"input_tokens": 20, "output_tokens": 7, "reasoning_tokens": 3}},
]


def look(at: str) -> str:
    return f"a secret about {at}"


def fall() -> str:
    raise RuntimeError("it fell")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TEAM_ID", "PROJECT_ID", "OBSERVABILITY_CONFIG"):
        monkeypatch.delenv(f"PADDOCK_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "paddock"


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


@pytest.mark.rows("O-19", "O-7", "O-12")
async def test_what_a_session_costs_is_what_its_model_calls_cost(
    open_session: OpenSession, path: Path
) -> None:
    usage = {"input_tokens": 100_000, "cached_tokens": 95_000, "cost_usd": 0.25}
    turns = [{"tool_calls": [CALL], "usage": usage}, {"text": "Seen.", "usage": usage}]
    session = open_session(turns, look, config={"model": "gpt-5-mini"})
    telemetry = observe(session, path)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close("completed")
    with TelemetryStorage(path, read_only=True) as storage:
        assert storage.get_cost_summary()["cost_usd"] == 0.5


async def test_a_run_is_a_turn_with_its_calls_and_sums(
    open_session: OpenSession, path: Path
) -> None:
    session = open_session(TURNS, look, config={"model": "gpt-5-mini"})
    telemetry = observe(session, path)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close("completed")
    found = kept(path, session)
    (turn,) = found.pop("turns")
    (call,) = turn.pop("tool_executions")
    assert found["started_at"] <= turn["started_at"] <= call["started_at"] <= turn["ended_at"]
    assert turn["ended_at"] <= found["ended_at"]
    assert {name: found[name] for name in found if name not in ("started_at", "ended_at")} == {
        "session_id": session.id,
        "team_id": "blue",
        "project_id": "search",
        "agent_id": None,
        "environment": "counting",
        "profile": "readonly",
        "model": "gpt-5-mini",
        "status": "completed",
        "total_input_tokens": 30,
        "total_output_tokens": 12,
        "total_reasoning_tokens": 3,
        "total_tool_calls": 1,
        "context_size": 20,
        "metadata": {"job_id": "job-123"},
    }
    assert (turn["turn_index"], turn["user_input"]) == (1, "Look.")
    assert (turn["input_tokens"], turn["output_tokens"], turn["reasoning_tokens"]) == (30, 12, 3)
    assert turn["context_size"] == 20
    assert (call["tool_name"], call["arguments"]) == ("look", {"at": "it"})
    assert (call["success"], call["error"], call["result"]) == (True, None, None)
    assert call["duration_ms"] >= 0


@pytest.mark.rows("O-19")
async def test_a_blocked_call_is_a_failure_that_says_so(
    open_session: OpenSession, path: Path, asking: Callable[[Any], ToolHandler]
) -> None:
    session = open_session(TURNS, asking(look))
    session.approval_callback = lambda name, arguments: False
    telemetry = observe(session, path)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
    (call,) = kept(path, session)["turns"][0]["tool_executions"]
    assert (call["success"], call["error"]) == (False, "Blocked by user")
    assert call["arguments"] == {"at": "it"}


@pytest.mark.rows("O-18")
async def test_results_and_arguments_are_kept_as_the_flags_say(
    open_session: OpenSession, path: Path
) -> None:
    session = open_session(
        [{"tool_calls": [CALL, {"name": "fall", "arguments": {}}]}, {"text": "Seen."}], look, fall
    )
    telemetry = observe(session, path, tool_arguments=False, tool_results=True)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
    calls = {call["tool_name"]: call for call in kept(path, session)["turns"][0]["tool_executions"]}
    assert calls["look"]["arguments"] is None
    assert calls["look"]["result"] == "a secret about it"
    assert "it fell" in calls["fall"]["error"]


async def test_what_a_failed_call_gave_is_not_kept_unless_results_are(
    open_session: OpenSession, path: Path
) -> None:
    session = open_session(
        [{"tool_calls": [{"name": "fall", "arguments": {}}]}, {"text": "Oh."}], fall
    )
    telemetry = observe(session, path)
    await telemetry.start()
    await session.run("Fall.")
    await telemetry.close()
    (call,) = kept(path, session)["turns"][0]["tool_executions"]
    assert (call["success"], call["error"], call["result"]) == (False, "failed", None)


@pytest.mark.parametrize(("traces", "metrics"), [(False, True), (True, False)])
async def test_steps_and_sums_can_be_left_out(
    open_session: OpenSession, path: Path, traces: bool, metrics: bool
) -> None:
    session = open_session(TURNS, look)
    telemetry = observe(session, path, traces=traces, metrics=metrics)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
    found = kept(path, session)
    assert bool(found["turns"]) is traces
    assert bool(found["total_input_tokens"] and found["total_tool_calls"]) is metrics


@pytest.mark.rows("O-12")
@pytest.mark.parametrize("status", ["completed", "error", "cancelled", "max_turns"])
async def test_the_last_status_is_what_it_is_closed_with(
    open_session: OpenSession, path: Path, status: str
) -> None:
    session = open_session(HELLO)
    telemetry = observe(session, path)
    await telemetry.start()
    await telemetry.start()
    assert kept_in_time(path, session)["status"] == "active"
    await telemetry.close(status)
    await telemetry.close("error")
    assert kept(path, session)["status"] == status


def kept_in_time(path: Path, session: Session) -> dict[str, Any]:
    """The session as soon as the writer has it."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with TelemetryStorage(path, read_only=True) as storage:
            if (found := storage.get_session(session.id)) is not None:
                return found
        time.sleep(0.005)
    raise AssertionError("it was not written")


@pytest.mark.rows("O-12")
async def test_closing_what_was_never_started_does_nothing(
    open_session: OpenSession, path: Path
) -> None:
    telemetry = observe(open_session(HELLO), path)
    await telemetry.close("error")
    assert not await asyncio.to_thread(path.exists)
    with pytest.raises(ValueError, match="is no status"):
        await telemetry.close("done")


async def test_a_resumed_session_goes_on_with_its_sums(
    open_session: OpenSession, path: Path
) -> None:
    session = open_session([*TURNS, *TURNS], look)
    for number in range(2):
        telemetry = attach(session, config(path), metadata={f"job_{number}": number})
        assert telemetry is not None
        await telemetry.start()
        await session.run("Look.")
        await telemetry.close("completed")
    found = kept(path, session)
    assert found["metadata"] == {"job_0": 0, "job_1": 1}
    assert (found["total_input_tokens"], found["total_tool_calls"]) == (60, 2)
    assert [turn["turn_index"] for turn in found["turns"]] == [1, 2]


async def test_what_is_noted_joins_the_metadata(open_session: OpenSession, path: Path) -> None:
    session = open_session(HELLO)
    telemetry = attach(session, config(path), metadata={"agent_id": "a1", "environment": "test"})
    assert telemetry is not None
    await telemetry.start()
    telemetry.note(cancel_source="programmatic", cancel_reason="late")
    telemetry.profile_changed("developer")
    await telemetry.close("cancelled")
    found = kept(path, session)
    assert found["metadata"] == {
        "agent_id": "a1",
        "environment": "test",
        "cancel_source": "programmatic",
        "cancel_reason": "late",
    }
    assert (found["agent_id"], found["environment"]) == ("a1", "test")
    assert found["profile"] == "developer"


@pytest.mark.rows("C49")
async def test_metadata_and_what_is_noted_are_kept_without_secrets(
    open_session: OpenSession, path: Path
) -> None:
    token = "nabcdefgh-token"
    session = open_session(HELLO, config={"secrets": {"TOKEN": token}})
    telemetry = attach(session, config(path), metadata={"of": {"job": [f"<{token}>"]}})
    assert telemetry is not None
    await telemetry.start()
    telemetry.note(cancel_reason=f"expired: {token}")
    await telemetry.close()
    assert kept(path, session)["metadata"] == {
        "of": {"job": ["<[secret TOKEN]>"]},
        "cancel_reason": "expired: [secret TOKEN]",
    }
    assert token not in repr(telemetry.subject)


async def test_what_is_noted_of_a_forgotten_session_is_nothing(
    open_session: OpenSession, path: Path
) -> None:
    telemetry = observe(open_session(HELLO), path)
    gc.collect()
    telemetry.note(late=True)
    assert telemetry.subject.metadata == {"job_id": "job-123"}


@pytest.mark.rows("O-6")
async def test_there_is_none_without_a_tenant_or_switched_off(
    open_session: OpenSession, path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(HELLO)
    assert attach(session) is None
    assert attach(session, team_id="blue") is None
    assert attach(session, project_id="search") is None
    off = ObservabilityConfig(enabled=False, team_id="blue", project_id="search")
    assert attach(session, off) is None
    found = attach(session, team_id="blue", project_id="search")
    assert found is not None
    assert found.config.backend == SqliteBackend(path=home / "telemetry.db")
    monkeypatch.setenv("PADDOCK_TEAM_ID", "red")
    monkeypatch.setenv("PADDOCK_PROJECT_ID", "other")
    found = attach(session)
    assert found is not None
    assert (found.config.team_id, found.config.project_id) == ("red", "other")


@pytest.mark.rows("O-6")
async def test_what_cannot_be_is_one_error_that_says_for_whom(
    open_session: OpenSession, tmp_path: Path, home: Path
) -> None:
    session = open_session(HELLO)
    gone = tmp_path / "gone.yaml"
    with pytest.raises(ObservabilityInitializationError, match="not found") as caught:
        attach(session, gone, team_id="blue", project_id="search")
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert (error.config_path, error.team_id, error.project_id) == (str(gone), "blue", "search")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("tenat: {}")
    with pytest.raises(ObservabilityInitializationError, match="did you mean tenant"):
        attach(session, wrong)
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "telemetry.db"):
        with pytest.raises(ObservabilityInitializationError):
            attach(session, config(place))
    with pytest.raises(ObservabilityInitializationError, match="JSON"):
        attach(session, config(tmp_path / "t.db"), metadata={"a": {1, 2}})


async def test_a_database_that_is_none_is_told_at_the_start(
    open_session: OpenSession, path: Path
) -> None:
    text = "This has never been a database, however long one looks at it." * 20
    await asyncio.to_thread(path.write_text, text)
    telemetry = observe(open_session(HELLO), path)
    with pytest.raises(ObservabilityInitializationError, match="not a database") as caught:
        await telemetry.start()
    assert caught.value.team_id == "blue"
    await telemetry.close()


async def test_a_collector_without_the_extra_is_an_error_that_names_it(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    monkeypatch.delitem(sys.modules, "paddock.runtime.telemetry.exporters", raising=False)
    wanted = ObservabilityConfig(team_id="a", project_id="b", backend=OtlpBackend())
    with pytest.raises(ObservabilityInitializationError, match=r"paddock\[otel\]"):
        attach(open_session(HELLO), wanted)


# Faults.


@pytest.fixture
def room() -> Iterator[Callable[[int | None], None]]:
    """``room(size)`` lets no file of this process grow beyond `size` bytes; None lifts it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)


def update(number: int) -> tuple[str, dict[str, Any]]:
    sql = (
        "INSERT INTO sessions (session_id, team_id, project_id, started_at, metadata)"
        " VALUES (:name, 't', 'p', '2100', :data)"
    )
    return sql, {"name": f"s{number:05}", "data": '{"a": "' + "x" * 4000 + '"}'}


def names(path: Path) -> list[str]:
    with TelemetryStorage(path, read_only=True) as storage:
        return sorted(row["session_id"] for row in storage.list_sessions(None))


class Heard(logging.Handler):
    """Says when something was logged, from whichever thread."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.event.set()


@pytest.fixture
def heard() -> Iterator[threading.Event]:
    """Set when telemetry warns."""
    handler, log = Heard(), logging.getLogger("paddock.runtime.telemetry")
    log.addHandler(handler)
    yield handler.event
    log.removeHandler(handler)


async def test_a_full_disk_is_one_warning_and_what_waits_is_written_when_there_is_room(
    path: Path,
    room: Callable[[int | None], None],
    caplog: pytest.LogCaptureFixture,
    heard: threading.Event,
) -> None:
    writer = TelemetryWriter(path)
    await writer.start()
    room(64 * 1024)
    for number in range(40):
        writer.put(update(number))
    assert await asyncio.to_thread(heard.wait, DEADLINE)
    writer.put(update(40))
    room(None)
    writer.put(update(41))
    await writer.close()
    assert names(path) == [f"s{number:05}" for number in range(42)]
    assert writer.lost == 0
    assert [(each.levelno, each.name) for each in caplog.records] == [
        (logging.WARNING, "paddock.runtime.telemetry.writer")
    ]


async def test_a_disk_that_stays_full_does_not_keep_anybody(
    path: Path,
    room: Callable[[int | None], None],
    caplog: pytest.LogCaptureFixture,
    open_session: OpenSession,
) -> None:
    session = open_session(TURNS, look)
    telemetry = observe(session, path)
    await telemetry.start()
    kept_in_time(path, session)
    room(1)
    result = await session.run("Look.")
    await telemetry.close()
    room(None)
    assert result.status == "completed"
    assert len(caplog.records) == 1
    assert kept(path, session)["status"] == "active"


async def test_a_full_queue_loses_what_is_new_but_not_the_end(path: Path) -> None:
    writer = TelemetryWriter(path, queue_limit=3)
    for number in range(5):
        writer.put(update(number))
    writer.put(update(9), essential=True)
    await writer.start()
    await writer.close()
    assert names(path) == ["s00000", "s00001", "s00002", "s00009"]
    assert writer.lost == 2


async def test_one_row_that_cannot_be_written_does_not_take_others_with_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TelemetryWriter(path)
    for number in (1, 1, 2):
        writer.put(update(number))
    await writer.start()
    await writer.close()
    assert names(path) == ["s00001", "s00002"]
    assert (writer.lost, len(caplog.records)) == (1, 1)


async def test_a_lock_of_another_process_does_not_hold_the_loop(path: Path) -> None:
    writer = TelemetryWriter(path)
    await writer.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(100):
            writer.put(update(number))  # this thread holds the lock
        other.execute("ROLLBACK")
    await writer.close()
    assert len(names(path)) == 100


async def test_a_session_that_is_forgotten_leaves_no_thread(
    open_session: OpenSession, path: Path
) -> None:
    session = open_session(HELLO)
    telemetry = observe(session, path)
    await telemetry.start()
    (thread,) = [each for each in threading.enumerate() if each.name == "paddock telemetry"]
    del session, telemetry
    gc.collect()
    await asyncio.to_thread(thread.join, DEADLINE)
    assert not thread.is_alive()
