"""Scripted turns in the shape of OpenAI's chat completions. Knows nothing of HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paddock.runtime.models.scripted import pieces, response_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.runtime.models.base import ToolCall, Usage
    from paddock.runtime.models.scripted import ScriptedTurn

__all__ = ["DONE", "completion", "event", "events"]

DONE = b"data: [DONE]\n\n"

_ARGUMENTS_PIECE = 12  # characters; a few tokens, as services send them


def event(content: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def events(turn: ScriptedTurn, *, model: str, answer_id: str, usage: bool) -> Iterator[bytes]:
    """The turn as a stream, with the last event and, if asked for, the one with the usage."""
    head = {"id": answer_id, "object": "chat.completion.chunk", "created": 0, "model": model}
    answer = response_of(turn)

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        return event({**head, "choices": choices})

    yield choice({"role": "assistant", "content": ""})
    for piece in pieces(answer.text):
        yield choice({"content": piece})
    for index, call in enumerate(answer.tool_calls):
        yield from map(choice, _call_deltas(index, call))
    yield choice({}, answer.finish_reason)
    if usage:
        yield event({**head, "choices": [], "usage": _usage(answer.usage)})
    yield DONE


def completion(turn: ScriptedTurn, *, model: str, answer_id: str) -> dict[str, Any]:
    """The turn as one body."""
    answer = response_of(turn)
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": _function(call)}
            for call in answer.tool_calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": _usage(answer.usage),
    }


def _call_deltas(index: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    function = {"name": call.name, "arguments": ""}
    yield {
        "tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]
    }
    for start in range(0, len(call.arguments), _ARGUMENTS_PIECE):
        piece = call.arguments[start : start + _ARGUMENTS_PIECE]
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
