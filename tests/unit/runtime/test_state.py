"""The state is what the trace says, live and from a file."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import TraceError
from paddock.runtime.conversation.state import SUMMARY_PREFIX, State
from paddock.runtime.conversation.trace import encode_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import ModelRequest
    from tests.unit.runtime.conftest import OpenSession


def message(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **more}


def calls(*ids: str) -> dict[str, Any]:
    listed = [
        {"id": name, "type": "function", "function": {"name": "x", "arguments": "{}"}}
        for name in ids
    ]
    return message("assistant", None, tool_calls=listed)


def result(call_id: str) -> dict[str, Any]:
    return message("tool", f"result of {call_id}", tool_call_id=call_id)


def jsonl(records: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def same(left: State, right: State) -> bool:
    def facts(state: State) -> object:
        return state.messages, state.usage, state.status, state.run_count, state.session_id

    return facts(left) == facts(right)


@pytest.mark.rows("S-12")
def test_a_new_state_is_empty() -> None:
    state = State()
    assert (state.status, state.run_count, state.messages) == ("created", 0, [])
    assert set(state.usage) == {
        "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens",
        "reasoning_tokens", "cost_usd",
    }  # fmt: skip


@pytest.mark.rows("S-12")
async def test_the_status_is_running_until_the_run_has_ended(open_session: OpenSession) -> None:
    seen: list[tuple[str, int]] = []

    def answer(request: ModelRequest) -> dict[str, str]:
        seen.append((session.state.status, session.state.run_count))
        return {"text": "Hi."} if len(seen) == 1 else {"error": "overloaded"}

    session = open_session([answer, answer])
    assert (session.state.status, session.state.run_count) == ("created", 0)
    await session.run(prompt="Hello.")
    assert (session.state.status, session.state.run_count) == ("completed", 1)
    await session.run(prompt="Again.")
    assert (session.state.status, session.state.run_count) == ("error", 2)
    assert seen == [("running", 0), ("running", 1)]


@pytest.mark.rows("S-12")
def test_messages_are_given_out_as_a_list_of_ones_own() -> None:
    state = State.from_jsonl(jsonl([message("user", "a"), message("assistant", "b")]))
    state.get_messages().clear()
    assert [each["role"] for each in state.messages] == ["user", "assistant"]
    assert state.get_messages() == state.messages
    assert state.get_user_messages() == ["a"]


@pytest.mark.rows("S-13", "S-14")
async def test_a_live_trace_restores_everything(open_session: OpenSession, tmp_path: Path) -> None:
    usage: dict[str, Any] = {
        "input_tokens": 7, "output_tokens": 3, "cached_tokens": 2, "cache_write_tokens": 4,
        "reasoning_tokens": 1, "cost_usd": 0.25,
    }  # fmt: skip
    turns = [
        {"tool_calls": [{"name": "f"}, {"name": "g"}], "usage": usage},
        {"text": "One.", "usage": usage},
        {"text": "Two.", "usage": usage},
    ]

    def f() -> str:
        return "f"

    session = open_session(turns, f, session_dir=tmp_path)
    await session.run(prompt="1")
    await session.run(prompt="2")
    loaded = State.from_jsonl((tmp_path / "trace.jsonl").read_bytes())
    assert same(loaded, session.state)
    assert loaded.usage == {
        "input_tokens": 21, "output_tokens": 9, "cached_tokens": 6, "cache_write_tokens": 12,
        "reasoning_tokens": 3, "cost_usd": 0.75,
    }  # fmt: skip
    assert (loaded.status, loaded.run_count) == ("completed", 2)
    assert loaded.session_id == session.state.session_id == session.id


@pytest.mark.rows("S-12")
async def test_to_jsonl_gives_an_equal_state_back(open_session: OpenSession) -> None:
    session = open_session([{"text": "Hi.", "usage": {"input_tokens": 7, "cost_usd": 0.5}}])
    await session.run(prompt="Go.")
    assert same(State.from_jsonl(session.state.to_jsonl()), session.state)


@pytest.mark.rows("S-14")
def test_a_torn_last_line_is_left_out() -> None:
    data = jsonl([message("user", "a"), message("user", "b")])
    assert State.from_jsonl(data[:-5]).get_user_messages() == ["a"]


def test_results_are_put_into_the_order_of_their_calls() -> None:
    records = [message("user", "go"), calls("a", "b", "c"), result("c"), result("a"), result("b")]
    state = State.from_jsonl(jsonl(records))
    assert [each.get("tool_call_id") for each in state.messages] == [None, None, "a", "b", "c"]
    assert state.open_calls == ()


def test_a_trace_of_another_program_that_died_in_the_middle_is_made_valid() -> None:
    state = State.from_jsonl(jsonl([calls("a", "b"), result("a"), message("user", "again")]))
    assert [each["role"] for each in state.messages] == ["assistant", "tool", "tool", "user"]
    assert state.messages[2]["content"] == "No result was recorded for this call."


@pytest.mark.rows("S-14")
def test_usage_of_another_programs_trace_is_derived_from_its_model_calls() -> None:
    records: list[dict[str, Any]] = [
        {"type": "run_start", "prompt": "x"},
        {"type": "llm_end", "input_tokens": 5, "output_tokens": 1, "cache_read_tokens": 4},
        {"type": "run_end", "status": "completed"},
    ]
    state = State.from_jsonl(jsonl(records))
    assert (state.usage["input_tokens"], state.usage["cached_tokens"]) == (5, 4)
    assert (state.run_count, state.status) == (1, "completed")


@pytest.mark.parametrize(
    "record",
    [
        {"type": "message"},
        {"type": "message", "role": "assistant", "tool_calls": 3},
        {"type": "message", "role": "tool"},
        {"type": "run_end"},
        {"type": "tool_start"},
        {"type": "usage", "input_tokens": "many"},
        {"type": "llm_end", "input_tokens": []},
    ],
    ids=str,
)
def test_a_record_without_what_its_type_has_is_a_trace_error(record: dict[str, Any]) -> None:
    records = [record, {"type": "llm_end", "input_tokens": 1}]
    try:
        State.from_jsonl(jsonl(records))
    except TraceError:
        return
    assert not record.get("input_tokens")


@pytest.mark.rows("S-12")
def test_a_summary_takes_the_place_of_all_but_the_last_prompts() -> None:
    state = State.from_jsonl(jsonl([message("user", str(number)) for number in range(5)]))
    state.replace_with_summary("All is well.")
    assert state.get_user_messages() == ["2", "3", "4", SUMMARY_PREFIX + "All is well."]
    state.replace_with_summary("Still.")
    assert state.get_user_messages() == ["2", "3", "4", SUMMARY_PREFIX + "Still."]


@pytest.mark.rows("S-12")
def test_tokens_are_estimated_at_four_characters_each() -> None:
    state = State.from_jsonl(jsonl([message("user", "x" * 40), calls("a"), result("a")]))
    assert state.estimate_tokens() == (40 + 2 + len("result of a")) // 4


@pytest.mark.rows("S-12", "S-15")
async def test_observers_get_every_record_and_may_fail(
    open_session: OpenSession, tmp_path: Path
) -> None:
    class Audit:
        def __init__(self) -> None:
            self.seen: list[dict[str, Any]] = []

        def on_event(self, event: dict[str, Any]) -> None:
            self.seen.append(event)
            raise RuntimeError("full")

    def f() -> str:
        return "f"

    session = open_session(
        [{"tool_calls": [{"name": "f"}]}, {"text": "x"}], f, session_dir=tmp_path
    )
    audit, removed = Audit(), Audit()
    session.state.add_observer(audit)
    session.state.add_observer(removed)
    session.state.remove_observer(removed)
    assert (await session.run(prompt="Go.")).status == "completed"
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert audit.seen == [{k: v for k, v in line.items() if k != "crc"} for line in lines]
    (asked,) = [event for event in audit.seen if event.get("tool_calls")]
    assert asked["tool_calls"][0]["function"]["name"] == "f"
    assert asked["ts"].endswith("+00:00")
    assert removed.seen == []


@pytest.mark.rows("S-14")
def test_a_long_trace_loads_in_a_few_times_what_parsing_it_takes() -> None:
    """A ratio, since the machine may be busy; `bench/state.py` has the seconds."""
    turn = [
        {"type": "llm_start", "model": "m", "context_size": 10},
        {"type": "llm_end", "model": "m", "input_tokens": 1, "output_tokens": 1},
        calls("a"),
        {"type": "tool_start", "tool_call_id": "a", "tool_name": "x", "tool_args": {}},
        result("a"),
    ]
    lines = [*map(encode_record, turn)] * 2_000
    data = b"".join(lines)
    assert len(State.from_jsonl(data).messages) == 4_000
    parsing = fastest(lambda: [json.loads(line) for line in lines])
    assert fastest(lambda: State.from_jsonl(data)) < 6 * parsing


def fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)
