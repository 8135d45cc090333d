"""Making messages shorter, so that they fit into fewer tokens. Pure functions over a history.

What is cut first is what is missed least: the oldest tool results and the arguments of their
calls, then the newest results, then what was said before the last prompt. A history stays a
valid next request: each call keeps its result. Sizes are in tokens, estimated.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.size import (
    CHARS_PER_TOKEN,
    estimate_tokens,
    message_characters,
    message_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from paddock.runtime.core.model import Message

__all__ = ["fit", "shorten", "shortened", "shortened_text"]

OLD_TOKENS = 50
"""Tokens that an old tool result, or an old argument of a call, may keep."""

SAID_TOKENS = 200
"""Tokens that an old prompt or answer may keep."""

NOTE_CHARACTERS = 40
"""About what the note takes that stands where something was left out."""

NO_TEXT = "(An image was left out.)"
LEFT_OUT = "(The beginning of this conversation was left out: it is too long.)"


def shortened(message: Message, tokens: int) -> Message:
    """Return `message` with at most about `tokens` of content: its beginning and its end."""
    if estimate_tokens([{**message, "tool_calls": None}]) <= tokens:
        return message
    return {**message, "content": shortened_text(message_text(message), tokens) or NO_TEXT}


def shortened_text(text: str, tokens: int) -> str:
    """Return `text`, or its beginning and its end with a note between them, in `tokens`."""
    room = tokens * CHARS_PER_TOKEN
    if len(text) <= room:
        return text
    half = max(0, room - NOTE_CHARACTERS) // 2
    missing = (len(text) - 2 * half) // CHARS_PER_TOKEN
    return f"{text[:half]}\n...{missing} tokens left out...\n{text[len(text) - half :]}"


def shorten(messages: Sequence[Message], tokens: int) -> list[Message]:
    """Return `messages` with tool results and arguments cut until they have at most `tokens`.

    Where that does not suffice, all of them are cut as far as they may be.
    """
    kept = list(messages)
    newest = _last(kept, "assistant")
    _cut(kept, range(newest), tokens, _shorten_old)
    results = [n for n in range(newest, len(kept)) if kept[n]["role"] == "tool"]
    excess = estimate_tokens(kept) - tokens
    if results and excess > 0:
        room = max(0, estimate_tokens([kept[n] for n in results]) - excess)
        share = max(OLD_TOKENS, room // len(results))
        for n in results:
            kept[n] = shortened(kept[n], share)
    return kept


def fit(messages: Sequence[Message], tokens: int) -> list[Message]:
    """Return `messages` cut by all means until they have at most about `tokens`; the oldest are
    left out if they have to be."""
    kept = shorten(messages, tokens)
    prompt = _last(kept, "user")
    others = [n for n in range(len(kept)) if n != prompt]
    _cut(kept, others, tokens, lambda message: shortened(message, SAID_TOKENS))
    excess = estimate_tokens(kept) - tokens
    if excess <= 0:
        return kept
    least = max(SAID_TOKENS, estimate_tokens([kept[prompt]]) - excess)
    kept[prompt] = shortened(kept[prompt], least)
    newest = _newest(kept, tokens)
    return newest if len(newest) == len(kept) else [{"role": "user", "content": LEFT_OUT}, *newest]


def _newest(messages: list[Message], tokens: int) -> list[Message]:
    """Return the last of `messages` that fit into `tokens`, from a call on, not from a result."""
    left, first = tokens * CHARS_PER_TOKEN, len(messages)
    for n in reversed(range(len(messages))):
        left -= message_characters(messages[n])
        if left < 0:
            break
        if messages[n]["role"] != "tool":
            first = n
    return messages[first:]


def _cut(
    messages: list[Message],
    numbers: Iterable[int],
    tokens: int,
    shorter: Callable[[Message], Message],
) -> None:
    """Replace the messages with these numbers by `shorter` ones, in order, until `tokens`
    are enough."""
    excess = sum(map(message_characters, messages)) - tokens * CHARS_PER_TOKEN
    for n in numbers:
        if excess <= 0:
            return
        cut = shorter(messages[n])
        excess -= message_characters(messages[n]) - message_characters(cut)
        messages[n] = cut


def _shorten_old(message: Message) -> Message:
    if message["role"] == "tool":
        return shortened(message, OLD_TOKENS)
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_shorten_call(call) for call in calls]}


def _shorten_call(call: dict[str, Any]) -> dict[str, Any]:
    """Cut long texts among the arguments, which stay JSON."""
    function = call["function"]
    if len(function["arguments"]) <= OLD_TOKENS * CHARS_PER_TOKEN:
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = None
    told = {}
    if isinstance(arguments, dict):
        told = {key: _shorten_value(value) for key, value in arguments.items()}
    return {**call, "function": {**function, "arguments": json.dumps(told)}}


def _shorten_value(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= OLD_TOKENS * CHARS_PER_TOKEN:
        return value
    return shortened_text(text, OLD_TOKENS)


def _last(messages: Sequence[Message], role: str) -> int:
    """Return the number of the last message of `role`; 0 if there is none."""
    return max((n for n, each in enumerate(messages) if each["role"] == role), default=0)
