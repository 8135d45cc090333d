"""Scripted turns in the shape of OpenAI's Responses API. Knows nothing of HTTP.

The source of the format is OpenAI's published API reference, as their `openai` package types it.
"""

from __future__ import annotations

import hashlib
import json
from itertools import count
from typing import TYPE_CHECKING, Any

from paddock.runtime.models.scripted import pieces, response_of
from paddock.testing._completions import ARGUMENTS_PIECE, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.runtime.core.model import Message, ModelResponse, ToolCall, Usage
    from paddock.runtime.models.scripted import ScriptedTurn

__all__ = ["conversation", "error", "error_event", "listed", "stream", "whole"]

Item = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def conversation(request: dict[str, Any]) -> list[Message]:
    """The request's items in chat format, which is what scripts are written for.

    Raises `ValueError` for items that the real service refuses.
    """
    items = request["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    _check(items)
    told: list[Message] = []
    if request.get("instructions"):
        told.append({"role": "system", "content": request["instructions"]})
    for item in items:
        _tell(item, told)
    return told


def error(message: str, status: int) -> dict[str, Any]:
    """The body of an answer with this HTTP status."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def error_event(message: str, kind: str) -> bytes:
    """An error in the place of a stream's next event."""
    content = {"code": kind, "message": message, "param": None, "sequence_number": 0}
    return _encode({"type": "error", **content})


def stream(turn: ScriptedTurn, request: dict[str, Any], number: int) -> Iterator[bytes]:
    """The turn as events."""
    numbers = count()
    for event in _events(turn, request, number):
        yield _encode({**event, "sequence_number": next(numbers)})


def whole(turn: ScriptedTurn, request: dict[str, Any], number: int) -> dict[str, Any]:
    """The turn as one body."""
    answer = response_of(turn)
    reason = _INCOMPLETE.get(answer.finish_reason)
    return {
        **_head(request, number),
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _output(turn, answer, number),
        "usage": _usage(answer.usage),
    }


def _events(turn: ScriptedTurn, request: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    begun = {**_head(request, number), "status": "in_progress", "output": [], "usage": None}
    for name in ("created", "in_progress"):
        yield {"type": f"response.{name}", "response": begun}
    ended = whole(turn, request, number)
    for index, item in enumerate(ended["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        yield {"type": "response.output_item.added", "output_index": index, "item": _empty(item)}
        match item["type"]:
            case "reasoning":
                yield from _summary_events(item, place)
            case "message":
                yield from _text_events(item, place)
            case _:
                yield from _argument_events(item, place)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{ended['status']}", "response": ended}


def _summary_events(item: Item, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {**place, "summary_index": 0}
    (part,) = item["summary"]
    empty = {**part, "text": ""}
    yield {"type": "response.reasoning_summary_part.added", **place, "part": empty}
    for piece in pieces(part["text"]):
        yield {"type": "response.reasoning_summary_text.delta", **place, "delta": piece}
    yield {"type": "response.reasoning_summary_text.done", **place, "text": part["text"]}
    yield {"type": "response.reasoning_summary_part.done", **place, "part": part}


def _text_events(item: Item, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {**place, "content_index": 0}
    (part,) = item["content"]
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        delta = {"delta": piece, "logprobs": []}
        yield {"type": "response.output_text.delta", **place, **delta}
    done = {"text": part["text"], "logprobs": []}
    yield {"type": "response.output_text.done", **place, **done}
    yield {"type": "response.content_part.done", **place, "part": part}


def _argument_events(item: Item, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    arguments = item["arguments"]
    for start in range(0, len(arguments), ARGUMENTS_PIECE):
        piece = arguments[start : start + ARGUMENTS_PIECE]
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    done = {"arguments": arguments, "name": item["name"]}
    yield {"type": "response.function_call_arguments.done", **place, **done}


def _output(turn: ScriptedTurn, answer: ModelResponse, number: int) -> list[Item]:
    items: list[Item] = []
    if turn.thinking:
        items.append(
            {
                "id": f"rs_{number}",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": turn.thinking}],
                "encrypted_content": _sign(f"rs_{number}"),
            }
        )
    if answer.text:
        content = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        items.append({**_message(number), "status": "completed", "content": [content]})
    return items + [_call(call) for call in answer.tool_calls]


def _empty(item: Item) -> Item:
    """`item` as it is when it begins."""
    begun = {key: value for key, value in item.items() if key != "encrypted_content"}
    if "status" in item:
        begun["status"] = "in_progress"
    nothing: dict[str, Any] = {"summary": [], "content": [], "arguments": ""}
    return begun | {field: nothing[field] for field in nothing if field in item}


def _message(number: int) -> Item:
    return {"id": f"msg_{number}", "type": "message", "role": "assistant"}


def _call(call: ToolCall) -> Item:
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def _head(request: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "model": request["model"],
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _sign(item_id: str) -> str:
    return hashlib.sha256(item_id.encode()).hexdigest()


def _encode(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def _check(items: list[Item]) -> None:
    """Raise `ValueError` for what the service refuses with status 400."""
    called = [item["call_id"] for item in items if item.get("type") == "function_call"]
    told = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    for call_id in called:
        if call_id not in told:
            raise ValueError(f"No tool output found for function call {call_id}.")
    for call_id in told:
        if call_id not in called:
            raise ValueError(f"No tool call found for function call output with call_id {call_id}.")
    for item, after in zip(items, [*items[1:], {}], strict=True):
        if item.get("type") != "reasoning":
            continue
        if item.get("encrypted_content") != _sign(item["id"]):
            raise ValueError(f"Item '{item['id']}' of type 'reasoning' could not be verified.")
        if after.get("type", "message") not in ("function_call", "message", "reasoning"):
            text = f"Item '{item['id']}' of type 'reasoning' was provided without its required"
            raise ValueError(f"{text} following item.")


def _tell(item: Item, told: list[Message]) -> None:
    """Add what `item` says to the messages of chat format."""
    match item.get("type", "message"):
        case "message" if item["role"] == "assistant":
            _last_answer(told)["content"] += _text_of(item["content"])
        case "message":
            role = "system" if item["role"] == "developer" else item["role"]
            told.append({"role": role, "content": _text_of(item["content"])})
        case "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            _last_answer(told).setdefault("tool_calls", []).append(call)
        case "function_call_output":
            text = _text_of(item["output"])
            told.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})


def _last_answer(told: list[Message]) -> Message:
    if not told or told[-1]["role"] != "assistant":
        told.append({"role": "assistant", "content": ""})
    return told[-1]


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
