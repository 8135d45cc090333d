"""Trajectories for others: every field that the format has, and no other."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from paddock import TraceError
from paddock.runtime.conversation.trace import encode_record
from paddock.runtime.telemetry.atif import Trajectory, trace_to_atif

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.runtime.conftest import OpenSession

pytestmark = pytest.mark.rows("S-64")

LOOK = {"name": "look", "arguments": {"at": "it"}}
TURNS = [
    {
        "text": "I will look.",
        "tool_calls": [LOOK, LOOK],
        "usage": {"input_tokens": 10, "output_tokens": 5, "cached_tokens": 4, "cost_usd": 0.25},
    },
    {"text": "Seen.", "usage": {"input_tokens": 20, "output_tokens": 7, "cost_usd": 0.5}},
]


def look(at: str) -> str:
    return f"seen {at}"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(record, ...)`` is a trace of these records."""

    def write(*records: dict[str, Any]) -> Path:
        path = tmp_path / "trace.jsonl"
        path.write_bytes(b"".join(map(encode_record, records)))
        return path

    return write


def message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **fields}


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": name, "arguments": arguments}}


async def test_a_run_has_the_shape_of_the_format(open_session: OpenSession, tmp_path: Path) -> None:
    session = open_session(TURNS, look, session_dir=tmp_path, config={"model": "gpt-5-mini"})
    await session.run("Look.")
    found = trace_to_atif(tmp_path / "trace.jsonl", session_id=session.id)
    times = [step.pop("timestamp") for step in found["steps"]]
    assert times == sorted(times)
    ids = [each["tool_call_id"] for each in found["steps"][1]["tool_calls"]]
    assert found == {
        "schema_version": "ATIF-v1.6",
        "session_id": session.id,
        "agent": {
            "name": "paddock",
            "version": version("paddock"),
            "model_name": "gpt-5-mini",
        },
        "steps": [
            {"step_id": 1, "source": "user", "message": "Look."},
            {
                "step_id": 2,
                "source": "agent",
                "message": "I will look.",
                "tool_calls": [
                    {
                        "tool_call_id": each,
                        "function_name": "look",
                        "arguments": {"at": "it"},
                    }
                    for each in ids
                ],
                "observation": {
                    "results": [{"source_call_id": each, "content": "seen it"} for each in ids]
                },
                "metrics": {
                    "prompt_tokens": 10,
                    "completion_tokens": 5,
                    "cached_tokens": 4,
                    "cost_usd": 0.25,
                },
            },
            {
                "step_id": 3,
                "source": "agent",
                "message": "Seen.",
                "metrics": {
                    "prompt_tokens": 20,
                    "completion_tokens": 7,
                    "cached_tokens": 0,
                    "cost_usd": 0.5,
                },
            },
        ],
        "final_metrics": {
            "total_steps": 3,
            "total_prompt_tokens": 30,
            "total_completion_tokens": 12,
            "total_cached_tokens": 4,
            "total_cost_usd": 0.75,
        },
    }
    json.dumps(found, allow_nan=False)


async def test_a_sink_makes_the_trajectory_as_the_run_happens(
    open_session: OpenSession, tmp_path: Path
) -> None:
    session = open_session(TURNS, look, session_dir=tmp_path, config={"model": "gpt-5-mini"})
    live = Trajectory(session_id=session.id)
    await session.run("Look.", sinks=[live])
    assert live.to_dict() == trace_to_atif(tmp_path / "trace.jsonl", session_id=session.id)


def test_a_result_that_a_trace_tells_in_two_records_is_there_once(
    write: Callable[..., Path],
) -> None:
    ends = {"type": "tool_end", "tool_call_id": "a", "tool_name": "look", "success": True}
    asked = message("assistant", None, tool_calls=[call("a", "{}")])
    result = message("tool", "seen", tool_call_id="a")
    for order in ([ends, result], [result, ends]):
        (step,) = trace_to_atif(write(asked, *order), session_id="s")["steps"]
        assert step["observation"]["results"] == [{"source_call_id": "a", "content": "seen"}]


def test_the_agent_is_called_as_is_said(write: Callable[..., Path]) -> None:
    path = write({"type": "llm_start", "model": "m", "context_size": 1})
    found = trace_to_atif(
        path, session_id="s", agent_name="mine", agent_version="2", model_name="other"
    )
    assert found["agent"] == {"name": "mine", "version": "2", "model_name": "other"}
    assert trace_to_atif(path, session_id="s")["agent"]["model_name"] == "m"


