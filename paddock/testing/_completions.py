"""Scripted turns in the shape of OpenAI's chat completions. Knows nothing of HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paddock.runtime.models.scripted import pieces, response_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paddock.runtime.core.model import Message, ToolCall, Usage
    from paddock.runtime.models.scripted import ScriptedTurn

__all__ = ["ARGUMENTS_PIECE", "conversation", "error", "error_event", "listed", "stream", "whole"]

ARGUMENTS_PIECE = 12
"""Characters of a call's arguments in one event: a few tokens, as services send them."""

_DONE = b"data: [DONE]\n\n"


def conversation(request: dict[str, Any]) -> list[Message]:
    """The messages of a request's body."""
    messages: list[Message] = request["messages"]
    return messages


def listed(models: Sequence[str]) -> dict[str, Any]:
    """The body that lists the models of the service."""
    entries = [
        {"id": name, "object": "model", "created": 0, "owned_by": "script"} for name in models
    ]
    return {"object": "list", "data": entries}


def error(message: str, status: int) -> dict[str, Any]:
    """The body of an answer with this HTTP status."""
    del status  # this protocol does not repeat it
    return {"error": {"message": message, "type": "scripted", "code": None}}


def error_event(message: str, kind: str) -> bytes:
    """An error in the place of a stream's next event."""
    del kind  # this protocol has no names for them
    return _event(error(message, 200))


def stream(turn: ScriptedTurn, request: dict[str, Any], number: int) -> Iterator[bytes]:
    """The turn as events, with the last one and, if asked for, the one with the usage."""
    head = {**_head(request, number), "object": "chat.completion.chunk"}
    answer = response_of(turn)

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        return _event({**head, "choices": choices})

    yield choice({"role": "assistant", "content": ""})
    for piece in pieces(answer.text):
        yield choice({"content": piece})
    for index, call in enumerate(answer.tool_calls):
        yield from map(choice, _call_deltas(index, call))
    yield choice({}, answer.finish_reason)
    if (request.get("stream_options") or {}).get("include_usage"):
        yield _event({**head, "choices": [], "usage": _usage(answer.usage)})
    yield _DONE


def whole(turn: ScriptedTurn, request: dict[str, Any], number: int) -> dict[str, Any]:
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
        **_head(request, number),
        "object": "chat.completion",
        "choices": [choice],
        "usage": _usage(answer.usage),
    }


def _head(request: dict[str, Any], number: int) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "created": 0, "model": request["model"]}


def _event(content: object) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def _call_deltas(index: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    function = {"name": call.name, "arguments": ""}
    yield {
        "tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]
    }
    for start in range(0, len(call.arguments), ARGUMENTS_PIECE):
        piece = call.arguments[start : start + ARGUMENTS_PIECE]
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
