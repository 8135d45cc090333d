"""The scripted model, its files, and the factory that makes it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ModelError
from paddock.runtime.core.model import (
    Message,
    ModelRequest,
    ModelResponse,
    TextDelta,
    ToolCall,
    Usage,
)
from paddock.runtime.models import create_model
from paddock.runtime.models.scripted import ScriptedCall, ScriptedModel, ScriptedTurn

if TYPE_CHECKING:
    from pathlib import Path

USER: Message = {"role": "user", "content": "Mend it."}
SCRIPT = """
- text: I run the tests first.
  tool_calls:
    - name: bash
      arguments: {command: python -m pytest, since: 2024-01-01}
    - name: read
      arguments: '{"path": '
  usage: {input_tokens: 12, output_tokens: 3}
- expect: 1 failed
  text: Done.
"""


def request(*messages: Message) -> ModelRequest:
    return ModelRequest(model="scripted", messages=[USER, *messages])


def answer(*results: Any) -> list[Message]:
    tools = [{"role": "tool", "tool_call_id": "x", "content": result} for result in results]
    return [{"role": "assistant", "content": "..."}, *tools]


async def collect(model: Any, asked: ModelRequest) -> list[TextDelta | ModelResponse]:
    return [event async for event in model.stream(asked)]


async def test_a_turn_streams_its_text_and_ends_with_the_whole_answer(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(SCRIPT)
    *deltas, response = await collect(ScriptedModel.from_file(path), request())
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == (
        "I run the tests first."
    )
    assert response == ModelResponse(
        is_priced=True,
        text="I run the tests first.",
        tool_calls=(
            ToolCall(
                id="call_1_1",
                name="bash",
                arguments='{"command": "python -m pytest", "since": "2024-01-01"}',
            ),
            ToolCall(id="call_1_2", name="read", arguments='{"path": '),
        ),
        usage=Usage(input_tokens=12, output_tokens=3),
        finish_reason="tool_calls",
    )


@pytest.mark.parametrize("text", ["", " ", "a", "  a  b\n\nc ", "\n"])
async def test_the_pieces_make_up_the_text_exactly(text: str) -> None:
    *deltas, _ = await collect(ScriptedModel([{"text": text}]), request())
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == text


async def test_the_turn_follows_from_the_request_and_so_conversations_do_not_mix() -> None:
    model = ScriptedModel([ScriptedTurn(text=str(number)) for number in range(3)])
    histories = [request(*answer() * count) for count in (0, 2, 1, 0, 1)]
    replies = await asyncio.gather(*(collect(model, history) for history in histories))
    assert [events[-1].text for events in replies] == ["0", "2", "1", "0", "1"]


async def test_a_function_makes_the_turn_from_the_request() -> None:
    def turn(asked: ModelRequest) -> ScriptedTurn:
        return ScriptedTurn(text=f"you said {asked.messages[0]['content']}")

    model = ScriptedModel([turn, lambda _: {"tool_calls": [{"name": "list", "id": "mine"}]}])
    assert (await collect(model, request()))[-1].text == "you said Mend it."
    response = (await collect(model, request(*answer())))[-1]
    assert isinstance(response, ModelResponse)
    assert response.tool_calls == (ToolCall(id="mine", name="list", arguments="{}"),)


async def test_running_out_of_turns_says_how_many_there_are() -> None:
    with pytest.raises(ModelError, match=r"^demo: turn 2 was asked for, and the script has 1$"):
        await collect(ScriptedModel([{"text": "a"}], name="demo"), request(*answer()))


@pytest.mark.parametrize(
    "expectation", [{"expect": "1 failed"}, {"expect_regex": r"\d failed.*\n.*passed"}]
)
async def test_an_expectation_looks_at_all_that_came_since_the_last_answer(
    expectation: dict[str, str],
) -> None:
    model = ScriptedModel([{}, {"text": "ok", **expectation}])
    parts = [{"type": "text", "text": "2 passed"}]
    assert (await collect(model, request(*answer("1 failed", parts))))[-1].text == "ok"


@pytest.mark.parametrize("expectation", [{"expect": "1 failed"}, {"expect_regex": r"^1 f"}])
async def test_an_expectation_that_is_not_met_shows_what_was_told(
    expectation: dict[str, str],
) -> None:
    model = ScriptedModel([{"expect": "Mend"}, {}, expectation])
    await collect(model, request())
    old = answer("1 failed")
    with pytest.raises(ModelError, match=r"turn 3 expects .*1 f.* was told:\n3 passed"):
        await collect(model, request(*old, *answer("3 passed")))


async def test_a_turn_can_fail_as_a_service_does() -> None:
    with pytest.raises(ModelError) as caught:
        await collect(ScriptedModel([{"error": "no capacity", "status": 503}]), request())
    assert caught.value.status == 503
    assert str(caught.value) == "API error 503 (after retries): no capacity"


async def test_a_delayed_turn_can_be_cancelled() -> None:
    model = ScriptedModel([ScriptedTurn(text="late", delay=3600)])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(collect(model, request()), 0.01)
    await model.aclose()


async def test_the_finish_reason_can_be_scripted() -> None:
    turn = ScriptedTurn(tool_calls=[ScriptedCall(name="bash")], finish_reason="length")
    response = (await collect(ScriptedModel([turn]), request()))[-1]
    assert isinstance(response, ModelResponse)
    assert response.finish_reason == "length"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps([{"text": "\N{PILE OF POO}"}])),
        ("a.yaml", "turns:\n- text: \N{PILE OF POO}\n"),
    ],
)
async def test_a_script_may_be_json_or_have_its_list_under_turns(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    model = create_model(f"scripted:{tmp_path / name}")
    assert (await collect(model, request()))[-1].text == "\N{PILE OF POO}"
    await model.aclose()


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("- txt: a", "turn 1, txt: Unexpected keyword"),
        ("- text: a\n- tool_calls: [{nam: x}]", r"turn 2, tool_calls\[0\].name: Field required"),
        ("- tool_calls: [{name: x, arguments: 3}]", r"turn 1, tool_calls\[0\].arguments"),
        ("- usage: {tokens: 3}", "turn 1, usage.tokens: Unexpected"),
        ("- delay: soon", "turn 1, delay: Input should be a valid number"),
        ("- expect_regex: '('", "turn 1, expect_regex: missing"),
        ("- just text", "turn 1: Input should be a dictionary"),
        ("text: a", "a script is a list of turns"),
        ("3", "a script is a list of turns"),
        ("- [", "line 2: not valid YAML"),
        ("\x00", "not valid YAML"),
        ("- text: a\n  text: b", "line 2: 'text' is given twice"),
    ],
)
def test_a_script_that_is_not_one_names_the_file_and_the_place(
    tmp_path: Path, content: str, place: str
) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=place) as caught:
        ScriptedModel.from_file(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"[{", b"\xff"])
def test_a_json_script_that_is_not_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "script.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"script\.json"):
        create_model(f"scripted:{path}")


def test_a_script_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        ScriptedModel.from_file(tmp_path / "none.yaml")


def test_a_mapping_in_python_is_checked_at_once() -> None:
    with pytest.raises(ConfigError, match="script: turn 2, txt"):
        ScriptedModel([{}, {"txt": "a"}])
