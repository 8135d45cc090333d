"""Images in the results of tools, as each service takes them."""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletionMessageParam  # noqa: TID253 - what the service takes
from pydantic import TypeAdapter

from paddock.runtime.core.content import ImagePart
from paddock.runtime.core.model import tool_message
from paddock.runtime.models._content import images_apart
from paddock.runtime.models._messages import turns

IMAGE = ImagePart(b"\x89PNG\r\n\x1a\n")
URL = "data:image/png;base64,iVBORw0KGgo="
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": each, "type": "function", "function": {"name": "draw", "arguments": "{}"}}
        for each in ("a", "b")
    ],
}
MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Draw."},
    CALLS,
    tool_message("a", "one", [IMAGE]),
    tool_message("b", "two"),
]


def test_chat_completions_get_images_in_a_message_after_all_results() -> None:
    after = {"role": "assistant", "content": "Nice."}
    told = images_apart([*MESSAGES, after])
    assert told == [
        *MESSAGES[:2],
        tool_message("a", "one"),
        tool_message("b", "two"),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Result of a:"},
                {"type": "image_url", "image_url": {"url": URL}},
            ],
        },
        after,
    ]
    for message in told:
        TypeAdapter[Any](ChatCompletionMessageParam).validate_python(message)
    assert images_apart(MESSAGES) == told[:-1], "also where they are the last"


def test_messages_get_images_in_the_result_itself() -> None:
    result = turns(MESSAGES, lambda _, blocks: blocks)[-1]["content"][0]
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert result == {
        "type": "tool_result",
        "tool_use_id": "a",
        "content": [{"type": "text", "text": "one"}, {"type": "image", "source": source}],
    }
