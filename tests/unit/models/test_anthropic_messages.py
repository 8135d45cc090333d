"""A conversation in chat format, told in Anthropic's blocks: valid whatever it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.errors import ModelError
from paddock.runtime.core.model import ToolCall, assistant_message, tool_message
from paddock.runtime.models._messages import (
    MARKED_TURNS,
    NOTHING_SAID,
    call_id,
    mark_for_cache,
    system_blocks,
    tool_params,
    turns,
)
from paddock.runtime.models._thoughts import are_whole, kept_thoughts, with_thoughts
from paddock.testing import _messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.core.model import Message


def told(messages: Sequence[Message]) -> list[Message]:
    return turns(messages, lambda _, blocks: blocks)


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def call(name: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id=name, name=name, arguments=arguments)


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def test_results_of_parallel_calls_and_what_the_user_adds_are_one_turn() -> None:
    messages = [
        user("Go."),
        assistant_message("I look.", (call("a"), call("b"))),
        tool_message("a", "1"),
        tool_message("b", ""),
        user("Hurry."),
    ]
    _, answer, results = told(messages)
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]
    assert results == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "tool_result", "tool_use_id": "b", "content": ""},
            text("Hurry."),
        ],
    }


def test_system_messages_before_all_others_are_the_system_prompt() -> None:
    messages = [
        {"role": "system", "content": "One."},
        {"role": "developer", "content": "Two."},
        user("Go."),
        {"role": "system", "content": "Three."},
    ]
    assert system_blocks(messages) == [text("One."), text("Two.")]
    assert told(messages) == [user([text("Go."), text("Three.")])]


def test_only_a_system_prompt_is_one_too() -> None:
    messages = [{"role": "system", "content": "One."}]
    assert (system_blocks(messages), told(messages)) == ([text("One.")], [])


@pytest.mark.parametrize("blank", ["", " \n", None, []])
def test_what_is_blank_is_left_out(blank: Any) -> None:
    messages = [user("a"), {"role": "assistant", "content": blank}, user(blank), user("b")]
    assert told(messages) == [user([text("a"), text("b")])]


@pytest.mark.parametrize("blank", ["", " \n", None, []])
def test_a_turn_that_is_all_blank_is_told_as_one_in_which_nothing_was_said(blank: Any) -> None:
    messages = [user(blank), user(blank), assistant_message("Yes?"), user(blank)]
    nothing = user([text(NOTHING_SAID)])
    assert told(messages) == [nothing, {"role": "assistant", "content": [text("Yes?")]}, nothing]


def test_images_are_told_by_address_or_whole() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    (turn,) = told([user(content)])
    assert [block["source"] for block in turn["content"]] == [
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        {"type": "url", "url": "https://example.org/a.png"},
    ]


def test_a_part_that_cannot_be_told_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="input_audio"):
        told([user([{"type": "input_audio", "input_audio": {}}])])


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "", "null"])
def test_arguments_that_are_no_object_become_one(arguments: str) -> None:
    _, answer = told([user("Go."), assistant_message("", (call("a", arguments),))])
    assert answer["content"][0]["input"] == {"INVALID_JSON": arguments}


def test_ids_of_other_providers_become_valid_in_call_and_result() -> None:
    messages = [assistant_message("", (call("f.bash:0"),)), tool_message("f.bash:0", "1")]
    answer, result = told(messages)
    assert answer["content"][0]["id"] == result["content"][0]["tool_use_id"] == "f_bash_0"
    assert call_id("toolu_01-A") == "toolu_01-A"


def test_tools_keep_their_schema_and_what_is_set() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    function = {"name": "f", "description": "Does.", "parameters": schema, "strict": True}
    bare = {"type": "function", "function": {"name": "g"}}
    assert tool_params([{"type": "function", "function": function}, bare]) == [
        {"name": "f", "input_schema": schema, "description": "Does.", "strict": True},
        {"name": "g", "input_schema": {"type": "object"}},
    ]


def test_breakpoints_stand_at_the_end_of_the_prefix_and_of_the_last_turns() -> None:
    system = [text("a"), text("b")]
    messages: list[Message] = []
    for number in range(5):
        messages += [user(str(number)), assistant_message("yes")]
    conversation = told([*messages, user("last")])
    mark_for_cache(system, conversation)
    assert ["cache_control" in block for block in system] == [False, True]
    marked = [turn["content"][-1]["text"] for turn in conversation if _is_marked(turn)]
    assert marked == ["4", "last"]
    assert len(marked) == MARKED_TURNS


def _is_marked(turn: Message) -> bool:
    return any("cache_control" in block for block in turn["content"])


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "s"}


USE = {"type": "tool_use", "id": "a"}
HOME = {"service": "s", "model": "m"}


def thoughtful(message: Message, *blocks: dict[str, Any]) -> Message:
    """`message` with what is kept of an answer of these blocks."""
    return {**message, "opaque": {"service": "s", "message": kept_thoughts([*blocks], "m")}}


def restored(message: Message, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return with_thoughts(message, blocks, **HOME)


def test_thoughts_go_back_where_they_stood() -> None:
    redacted = {"type": "redacted_thinking", "data": "x"}
    message = assistant_message("I look. ", (call("a", '{"n": 1}'),))
    message = thoughtful(message, THOUGHT, text("I "), redacted, text("look."), text(" "), USE)
    _, answer = turns([user("Go."), message], restored)
    assert answer["content"] == [
        THOUGHT, text("I "), redacted, text("look."),
        {"type": "tool_use", "id": "a", "name": "a", "input": {"n": 1}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        assistant_message("Other.", (call("a"),)),
        assistant_message("", (call("a"), call("b"))),
        assistant_message("", (call("b"),)),
        assistant_message("Done."),
    ],
)
def test_an_answer_that_is_not_what_it_was_has_no_thoughts(message: Message) -> None:
    message = thoughtful(message, THOUGHT, USE)
    assert restored(message, blocks := [text("x")]) is blocks
    whole = are_whole([user("Go."), message], **HOME)
    assert not whole, "a turn is whole only if its thoughts are told"


@pytest.mark.parametrize("other", [{"service": "t", "model": "m"}, {"service": "s", "model": "n"}])
def test_thoughts_go_to_nobody_else(other: dict[str, str]) -> None:
    message = thoughtful(assistant_message("", (call("a"),)), THOUGHT, USE)
    assert with_thoughts(message, blocks := [text("x")], **other) is blocks
    assert not are_whole([user("Go."), message], **other)


def test_only_answers_that_thought_and_then_called_are_kept() -> None:
    message = assistant_message("", (call("a"),))
    for blocks in ((USE,), (THOUGHT, text("Done."))):
        assert not are_whole([user("Go."), thoughtful(message, *blocks)], **HOME)
    assert are_whole([user("Go."), thoughtful(message, THOUGHT, USE)], **HOME)
    assert are_whole([user("Go."), message, tool_message("a", ""), user("More.")], **HOME)


texts = st.text(max_size=8)
arguments = st.one_of(
    st.dictionaries(texts, st.integers(), max_size=2).map(json.dumps), st.text(max_size=4)
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Histories as the loop makes them: each call has its result, users speak in between."""
    messages: list[Message] = [{"role": "system", "content": draw(texts)}, user("Go.")]
    for turn in range(draw(st.integers(0, 4))):
        asked = draw(st.lists(arguments, max_size=3))
        ids = [f"{draw(st.sampled_from(['call_', 'f.', 'toolu']))}{turn}_{n}" for n in range(9)]
        calls = [
            ToolCall(id=name, name="bash", arguments=given)
            for name, given in zip(ids, asked, strict=False)
        ]
        messages.append(assistant_message(draw(texts), tuple(calls)))
        messages += [tool_message(each.id, draw(texts)) for each in calls]
        messages += [user(told) for told in draw(st.lists(texts, max_size=2))]
        if not calls:
            messages.append(user("And now?"))
    return messages


@given(conversations())
def test_any_history_is_told_so_that_the_service_accepts_it_whole(
    messages: list[Message],
) -> None:
    system, conversation = system_blocks(messages), told(messages)
    mark_for_cache(system, conversation)
    request = {"model": "m", "max_tokens": 10, "messages": conversation, "system": system}
    again = _messages.conversation(request)
    results = [m["content"] for m in messages if m["role"] == "tool"]
    assert [m["content"] for m in again if m["role"] == "tool"] == results
    said = [m["content"] for m in messages if m["role"] == "user" and m["content"].strip()]
    assert [m["content"] for m in again if m["role"] == "user"] == said
