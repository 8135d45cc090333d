"""Agents that work for an agent: what they get from it, what they give it, what they cost it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock import Budget, ConfigError, State, ToolInvocation
from paddock.runtime.conversation.trace import read_records
from paddock.runtime.session.subagents import conversation
from paddock.runtime.tools.delegate import DelegateHandler
from tests.unit.runtime.delegating import (
    CHILD_USAGE,
    USAGE,
    Touch,
    Two,
    delegating,
    running,
    session_of,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message
    from tests.unit.runtime.conftest import CountingBackend

    CheckHistory = Callable[[Sequence[Message]], None]


@pytest.mark.rows("S-50", "O-16")
async def test_a_child_works_in_the_sandbox_of_its_parent_and_its_answer_is_the_result(
    tmp_path: Path,
) -> None:
    client = Two(
        [delegating(), {"expect": "Two files", "text": "There are two.", "usage": USAGE}],
        [
            running("pwd; echo x > made"),
            {"expect": str(tmp_path), "text": "Two files.", "usage": CHILD_USAGE},
        ],
    )
    async with session_of(client, working_dir=str(tmp_path), model="one-model") as session:
        result = await session.run("How many?")
        sandbox = await session.get_sandbox()
        assert await sandbox.fs.read_text("made") == "x\n"
    assert (result.text, result.status) == ("There are two.", "completed")
    content, metadata = told(result)
    assert content == "Two files."
    assert (metadata["success"], metadata["child_status"]) == (True, "completed")
    assert metadata["child_session_id"] not in {"", session.id}
    assert metadata["child_usage"]["input_tokens"] == 14
    assert metadata["duration_seconds"] > 0
    first = client.requests[0]
    assert first.model == "one-model"
    assert [message["content"] for message in first.messages] == ["Help.", "Count the files."]
    names = {tool["function"]["name"] for tool in first.tools}
    assert names == set(session.registry) - {"delegate"}


@pytest.mark.rows("S-50")
async def test_what_a_child_uses_up_is_its_parents_in_result_state_trace_and_budget(
    tmp_path: Path,
) -> None:
    client = Two(
        [delegating(), {"text": "Done.", "usage": USAGE}],
        [running("true"), {"text": "Yes.", "usage": CHILD_USAGE}],
    )
    async with session_of(client, directory=tmp_path / "s") as session:
        result = await session.run("Go.", budget=Budget(turns=4))
    assert result.status == "completed"
    assert (result.usage["input_tokens"], result.usage["output_tokens"]) == (214, 26)
    assert result.usage["cost_usd"] == session.state.usage["cost_usd"] == 1.5
    assert session.state.last_input_tokens == 100
    trace = (tmp_path / "s" / "trace.jsonl").read_bytes()
    assert State.from_jsonl(trace).usage == session.state.usage
    kept = [each for each in read_records(trace).records if each["type"] == "child_llm_end"]
    assert [each["input_tokens"] for each in kept] == [7, 7]
    assert {each["child_session_id"] for each in kept} == {told(result)[1]["child_session_id"]}


@pytest.mark.rows("S-50")
async def test_a_budget_bounds_parent_and_child_together() -> None:
    client = Two([delegating(), {"text": "x"}], [running("true"), {"text": "Never said."}])
    async with session_of(client) as session:
        result = await session.run("Go.", budget=Budget(turns=2))
    content, metadata = told(result)
    assert metadata["child_status"] == result.status == "budget"
    assert not metadata["success"]
    assert "did not finish (budget: the budget of 2 model calls is used up: 2)" in content


@pytest.mark.rows("S-50")
async def test_full_context_is_a_copy_of_the_conversation_up_to_the_call(
    check_history: CheckHistory,
) -> None:
    client = Two(
        [{"text": "Hello."}, delegating(full_context=True), {"text": "Done."}],
        [{"text": "unused"}, {"text": "unused"}, {"text": "I know it all."}],
    )
    async with session_of(client) as session:
        await session.run("The word is plum.")
        result = await session.run("Go on.")
        check_history(session.state.messages)
    assert told(result)[0] == "I know it all."
    (request,) = client.requests
    assert [message["content"] for message in request.messages] == [
        "Help.",
        "The word is plum.",
        "Hello.",
        "Go on.",
        "I hand it on.",
        "Count the files.",
    ]
    check_history(request.messages[1:])
    assert len(session.state.messages) == 6


def test_a_conversation_is_cut_where_its_calls_are_open(check_history: CheckHistory) -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": "x", "arguments": "{}"}}
        for name in ("a", "b")
    ]
    whole: list[Message] = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
        {"role": "tool", "tool_call_id": "b", "content": "3"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "5"},
    ]
    assert conversation(whole) == whole
    assert conversation(whole)[1]["tool_calls"][0] is not calls[0]
    half = [*whole, {"role": "assistant", "content": None, "tool_calls": calls}, whole[2]]
    assert conversation(half) == whole
    check_history(conversation(half))
    assert conversation([]) == []


@pytest.mark.rows("S-50")
@pytest.mark.parametrize("instruction", ["", " \n"])
async def test_an_empty_instruction_is_refused(instruction: str) -> None:
    client = Two([delegating(instruction), {"text": "Oh."}], [])
    async with session_of(client) as session:
        result = await session.run("Go.")
    content, metadata = told(result)
    assert content == "The instruction is empty: say what to do."
    assert metadata["success"] is False
    assert client.requests == []


@pytest.mark.rows("S-50")
async def test_a_child_with_a_sandbox_of_its_own_takes_it_down(backend: CountingBackend) -> None:
    client = Two(
        [delegating(), {"text": "Done."}],
        [{"tool_calls": [{"name": "touch"}]}, {"expect": "counting", "text": "Touched."}],
    )
    async with session_of(
        client, handler=DelegateHandler(sandbox="own"), backend=backend
    ) as session:
        session.registry.register(Touch())
        ours = await session.get_sandbox()
        assert told(await session.run("Go."))[0] == "Touched."
        assert len(backend.made) == 2
        assert backend.live == [ours]
    assert backend.live == []


async def test_a_childs_commands_get_the_runs_secrets_and_its_model_does_not() -> None:
    client = Two(
        [delegating(), {"text": "Done."}],
        [
            running('echo "$KEY"; test ${#KEY} = 18 && echo same'),
            {"expect": "same", "text": "Same."},
        ],
    )
    async with session_of(client) as session:
        result = await session.run("Go.", secrets={"KEY": "very-secret-indeed"})
        sandbox = await session.get_sandbox()
        assert (await sandbox.exec('echo "-$KEY-"')).stdout == "--\n"
    assert told(result)[0] == "Same."
    assert "very-secret-indeed" not in repr(client.requests)


def test_a_sandbox_that_is_neither_shared_nor_own_is_refused() -> None:
    with pytest.raises(ConfigError, match="not 'owned'"):
        DelegateHandler(sandbox="owned")  # type: ignore[arg-type]


async def test_a_tool_that_runs_agents_says_so_outside_a_session() -> None:
    call = ToolInvocation("1", "delegate", {"instruction": "x"})
    with pytest.raises(RuntimeError, match="needs a session"):
        await DelegateHandler().handle(call)


async def test_agents_that_work_at_once_make_no_more_model_calls_than_the_budget_has() -> None:
    calls = [call for number in range(8) for call in delegating(str(number))["tool_calls"]]
    client = Two([{"tool_calls": calls}], [{"text": "Done."}] * 8)
    async with session_of(client, handler=DelegateHandler()) as session:
        result = await session.run("Go.", budget=Budget(turns=3))
    assert result.status == "budget"
    assert len(client.requests) == 2, "the third was the parent's"


async def test_secrets_of_a_run_are_taken_back_from_a_sandbox_that_only_a_child_used() -> None:
    client = Two([delegating(), {"text": "Done."}], [running("true"), {"text": "Ran."}])
    async with session_of(client, handler=DelegateHandler()) as session:
        await session.run("Go.", secrets={"RUN_TOKEN": "only-for-this-run"})
        sandbox = await session._resources.sandbox.get()
        assert not sandbox.secrets
