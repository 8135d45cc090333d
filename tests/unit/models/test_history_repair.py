"""Histories become valid requests, for the service at hand, and change nothing that was valid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.core.model import Message, ToolCall, assistant_message, tool_message
from paddock.runtime.models._history import (
    CONTINUED,
    NO_RESULT,
    SHORT_IDS,
    STRICT_ROLES,
    quirk_in,
    repaired,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM: Message = {"role": "system", "content": "Help."}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def calling(*ids: str, text: str = "") -> Message:
    return assistant_message(
        text, tuple(ToolCall(id=name, name="bash", arguments="{}") for name in ids)
    )


def ids(messages: Sequence[Message]) -> list[str]:
    of_calls = [call["id"] for m in messages for call in m.get("tool_calls") or ()]
    return [*of_calls, *(m["tool_call_id"] for m in messages if m["role"] == "tool")]


def test_a_valid_history_stays_as_it_is() -> None:
    history = [SYSTEM, user("Go."), calling("a", "b"), tool_message("b", "1"),
               tool_message("a", "2"), assistant_message("Done."), user("More.")]  # fmt: skip
    assert repaired(history) == history


def test_ids_that_are_too_long_are_shortened_alike_for_the_call_and_its_result() -> None:
    long = "chatcmpl-tool-" + "0123456789abcdef" * 2
    once = repaired(
        [user("Go."), calling(long, "b"), tool_message(long, "1"), tool_message("b", "2")]
    )
    short, kept, result, other = ids(once)
    assert len(short) <= 40
    assert (result, kept, other) == (short, "b", "b")
    assert ids(repaired([calling(long), tool_message(long, "1")])) == [short, short], "each time"


def test_mistral_gets_ids_of_nine_letters_or_digits() -> None:
    history = [user("Go."), calling("call_1", "a1B2c3D4e"), tool_message("call_1", ""),
               tool_message("a1B2c3D4e", "")]  # fmt: skip
    first, second, *results = ids(repaired(history, {SHORT_IDS}))
    assert (len(first), first.isalnum(), second) == (9, True, "a1B2c3D4e")
    assert results == [first, second]


def test_calls_without_a_result_are_closed_and_results_without_a_call_left_out() -> None:
    history = [tool_message("x", "?"), user("Go."), calling("a", "b"), tool_message("a", "1"),
               tool_message("a", "again"), user("On."), calling("c")]  # fmt: skip
    assert repaired(history) == [
        user("Go."), calling("a", "b"), tool_message("a", "1"), tool_message("b", NO_RESULT),
        user("On."), calling("c"), tool_message("c", NO_RESULT),
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["", None])
def test_an_answer_that_says_nothing_is_left_out(content: Any) -> None:
    empty: Message = {"role": "assistant", "content": content}
    assert repaired([user("Go."), empty, user("On.")]) == [user("Go."), user("On.")]


def test_strict_templates_get_turns_that_alternate() -> None:
    history = [SYSTEM, user("a"), user("b"), calling("c"), tool_message("c", "1"), user("d"),
               {"role": "system", "content": "e"}, assistant_message("f"), assistant_message("g"),
               {"role": "user", "content": [{"type": "text", "text": "h"}]}, user("i")]  # fmt: skip
    assert repaired(history, {STRICT_ROLES}) == [
        SYSTEM, user("a\n\nb"), calling("c"), tool_message("c", "1"),
        assistant_message(CONTINUED), user("d\n\ne"), assistant_message("f\n\ng"),
        {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("refusal", "quirk"),
    [
        ("Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.", SHORT_IDS),
        ("Conversation roles must alternate user/assistant/user/assistant/...", STRICT_ROLES),
        ("Unexpected role 'user' after role 'tool'", STRICT_ROLES),
        ("System message must be at the beginning.", STRICT_ROLES),
        ("no such model", None),
    ],
)
def test_a_service_says_what_it_wants(refusal: str, quirk: str | None) -> None:
    assert quirk_in(refusal) == quirk
