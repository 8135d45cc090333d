"""The test server refuses what Anthropic's service refuses."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.testing import _messages

GO = {"role": "user", "content": "Go."}
CALL = {"type": "tool_use", "id": "a", "name": "bash", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "1"}
MARKED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


def request(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 2000, "messages": [GO, *messages], **more}


def turn(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": [*blocks]}


def test_a_conversation_that_is_valid_is_told_in_chat_format() -> None:
    messages = [turn("assistant", CALL), turn("user", RESULT, {"type": "text", "text": "Hurry."})]
    assert _messages.conversation(request(*messages, system="You test.")) == [
        {"role": "system", "content": "You test."},
        {"role": "user", "content": "Go."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "bash", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "user", "content": "Hurry."},
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"model": "m", "messages": [GO]}, "max_tokens"),
        ({"model": "m", "max_tokens": 1, "messages": []}, "at least one message"),
        (request(frequency_penalty=1), "frequency_penalty"),
        (request(turn("system", MARKED)), "role 'system'"),
        (request(turn("user")), "non-empty"),
        ({**request(), "messages": [turn("assistant", MARKED), GO]}, "first"),
        (request(turn("assistant", MARKED)), "prefill"),
        (request(turn("user", {"type": "text", "text": " "})), "non-whitespace"),
        (request(turn("user", {"type": "input_text"})), "not a content block"),
        (request(turn("assistant", CALL), GO), "immediately after"),
        (request(turn("user", RESULT)), "immediately after"),
        (request(turn("assistant", CALL), turn("user", MARKED, RESULT)), "immediately after"),
        (request(turn("assistant", CALL, CALL), turn("user", RESULT, RESULT)), "unique"),
        (request(turn("assistant", {**CALL, "input": "{}"}), turn("user", RESULT)), "an object"),
        (request(turn("user", *[MARKED] * 5)), "cache_control"),
        (request(thinking={"type": "enabled", "budget_tokens": 100}), "1024"),
        (request(thinking={"type": "enabled", "budget_tokens": 2000}), "greater"),
        (
            request(
                turn("assistant", CALL),
                turn("user", RESULT),
                thinking={"type": "enabled", "budget_tokens": 1024},
            ),
            "Expected `thinking`",
        ),
        (
            request(
                turn("assistant", {"type": "thinking", "thinking": "Hm.", "signature": "forged"}),
                GO,
            ),
            "signature",
        ),
    ],
)
def test_what_the_service_refuses_is_refused(body: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _messages.conversation(body)
