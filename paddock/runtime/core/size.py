"""How long messages are, as far as that can be told without a tokenizer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paddock.runtime.core.model import Message, ModelRequest

__all__ = [
    "CHARS_PER_TOKEN",
    "estimate_request",
    "estimate_tokens",
    "message_characters",
    "message_text",
]

CHARS_PER_TOKEN = 4
"""A rough rate that holds for English text and source code."""

PART_CHARACTERS = 1500 * CHARS_PER_TOKEN
"""What an image, or another part that is not text, counts for: about what most services charge."""


def message_text(message: Message) -> str:
    """Return the text of a message, without parts that are not text."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part.get("text", "") for part in parts if isinstance(part, dict))


def message_characters(message: Message) -> int:
    """Return the size of a message in characters; see `PART_CHARACTERS`."""
    size = len(message_text(message))
    for call in message.get("tool_calls") or ():
        size += len(call["function"]["arguments"])
    content = message.get("content")
    if isinstance(content, list):
        size += PART_CHARACTERS * sum("text" not in part for part in content)
    return size


def estimate_tokens(messages: Iterable[Message]) -> int:
    return sum(map(message_characters, messages)) // CHARS_PER_TOKEN


def estimate_request(request: ModelRequest) -> int:
    tools = len(json.dumps([*request.tools])) // CHARS_PER_TOKEN
    return estimate_tokens(request.messages) + tools