def test_arguments_that_are_no_object_stand_in_one(write: Callable[..., Path]) -> None:
    calls = [call("a", "{not json"), call("b", "[1]"), call("c", '{"d": 1}')]
    found = trace_to_atif(write(message("assistant", None, tool_calls=calls)), session_id="s")
    (step,) = found["steps"]
    assert step["message"] == ""
    arguments = [each["arguments"] for each in step["tool_calls"]]
    assert arguments == [{"raw": "{not json"}, {"raw": "[1]"}, {"d": 1}]


def test_a_compaction_is_a_step_of_the_system_and_its_cost_in_the_totals(
    write: Callable[..., Path],
) -> None:
    usage = {"input_tokens": 3, "output_tokens": 1}
    found = trace_to_atif(
        write(
            message("user", "Hello?"),
            {"type": "llm_end", "model": "m", **usage},
            {"type": "compact", "tokens_before": 9, "tokens_after": 1, "summary": "In short."},
            message("assistant", "Hello."),
        ),
        session_id="s",
    )
    sources = [(step["source"], step["message"]) for step in found["steps"]]
    assert sources == [("user", "Hello?"), ("system", "In short."), ("agent", "Hello.")]
    assert not any("metrics" in step for step in found["steps"])
    assert found["final_metrics"]["total_prompt_tokens"] == 3


def test_a_trace_that_begins_with_a_snapshot_goes_on_from_its_sums(
    write: Callable[..., Path],
) -> None:
    found = trace_to_atif(
        write(
            message("user", [{"type": "text", "text": "In "}, {"type": "text", "text": "parts"}]),
            {"type": "usage", "input_tokens": 100, "output_tokens": 10, "cost_usd": 1.0},
            {"type": "llm_end", "model": "m", "input_tokens": 5, "cache_read_tokens": 2},
            message("assistant", "Hello."),
            message("tool", "late", tool_call_id="gone"),
        ),
        session_id="s",
    )
    assert found["steps"][0]["message"] == "In parts"
    assert found["steps"][2]["observation"]["results"] == [
        {"source_call_id": None, "content": "late"}
    ]
    assert found["final_metrics"] == {
        "total_steps": 3,
        "total_prompt_tokens": 105,
        "total_completion_tokens": 10,
        "total_cached_tokens": 2,
        "total_cost_usd": 1.0,
    }


def test_what_the_format_has_no_name_for_is_an_extra(write: Callable[..., Path]) -> None:
    usage = {"input_tokens": 9, "cache_write_tokens": 4, "reasoning_tokens": 1}
    found = trace_to_atif(
        write(
            {"type": "llm_end", "model": "m", **usage},
            message("assistant", "Hello."),
            {"type": "child_llm_end", "model": "m", **usage},
        ),
        session_id="s",
    )
    extra = {"cache_write_tokens": 4, "reasoning_tokens": 1}
    assert found["steps"][0]["metrics"]["extra"] == extra
    assert found["final_metrics"]["extra"] == {
        "total_cache_write_tokens": 8, "total_reasoning_tokens": 2,
    }  # fmt: skip


def test_a_torn_end_is_left_out_and_damage_is_an_error(write: Callable[..., Path]) -> None:
    path = write(message("user", "Hello?"), message("user", "Again?"))
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    assert len(trace_to_atif(path, session_id="s")["steps"]) == 1
    path.write_bytes(b"x" + data)
    with pytest.raises(TraceError):
        trace_to_atif(path, session_id="s")


@pytest.mark.rows("S-50")
def test_what_a_child_used_up_is_in_the_totals_and_in_no_step(write: Callable[..., Path]) -> None:
    ours = {"type": "llm_end", "model": "m", "input_tokens": 10, "output_tokens": 5}
    theirs = {"type": "child_llm_end", "model": "m", "input_tokens": 7, "cost_usd": 0.5}
    path = write(theirs, ours, message("assistant", "Done."))
    found = trace_to_atif(path, session_id="s")
    assert found["final_metrics"]["total_prompt_tokens"] == 17
    assert found["final_metrics"]["total_cost_usd"] == 0.5
    (step,) = found["steps"]
    assert step["metrics"]["prompt_tokens"] == 10
