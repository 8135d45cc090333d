"""A conversation in chat format, told in the blocks of Anthropic's Messages API. Does no I/O.

The two differ in shape: system prompts stand apart, tool results are blocks of the user's
turn, arguments are objects and no text, nothing may be empty. Knows nothing of models: how
much one may write or think is added by its caller.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from paddock.errors import ModelError
from paddock.runtime.models._content import system_count, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from paddock.runtime.core.model import Message

__all__ = ["Block", "call_id", "mark_for_cache", "system_blocks", "tool_params", "turns"]

Block = dict[str, Any]

MARKED_TURNS = 2
"""Turns of the user that end in a cache breakpoint: the last, where this request's prefix is
written, and the one before, where the last request wrote it. Without the second, a turn of
many calls is too far from what was written for the service to find it."""

NOTHING_SAID = "(empty message)"
"""The text of a user's turn that is otherwise blank: without it two
answers would be adjacent, or the conversation would begin with an answer."""

_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")
_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)
_BREAKPOINT = {"type": "ephemeral"}


def system_blocks(messages: Sequence[Message]) -> list[Block]:
    """The system prompt: the messages of that role that stand before all others."""
    return [block for message in messages[: system_count(messages)] for block in _content(message)]


def turns(
    messages: Sequence[Message], answer_of: Callable[[Message, list[Block]], list[Block]]
) -> list[Message]:
    """Return what follows the system prompt, with one turn for everything between two answers.

    Where the user said nothing there is `NOTHING_SAID`.
    `answer_of` is given each answer and its blocks, and gives the blocks to send for it.
    """
    told: list[Message] = []
    for message in messages[system_count(messages) :]:
        if message["role"] == "assistant":
            role, blocks = "assistant", answer_of(message, [*_answer(message)])
        else:
            role, blocks = "user", [*_told(message)]
        if role == "user" and told and told[-1]["role"] == "user":
            told[-1]["content"].extend(blocks)
        elif role == "user" or blocks:
            told.append({"role": role, "content": blocks})
    return [{**turn, "content": turn["content"] or [_text(NOTHING_SAID)]} for turn in told]


def tool_params(tools: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Tools in OpenAI's function format, in Anthropic's."""
    return [_tool(tool["function"]) for tool in tools]


def mark_for_cache(prefix: list[Block], turns: Sequence[Message]) -> None:
    """Set the cache breakpoints: after `prefix`, the last of what never changes (the system
    prompt, or the tools, which come before it), and after the last turns of the user."""
    marked = prefix[-1:]
    told = [turn for turn in turns if turn["role"] == "user"]
    marked += [turn["content"][-1] for turn in told[-MARKED_TURNS:]]
    for block in marked:
        block["cache_control"] = dict(_BREAKPOINT)


def call_id(text: str) -> str:
    """A call's id, as the Messages API takes it; one that came from there stays as it is."""
    return _NOT_IN_ID.sub("_", text)


def _answer(message: Message) -> Iterator[Block]:
    text = text_of(message.get("content"))
    if text.strip():  # the service refuses blank text
        yield _text(text)
    for call in message.get("tool_calls") or ():
        yield {
            "type": "tool_use",
            "id": call_id(call["id"]),
            "name": call["function"]["name"],
            "input": _arguments(call["function"]["arguments"]),
        }


def _told(message: Message) -> Iterator[Block]:
    if message["role"] != "tool":
        yield from _content(message)
        return
    content = message.get("content")
    yield {
        "type": "tool_result",
        "tool_use_id": call_id(message["tool_call_id"]),
        "content": content if isinstance(content, str) else [*_content(message)],
    }


def _content(message: Message) -> Iterator[Block]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                if text.strip():
                    yield _text(text)
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                yield {"type": "image", "source": _image(url)}
            case _:
                raise ModelError(f"Anthropic's models take no {part.get('type')} in a message")


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _image(url: str) -> Block:
    if match := _DATA_URL.fullmatch(url):
        return {"type": "base64", "media_type": match[1], "data": match[2]}
    return {"type": "url", "url": url}


def _arguments(text: str) -> dict[str, Any]:
    """Arguments have to be an object, even if another model wrote something else."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": text}


def _tool(function: Mapping[str, Any]) -> Block:
    schema = {"type": "object", **(function.get("parameters") or {})}
    tool = {"name": function["name"], "input_schema": schema}
    kept = {name: function[name] for name in ("description", "strict") if function.get(name)}
    return {**tool, **kept}
