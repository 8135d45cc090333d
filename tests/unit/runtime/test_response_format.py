"""Structured output: what is sent, what is accepted, and the one chance to mend an answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from paddock.errors import ConfigError
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.core.response_format import AnswerFormat, InvalidAnswer, answer_format
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session
from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from tests.unit.runtime.conftest import OpenSession

SCHEMA = {
    "title": "A report!",
    "type": "object",
    "properties": {"passed": {"type": "integer"}, "notes": {"$ref": "#/$defs/notes"}},
    "required": ["passed"],
    "additionalProperties": False,
    "$defs": {"notes": {"type": "array", "items": {"type": "string"}}},
}


class Report(BaseModel):
    passed: int = Field(ge=0)
    notes: list[str] = []


def made(given: Any) -> AnswerFormat:
    wanted = answer_format(given)
    assert wanted is not None
    return wanted


# ------------------------------------------------------------------- the format


def test_without_a_format_there_is_none() -> None:
    assert answer_format(None) is None


def test_a_schema_and_a_model_are_sent_in_openais_form() -> None:
    assert made(SCHEMA).wire == {
        "type": "json_schema",
        "json_schema": {"name": "A_report_", "schema": SCHEMA},
    }
    sent = made(Report).wire
    assert sent["json_schema"]["name"] == "Report"
    assert sent["json_schema"]["schema"] == Report.model_json_schema()
    json.dumps(sent)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
    ],
)
def test_a_format_of_openais_is_sent_as_it_is(given: dict[str, Any]) -> None:
    assert made(given).wire is given


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "grammar"}, "give a JSON schema, a pydantic model"),
        ({"colour": "red"}, "give a JSON schema, a pydantic model"),
        ({"type": []}, "give a JSON schema"),
        ({"type": "json_schema"}, r"json_schema\.schema has to be a mapping"),
        ({"type": "json_schema", "json_schema": {"schema": True}}, "has to be a mapping"),
        ({"type": "object", "properties": {"a": {"type": "int"}}}, r"\$\.properties\.a\.type"),
    ],
)
def test_what_is_no_format_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        answer_format(given)


def test_a_class_that_is_no_model_is_told_when_the_config_is_made() -> None:
    with pytest.raises(ConfigError, match="response_format: give a mapping or a pydantic model"):
        AgentConfig(response_format=dict)


# ------------------------------------------------------------------- the answers


def test_an_answer_is_read_as_its_format_has_it() -> None:
    assert made({"type": "text"}).read("{") == "{"
    assert made({"type": "json_object"}).read('{"a": [1]}') == {"a": [1]}
    assert made(SCHEMA).read(' {"passed": 1, "notes": ["x"]}\n') == {"passed": 1, "notes": ["x"]}
    assert made(Report).read('{"passed": 1}') == Report(passed=1)
    assert made({"type": ["integer", "null"]}).read("null") is None
    assert made({"enum": [1, 2]}).read("2") == 2


def test_a_fence_around_an_answer_is_not_held_against_it() -> None:
    for text in ('```json\n{"passed": 2}\n```', '\n```\n{"passed": 2}\n  ```\n'):
        assert made(SCHEMA).read(text) == {"passed": 2}
        assert made(Report).read(text) == Report(passed=2)


@pytest.mark.parametrize(
    ("given", "answer", "told"),
    [
        (SCHEMA, "All passed.", "it is not JSON: Expecting value: line 1"),
        (SCHEMA, "", "it is not JSON"),
        (SCHEMA, '{"passed": NaN}', "NaN is not JSON"),
        (SCHEMA, "9" * 5000, "it is not JSON that can be read"),
        (SCHEMA, "[" * 100_000, "it is not JSON that can be read"),
        (SCHEMA, '{"passed": "1"}', r"^\$\.passed: '1' is not of type 'integer'$"),
        (SCHEMA, '{"passed": 1, "notes": ["a", 2]}', r"^\$\.notes\[1\]: 2 is not of type"),
        (SCHEMA, "{}", r"^\$: 'passed' is a required property$"),
        (SCHEMA, '{"passed": 1, "more": 2}', r"^\$: Additional properties"),
        (Report, "{", "it is not JSON"),
        (Report, '{"passed": -1}', r"^\$\.passed: Input should be greater"),
        (Report, '{"passed": 1, "notes": [1]}', r"^\$\.notes\[0\]: Input should be a valid str"),
        ({"type": "json_object"}, "[]", r"^\$: \[\] is not of type 'object'$"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told_with_its_place(
    given: Any, answer: str, told: str
) -> None:
    with pytest.raises(InvalidAnswer, match=told):
        made(given).read(answer)


def test_of_a_bad_answer_only_so_much_is_told() -> None:
    bad = json.dumps({"passed": "x" * 10_000, "notes": list(range(50))})
    for given in (SCHEMA, Report):
        with pytest.raises(InvalidAnswer) as told:
            made(given).read(bad)
        lines = str(told.value).splitlines()
        assert len(lines) == 5
        assert max(map(len, lines)) <= 300


def test_a_schema_fetches_nothing() -> None:
    elsewhere = made({"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(ConfigError, match="the schema refers to http://127"):
        elsewhere.read("{}")


# ------------------------------------------------------------------- runs


async def test_a_valid_answer_is_the_output_of_the_run(open_session: OpenSession) -> None:
    session = open_session([{"text": '{"passed": 3}'}], config={"response_format": Report})
    result = await session.run(prompt="Go.")
    assert (result.status, result.output) == ("completed", Report(passed=3))
    assert result.text == '{"passed": 3}'


async def test_without_a_format_a_run_has_no_output(open_session: OpenSession) -> None:
    assert (await open_session([{"text": "1"}]).run(prompt="Go.")).output is None


async def test_an_invalid_answer_is_told_to_the_model_which_answers_again(
    open_session: OpenSession,
) -> None:
    turns = [
        {"text": '{"passed": "three"}'},
        {"expect": "$.passed: 'three' is not of type 'integer'", "text": '{"passed": 3}'},
    ]
    session = open_session(turns, config={"response_format": SCHEMA})
    result = await session.run(prompt="Go.")
    assert (result.status, result.output) == ("completed", {"passed": 3})
    assert [event.type for event in result.events].count("turn_complete") == 1
    assert [message["role"] for message in session.state.messages] == [
        "user", "assistant", "user", "assistant",
    ]  # fmt: skip


async def test_a_second_invalid_answer_ends_the_run_with_what_was_wrong(
    open_session: OpenSession,
) -> None:
    session = open_session([{"text": "Three."}, {"text": "3!"}], config={"response_format": SCHEMA})
    result = await session.run(prompt="Go.")
    assert (result.status, result.output, result.text) == ("error", None, "3!")
    told = [event.content or "" for event in result.events if event.type == "error"]
    assert len(told) == 1
    assert told[0].startswith("the answer is not of the response format: it is not JSON")
    assert session.state.status == "error"


async def test_each_run_has_its_own_chance_to_mend(open_session: OpenSession) -> None:
    turns = [{"text": "a"}, {"text": '{"passed": 1}'}, {"text": "b"}, {"text": '{"passed": 2}'}]
    session = open_session(turns, config={"response_format": Report})
    outputs = [(await session.run(prompt="Go.")).output for _ in range(2)]
    assert outputs == [Report(passed=1), Report(passed=2)]


async def test_tools_are_called_before_the_answer_and_while_it_is_mended(
    open_session: OpenSession,
) -> None:
    def count() -> str:
        return "3"

    def calls(number: int) -> dict[str, Any]:
        return {"text": "Counting.", "tool_calls": [{"name": "count", "id": f"call{number}"}]}

    turns = [calls(1), {"text": "Three."}, calls(2), {"expect": "3", "text": '{"passed": 3}'}]
    session = open_session(turns, count, config={"response_format": Report})
    assert (await session.run(prompt="Go.")).output == Report(passed=3)


async def test_mending_is_a_turn_as_any_other(open_session: OpenSession) -> None:
    turns = [{"text": "Three."}, {"text": '{"passed": 3}'}]
    session = open_session(turns, config={"response_format": Report})
    result = await session.run(prompt="Go.", max_turns=1)
    assert (result.status, result.output) == ("max_turns", None)


@pytest.mark.rows("S-11")
async def test_format_tier_and_effort_reach_an_openai_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = [{"text": "Three."}, {"text": '{"passed": 3}'}]
    async with ModelServer(ScriptedModel(turns)) as server:
        monkeypatch.setenv("OPENAI_API_KEY", server.api_key)
        config = AgentConfig(
            system_prompt="Help.",
            model="m",
            base_url=server.base_url,
            response_format=Report,
            service_tier="flex",
            reasoning_effort="low",
        )
        async with Session(Agent(config)) as session:
            result = await session.run(prompt="Go.")
        assert result.output == Report(passed=3)
        assert len(server.requests) == 2
        for request in server.requests:
            body = request.body
            assert (body["service_tier"], body["reasoning_effort"]) == ("flex", "low")
            assert body["response_format"]["json_schema"]["schema"] == Report.model_json_schema()


def test_a_partial_file_has_the_schema_of_a_model_in_its_place() -> None:
    config = AgentConfig(response_format=Report)
    with pytest.raises(ConfigError, match="response_format: a class cannot"):
        config.to_yaml()
    again = AgentConfig.from_yaml(config.to_yaml(partial=True))
    assert again.response_format == made(Report).wire
