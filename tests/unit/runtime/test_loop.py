"""The loop, through a session: turns, calls at once, approvals, what models get wrong."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.core.model import ModelResponse, ToolCall
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.registry import ToolRegistry
from tests.unit.runtime.answering import RawModel
from tests.unit.runtime.conftest import FunctionTool, let_run_at_once
from tests.unit.runtime.loops import call, echo, kinds, results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.model import Message
    from tests.unit.runtime.conftest import OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


@pytest.mark.rows("S-18")
async def test_a_tool_turn_leaves_its_records_in_the_documented_order(
    open_session: OpenSession, tmp_path: Path
) -> None:
    turns = [{"text": "Looking.", "tool_calls": [call("echo", text="x")]}, {"text": "Done."}]
    session = open_session(turns, echo, session_dir=tmp_path)
    await session.run(prompt="Look.")
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert [line["type"] + (f"({line['role']})" if "role" in line else "") for line in lines] == [
        "run_start", "message(user)", "llm_start", "llm_end", "message(assistant)",
        "tool_start", "message(tool)", "tool_end", "llm_start", "llm_end",
        "message(assistant)", "usage", "run_end",
    ]  # fmt: skip
    assert all(line["ts"] == line["timestamp"] for line in lines)
    assert (lines[0]["run_id"], lines[-1]["run_id"]) == (1, 1)
    assert lines[3]["usage"]["input_tokens"] == lines[3]["input_tokens"]
    assert lines[7]["result"] == "echo: x"
    assert lines[7]["duration_ms"] >= 0
    assert lines[-1]["status"] == "completed"


@pytest.mark.rows("S-20", "S-25")
async def test_events_show_the_run_as_it_happens(open_session: OpenSession) -> None:
    turns = [
        {"text": "Look.", "tool_calls": [call("echo", text="x")], "usage": {"input_tokens": 3}},
        {"text": "Done.", "usage": {"input_tokens": 4, "output_tokens": 2}},
    ]
    seen: list[AgentEvent] = []
    result = await open_session(turns, echo).run(prompt="Go.", on_event=seen.append)
    assert result.events == seen
    assert kinds(seen) == [
        "text", "api_call_complete", "tool_start", "tool_end", "text",
        "api_call_complete", "turn_complete",
    ]  # fmt: skip
    assert seen[2].tool_args == {"text": "x"}
    assert (seen[3].tool_name, seen[3].tool_result) == ("echo", "echo: x")
    assert seen[5].usage is not None
    assert seen[5].usage["call_index"] == 2
    assert seen[-1].content == "Done."
    assert result.text == "Done."
    assert result.usage["input_tokens"] == 7


@pytest.mark.rows("S-24")
async def test_usage_is_of_this_run_and_totals_are_of_the_session(
    open_session: OpenSession,
) -> None:
    usage = {"input_tokens": 10, "output_tokens": 1, "cost_usd": 0.5}
    session = open_session([{"text": "One.", "usage": usage}, {"text": "Two.", "usage": usage}])
    await session.run(prompt="1")
    result = await session.run(prompt="2")
    assert (result.usage["input_tokens"], result.usage["total_input_tokens"]) == (10, 20)
    assert session.state.usage["cost_usd"] == 1.0
    assert session.state.run_count == 2


async def test_calls_that_only_look_run_at_once_and_their_results_keep_the_calls_order(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    second_done = asyncio.Event()

    async def first() -> str:
        await asyncio.wait_for(second_done.wait(), 60)
        return "first"

    async def second() -> str:
        second_done.set()
        return "second"

    turns = [{"tool_calls": [call("first"), call("second")]}, {"text": "Done."}]
    session = open_session(turns, first, second)
    let_run_at_once(session)
    result = await session.run(prompt="Both.")
    ends = [event.tool_name for event in result.events if event.type == "tool_end"]
    assert ends == ["second", "first"]
    assert results(session.state.messages) == ["first", "second"]
    check_history(session.state.messages)


async def test_calls_that_may_change_something_run_in_order_with_looks_between_them_at_once(
    open_session: OpenSession,
) -> None:
    told: list[str] = []
    looking = asyncio.Event()

    async def change(what: str) -> str:
        told.append(f"{what} begins")
        await asyncio.sleep(0)
        told.append(f"{what} ends")
        return what

    async def look(number: int) -> str:
        if number == 1:
            await asyncio.wait_for(looking.wait(), 30)
        looking.set()
        told.append("a look")
        return "seen"

    calls = [
        call("change", what="one"),
        call("change", what="two"),
        call("look", number=1),
        call("look", number=2),
        call("change", what="three"),
    ]
    session = open_session([{"tool_calls": calls}, {"text": "Done."}], change)
    session.registry.register(FunctionTool(look), concurrent=True)
    result = await session.run(prompt="All.")
    assert result.status == "completed"
    assert told == [
        *("one begins", "one ends", "two begins", "two ends"),
        *("a look", "a look"),
        *("three begins", "three ends"),
    ]


async def test_a_run_that_ends_between_two_calls_has_not_begun_the_second(
    open_session: OpenSession, check_history: CheckHistory, tmp_path: Path
) -> None:
    def stop() -> str:
        session.cancel("enough")
        return "stopped"

    turns = [{"tool_calls": [call("stop"), call("echo")]}, {"text": "Done."}]
    session = open_session(turns, stop, echo, session_dir=tmp_path)
    result = await session.run(prompt="Go.")
    assert (result.status, result.reason) == ("cancelled", "enough")
    began = [event.tool_name for event in result.events if event.type == "tool_start"]
    assert began == ["stop"], "the second is not said to have begun"
    assert results(session.state.messages)[1].startswith("Not run")
    check_history(session.state.messages)


def test_a_copy_of_a_registry_keeps_what_its_user_said_of_a_tool() -> None:
    registry = ToolRegistry()
    registry.register(FunctionTool(echo), concurrent=True)
    assert registry.copy().is_concurrent("echo")
    registry.register(FunctionTool(echo))
    assert not registry.is_concurrent("echo"), "another tool of the name begins anew"


@pytest.mark.parametrize(
    ("profile", "together"),
    [
        ("developer", {"read", "list", "glob", "grep"}),
        ("readonly", {"read", "list", "glob", "grep"}),
    ],
)
def test_the_tools_of_a_profile_that_may_run_at_once(profile: str, together: set[str]) -> None:
    registry = build_registry(profile)
    registry.unregister("read_excel")  # only where its library is installed
    assert {name for name in registry if registry.is_concurrent(name)} == together


@pytest.mark.rows("C44")
async def test_a_call_that_fails_does_not_touch_its_siblings(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    def boom() -> str:
        raise ValueError("no such thing")

    async def inner_cancel() -> str:
        raise asyncio.CancelledError

    turns = [
        {"tool_calls": [call("boom"), call("echo", text="a"), call("inner_cancel"), call("what")]},
        {"text": "Done."},
    ]
    session = open_session(turns, boom, echo, inner_cancel)
    assert (await session.run(prompt="All.")).status == "completed"
    failed, echoed, cancelled, unknown = results(session.state.messages)
    assert "ValueError: no such thing" in failed
    assert echoed == "echo: a"
    assert "cancelled from inside" in cancelled
    assert "Unknown tool: what" in unknown
    check_history(session.state.messages)


async def test_a_handler_that_returns_nonsense_is_a_result_too(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    def nothing() -> str:
        return None  # type: ignore[return-value]

    session = open_session([{"tool_calls": [call("nothing")]}, {"text": "Done."}], nothing)
    assert (await session.run(prompt="Go.")).status == "completed"
    assert "failed" in results(session.state.messages)[0]
    check_history(session.state.messages)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"text": ', "Invalid arguments"),
        ("[1]", "they are not an object"),
        ('{"text": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "Invalid arguments"),
        ('{"text":' + "[" * 100 + "]" * 100 + "}", "nested deeper"),
        ('{"text":"' + "x" * (5 * 1024 * 1024) + '"}', "longer than"),
        ('{"text": ' + "9" * 5000 + "}", "Invalid arguments"),
        ("\ud800{", "Invalid arguments"),
    ],
)  # fmt: skip
@pytest.mark.rows("C43")
async def test_malformed_arguments_are_told_to_the_model_and_not_kept(
    open_session: OpenSession, check_history: CheckHistory, arguments: str, told: str
) -> None:
    broken = ModelResponse(tool_calls=(ToolCall(id="a", name="echo", arguments=arguments),))
    model = RawModel(broken, ModelResponse(text="Done."))
    session = open_session([], echo, client=model)
    assert (await session.run(prompt="Go.")).status == "completed"
    assert told in results(session.state.messages)[0]
    assert session.state.messages[1]["tool_calls"][0]["function"]["arguments"] == "{}"
    check_history(session.state.messages)


@pytest.mark.rows("C43")
async def test_ids_that_are_empty_double_or_used_before_become_unique(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    def named(*ids: str) -> ModelResponse:
        calls = (ToolCall(id=name, name="echo", arguments='{"text":"x"}') for name in ids)
        return ModelResponse(tool_calls=tuple(calls))

    model = RawModel(named("", "", "a", "a"), named("a"), ModelResponse(text="Done."))
    session = open_session([], echo, client=model)
    assert (await session.run(prompt="Go.")).status == "completed"
    check_history(session.state.messages)
    told = results(session.state.messages)
    assert told[:3] == ["echo: x"] * 3
    assert "same id" in told[3]
    assert told[4] == "echo: x"
    everything = [c["id"] for m in session.state.messages for c in m.get("tool_calls", ())]
    assert len(set(everything)) == 5


async def test_names_that_no_provider_takes_do_not_stay_in_the_history(
    open_session: OpenSession,
) -> None:
    calls = tuple(ToolCall(id=name, name=name, arguments="") for name in ("a b\n", "", "x" * 99))
    model = RawModel(ModelResponse(tool_calls=calls), ModelResponse(text="Done."))
    session = open_session([], client=model)
    await session.run(prompt="Go.")
    for sent in session.state.messages[1]["tool_calls"]:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", sent["function"]["name"])


@pytest.mark.rows("C43")
async def test_a_model_that_makes_no_valid_call_is_stopped(open_session: OpenSession) -> None:
    session = open_session([{"tool_calls": [call("nope")]}] * 50)
    result = await session.run(prompt="Go.")
    assert result.status == "error"
    assert "no valid tool call in 8 turns" in (result.events[-1].content or "")


async def test_text_that_is_not_valid_unicode_never_reaches_the_model(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    def odd() -> str:
        return "file-\udcff"

    answer = ModelResponse(text="\ud83d", tool_calls=(ToolCall(id="a", name="odd", arguments=""),))
    model = RawModel(answer, ModelResponse(text="Done."))
    session = open_session([], odd, client=model)
    await session.run(prompt="look at \udcff")
    json.dumps([*model.requests[-1].messages], ensure_ascii=False).encode()
    check_history(session.state.messages)


@pytest.mark.rows("S-30")
async def test_long_output_is_cut_before_the_model_reads_it(open_session: OpenSession) -> None:
    def long() -> str:
        return "line\n" * 100_000

    session = open_session([{"tool_calls": [call("long")]}, {"text": "Done."}], long)
    await session.run(prompt="Go.")
    assert len(results(session.state.messages)[0]) < 21_000
    assert "tokens truncated" in results(session.state.messages)[0]


async def test_the_system_prompt_and_the_tools_are_in_each_request(
    open_session: OpenSession,
) -> None:
    model = RawModel(ModelResponse(text="{}"))
    config = {"response_format": {"type": "json_object"}, "reasoning_effort": "low"}
    await open_session([], echo, client=model, config=config).run(prompt="Go.")
    (request,) = model.requests
    assert request.messages[0] == {"role": "system", "content": "Help."}
    assert "echo" in [spec["function"]["name"] for spec in request.tools]
    assert request.response_format == {"type": "json_object"}
    assert request.reasoning_effort == "low"


@pytest.mark.rows("S-20", "S-29")
async def test_a_run_that_reaches_max_turns_says_so(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    session = open_session([{"text": "On.", "tool_calls": [call("echo", text="x")]}] * 9, echo)
    result = await session.run(prompt="Go.", max_turns=2)
    assert result.status == session.state.status == "max_turns"
    assert result.events[-1].type == "turn_complete"
    assert kinds(result.events).count("api_call_complete") == 2
    check_history(session.state.messages)


@pytest.mark.rows("S-31")
async def test_the_budget_gate_speaks_to_the_agent_after_tools(open_session: OpenSession) -> None:
    turns = [
        {"tool_calls": [call("echo")], "usage": {"input_tokens": 90}},
        {"expect": "Wrap up, 90.", "text": "Done."},
    ]
    session = open_session(turns, echo)
    session.budget_gate = lambda tokens: f"Wrap up, {tokens}."
    assert (await session.run(prompt="Go.")).status == "completed"
    assert session.state.get_user_messages() == ["Go.", "Wrap up, 90."]


@pytest.mark.rows("S-31")
@pytest.mark.parametrize("says", [None, "Hurry."])
async def test_a_budget_gate_may_be_async_and_need_not_speak(
    open_session: OpenSession, says: str | None
) -> None:
    async def gate(tokens: int) -> str | None:
        return says

    session = open_session([{"tool_calls": [call("echo")]}, {"text": "Done."}], echo)
    session.budget_gate = gate
    await session.run(prompt="Go.")
    assert session.state.get_user_messages() == ["Go.", *([says] if says else [])]


# What no further call could mend
