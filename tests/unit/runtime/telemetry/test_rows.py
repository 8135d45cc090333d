"""Sessions as rows: what is kept of a run, and for whom."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    TelemetryStorage,
)
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.telemetry import attach
from paddock.runtime.telemetry.rows import Rows
from tests.unit.runtime.telemetry.keeping import (
    CALL,
    HELLO,
    TURNS,
    config,
    kept,
    kept_in_time,
    look,
    observe,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import OpenSession


def fall() -> str:
    raise RuntimeError("it fell")


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


@pytest.mark.rows("O-19", "O-7", "O-12")
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


@pytest.mark.rows("O-12")
async def test_closing_what_was_never_started_does_nothing(
    open_session: OpenSession, path: Path
) -> None:
    telemetry = observe(open_session(HELLO), path)
    await telemetry.close("error")
    assert not await asyncio.to_thread(path.exists)
    with pytest.raises(ValueError, match="is not a status"):
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


async def test_telemetry_that_fails_is_logged_and_the_run_goes_on(
    open_session: OpenSession,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = open_session(TURNS, look)
    telemetry = observe(session, path)
    await telemetry.start()
    with monkeypatch.context() as patched:
        patched.setattr(Rows, "take", lambda *_: 1 / 0)
        assert (await session.run("Look.")).status == "completed"
    await telemetry.close()
    assert {each.message for each in caplog.records} == {"telemetry has lost an event"}
    assert kept(path, session)["turns"] == []


async def test_sinks_that_are_set_later_do_not_replace_telemetry(
    open_session: OpenSession, path: Path
) -> None:
    session = open_session(TURNS, look)
    telemetry = observe(session, path)
    await telemetry.start()
    session.sinks = [EventSink()]
    await session.run("Look.")
    await telemetry.close()
    assert len(kept(path, session)["turns"]) == 1
