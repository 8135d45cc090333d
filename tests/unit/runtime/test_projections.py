"""What is made of each event: lines of the trace, and what `Session.run` shows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from paddock.runtime.conversation.records import UsageSnapshot, records, stored_event
from paddock.runtime.conversation.results import AgentEvent, agent_event
from paddock.runtime.conversation.state import State, stamped
from paddock.runtime.conversation.trace import encode_record, read_records
from paddock.runtime.core.events import (
    AnswerCut,
    ApprovalRequested,
    ApprovalResolved,
    ChildModelFinished,
    CommandFinished,
    CompactionFinished,
    CompactionStarted,
    Event,
    MessageAdded,
    ModelFinished,
    ModelRetry,
    ModelStarted,
    ProvisionFinished,
    ProvisionStarted,
    ReasoningAdded,
    RulesChanged,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    TextAdded,
    ToolBlocked,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    TraceRepaired,
    TurnFinished,
)
from paddock.runtime.core.model import ToolCall, Usage, assistant_message

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.conftest import OpenSession

USAGE = Usage(
    input_tokens=9, output_tokens=4, cached_tokens=3, cache_write_tokens=1, reasoning_tokens=2,
    cost_usd=0.5,
)  # fmt: skip
TOTAL = Usage(input_tokens=18)
FLAT = {
    "input_tokens": 9, "output_tokens": 4, "cached_tokens": 3, "cache_write_tokens": 1,
    "reasoning_tokens": 2, "cost_usd": 0.5,
}  # fmt: skip
ARGUMENTS = {"command": "ls"}
IDS = {"tool_call_id": "a", "tool_name": "bash"}
CALL = {"id": "a", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
ASKED = assistant_message("Look.", (ToolCall(id="a", name="bash", arguments="{}"),))
STARTED = ToolStarted(call_id="a", tool_name="bash", arguments=ARGUMENTS)
BLOCKED = ToolBlocked(call_id="a", tool_name="bash", arguments=ARGUMENTS, content="No.")
PENDING = ApprovalRequested(
    approval_id="n", call_id="a", tool_name="bash", arguments=ARGUMENTS, digest="x", note="later"
)
RESOLVED = ApprovalResolved(
    call_id="a", tool_name="bash", outcome="revise", digest="x", partial={"command": "ls"}, by="me"
)
ENDED = ToolFinished(
    call_id="a", tool_name="bash", content="x", success=True, duration=0.25, metadata={"exit": 0}
)
RETRY: dict[str, Any] = {"reason": "rate limited", "wait": 8.0, "attempt": 2, "limit": 8}
RETRIED = ModelRetry(**RETRY)
ANSWERED = ModelFinished(model="m", usage=USAGE, call_index=2)
CHILD_ANSWERED = ChildModelFinished(call_id="a", session_id="c", model="m", usage=USAGE)
SANDBOX: list[Event] = [
    ProvisionStarted(backend="local"),
    ProvisionFinished(backend="local", duration=0.5, sandbox_id="s-1"),
    CommandFinished(backend="local", sandbox_id="s-1", duration=0.5, exit_code=0),
]
COMPACTED = CompactionFinished(
    kept=(), summary="All.", tokens_before=9, tokens_after=1, trigger="auto"
)
RULES = {"profile": "developer", "approvals": "asked", "terms": "5e"}
BEGUN = RunStarted(
    session_id="s",
    run_id=3,
    prompt="Go.",
    profile="developer",
    approvals="asked",
    policy_digest="5e",
)
CHANGED = RulesChanged(profile="developer", approvals="asked", policy_digest="5e")
FINISHED = RunFinished(run_id=3, status="completed", run=USAGE, total=TOTAL, run_count=2)
DONE = TurnFinished(text="Done.", run=USAGE, total=TOTAL, context_size=7)


@pytest.mark.rows("S-16", "S-17")
@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (
            BEGUN,
            [{"type": "run_start", "prompt": "Go.", "run_id": 3, **RULES}],
        ),
        (CHANGED, [{"type": "rules_changed", **RULES}]),
        (FINISHED, [{"type": "usage"}, {"type": "run_end", "status": "completed", "run_id": 3}]),
        (
            MessageAdded(message={"role": "user", "content": "Go."}),
            [{"type": "message", "role": "user", "content": "Go."}],
        ),
        (
            MessageAdded(message=ASKED),
            [{"type": "message", "role": "assistant", "content": "Look.", "tool_calls": [CALL]}],
        ),
        (
            ModelStarted(model="m", context_size=5),
            [{"type": "llm_start", "model": "m", "context_size": 5}],
        ),
        (RETRIED, [{"type": "llm_retry", **RETRY}]),
        (AnswerCut(message="cut"), [{"type": "truncated", "message": "cut"}]),
        (
            ANSWERED,
            [{"type": "llm_end", "model": "m", **FLAT, "cache_read_tokens": 3, "usage": FLAT}],
        ),
        (
            CHILD_ANSWERED,
            [{"type": "child_llm_end", "tool_call_id": "a", "child_session_id": "c", **FLAT}],
        ),
        (STARTED, [{"type": "tool_start", **IDS, "tool_args": ARGUMENTS}]),
        (
            ENDED,
            [
                {"type": "message", "role": "tool", "content": "x", "tool_call_id": "a"},
                {"type": "tool_end", **IDS, "success": True, "result": "x", "duration_ms": 250.0},
            ],
        ),
        (
            BLOCKED,
            [
                {"type": "message", "role": "tool", "content": "No.", "tool_call_id": "a"},
                {"type": "tool_blocked", **IDS, "tool_args": ARGUMENTS},
            ],
        ),
        (
            COMPACTED,
            [{"type": "compact", "tokens_before": 9, "tokens_after": 1, "trigger": "auto"}],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_line_of_the_trace_has_the_fields_that_its_readers_know(
    event: Event, lines: list[dict[str, Any]]
) -> None:
    written = records(event)
    known = [
        {name: record.get(name) for name in line}
        for line, record in zip(lines, written, strict=True)
    ]
    assert known == lines


@pytest.mark.rows("S-16", "S-17")
def test_the_usage_of_a_session_is_a_line_at_each_runs_end_and_in_its_short_trace() -> None:
    assert records(FINISHED)[0] == {
        "type": "usage", "input_tokens": 18, "output_tokens": 0, "cached_tokens": 0,
        "cache_write_tokens": 0, "reasoning_tokens": 0, "cost_usd": 0.0,
        "status": "running", "run_count": 2,
    }  # fmt: skip
    state = State()
    for event in (ANSWERED, FINISHED):
        for record in records(event):
            state.apply(record)
    line = json.loads(state.to_jsonl().splitlines()[-1])
    assert (line["type"], line["status"], line["run_count"]) == ("usage", "completed", 3)
    assert line["input_tokens"] == 18


@pytest.mark.rows("S-16", "S-17", "S-15")
async def test_each_line_is_in_the_file_with_its_time_before_anybody_hears_of_it(
    open_session: OpenSession, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.jsonl"

    class Reader:
        """Compares what it is told with the last line of the file, byte for byte whole."""

        def __init__(self) -> None:
            self.agreed: list[bool] = []
            self.times: list[dt.datetime] = []

        def on_event(self, event: dict[str, Any]) -> None:
            data = trace.read_bytes()
            last = json.loads(data.splitlines()[-1])
            self.agreed.append(data.endswith(b"\n") and {**last, **event} == last)
            assert event["ts"] == event["timestamp"]
            self.times.append(dt.datetime.fromisoformat(event["ts"]))

    def look() -> str:
        return "seen"

    turns = [{"tool_calls": [{"name": "look", "arguments": {}}]}, {"text": "Done."}]
    session = open_session(turns, look, session_dir=tmp_path)
    reader = Reader()
    session.state.add_observer(reader)
    await session.run(prompt="Go.")
    lines = trace.read_text().splitlines()
    assert reader.agreed == [True] * len(lines)
    assert reader.times == sorted(reader.times)
    assert {time.utcoffset() for time in reader.times} == {dt.timedelta(0)}


@pytest.mark.rows("S-25")
def test_every_field_of_an_event_but_its_type_is_none_until_it_is_set() -> None:
    assert dataclasses.asdict(AgentEvent("text")) == {
        "type": "text", "content": None, "tool_name": None, "tool_call_id": None,
        "tool_args": None, "tool_result": None, "tool_metadata": None, "usage": None,
    }  # fmt: skip


BASH: dict[str, Any] = {"tool_name": "bash", "tool_call_id": "a"}
CALLED: dict[str, Any] = {**BASH, "tool_args": ARGUMENTS}
SHOWN: list[tuple[Event, AgentEvent]] = [
    (TextAdded(text="Hi"), AgentEvent("text", content="Hi")),
    (STARTED, AgentEvent("tool_start", **CALLED)),
    (
        ENDED,
        AgentEvent("tool_end", **BASH, tool_result="x", tool_metadata={"exit": 0, "success": True}),
    ),
    (BLOCKED, AgentEvent("tool_blocked", **CALLED)),
    (ANSWERED, AgentEvent("api_call_complete", usage={**FLAT, "call_index": 2})),
    (RETRIED, AgentEvent("retry", content="rate limited, retrying in 8 s (2 of 8)")),
    (AnswerCut(message="cut"), AgentEvent("truncated", content="cut")),
    (CompactionStarted(trigger="auto"), AgentEvent("compact_start")),
    (COMPACTED, AgentEvent("compact_end", content="All.")),
    (RunFailed(message="down"), AgentEvent("error", content="down")),
    (RunCancelled(message="Cancelled", reason="x"), AgentEvent("cancelled", content="Cancelled")),
    (PENDING, AgentEvent("interruption", content="later", **CALLED)),
]


@pytest.mark.rows("S-25")
@pytest.mark.parametrize(("event", "shown"), SHOWN, ids=[shown.type for _, shown in SHOWN])
def test_an_event_is_shown_with_exactly_the_fields_of_its_type(
    event: Event, shown: AgentEvent
) -> None:
    assert agent_event(event) == shown


@pytest.mark.rows("S-25")
def test_the_end_of_a_turn_tells_its_text_and_the_usage_of_run_and_session() -> None:
    shown = agent_event(DONE)
    assert shown is not None
    assert (shown.type, shown.content) == ("turn_complete", "Done.")
    assert shown.usage is not None
    assert FLAT.items() <= shown.usage.items()
    assert (shown.usage["total_input_tokens"], shown.usage["context_size"]) == (18, 7)


def test_no_other_event_is_shown() -> None:
    told = {type(event) for event, _ in SHOWN} | {TurnFinished}
    assert {kind.__name__ for kind in set(get_args(Event)) - told} == {
        "RunStarted", "RulesChanged", "RunFinished", "MessageAdded", "ModelStarted",
        "ApprovalResolved", "TraceRepaired", "ChildModelFinished", "ToolProgress",
        "ProvisionStarted", "ProvisionFinished", "CommandFinished", "ReasoningAdded",
    }  # fmt: skip
    hidden: list[Event] = [
        BEGUN,
        CHANGED,
        FINISHED,
        MessageAdded(message=ASKED),
        ModelStarted(model="m", context_size=1),
        ApprovalResolved(call_id="a", tool_name="bash", outcome="approve", digest="x"),
        dataclasses.replace(PENDING, note=None),
        TraceRepaired(torn_bytes=1, quarantine="x"),
        CHILD_ANSWERED,
        *SANDBOX,
        ToolProgress(call_id="a", tool_name="bash", text="Half of it."),
        ReasoningAdded(text="Hm."),
    ]
    assert [agent_event(event) for event in hidden] == [None] * len(hidden)


STORED: list[Event] = [
    BEGUN,
    replace(BEGUN, model="m", provider="openai", backend="docker", resumed=True),
    CHANGED,
    MessageAdded(message=ASKED),
    ModelStarted(model="m", context_size=5),
    RETRIED,
    AnswerCut(message="cut"),
    ANSWERED,
    CHILD_ANSWERED,
    STARTED,
    replace(ENDED, metadata={}),
    BLOCKED,
    PENDING,
    RESOLVED,
    replace(COMPACTED, kept=[{"role": "user", "content": "Go."}]),
    RunFailed(message="down"),
    RunCancelled(message="Cancelled", reason="x"),
    TraceRepaired(torn_bytes=1, quarantine="x"),
    FINISHED,
]


@pytest.mark.parametrize("event", STORED, ids=lambda event: type(event).__name__)
def test_an_event_that_is_in_the_trace_is_read_back_from_it(event: Event) -> None:
    lines = b"".join(encode_record(stamped(record)) for record in records(event))
    *before, found = map(stored_event, read_records(lines).records)
    if isinstance(event, RunFinished):
        assert before == [UsageSnapshot(total=event.total)]
        event = replace(event, total=Usage(), run_count=0)
    assert found == event


def test_each_event_leaves_a_record_that_is_read_back_or_none() -> None:
    unrecorded = {ReasoningAdded, TextAdded, ToolProgress, CompactionStarted, TurnFinished}
    unrecorded |= {*map(type, SANDBOX)}
    assert set(get_args(Event)) == {type(event) for event in STORED} | unrecorded


@pytest.mark.parametrize(
    "value", [None, [1], "9" * 400, True], ids=["null", "list", "text", "true"]
)
def test_records_of_other_programs_are_read_as_far_as_they_go(value: Any) -> None:
    kinds = {record["type"] for event in STORED for record in records(event)} - {"message"}
    for kind in kinds - {"usage", "run_end"}:
        names = {key for event in STORED for record in records(event) for key in record}
        assert stored_event({"type": kind}) is not None
        assert stored_event({**dict.fromkeys(names, value), "type": kind}) is not None
    assert stored_event({"type": "of another program"}) is None
