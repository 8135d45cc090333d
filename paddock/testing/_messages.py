"""Scripted turns in the shape of Anthropic's messages. Knows nothing of HTTP."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from paddock.runtime.models.scripted import pieces, response_of
from paddock.testing._completions import ARGUMENTS_PIECE
from paddock.testing._message_rules import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paddock.runtime.core.model import Message, ModelResponse, ToolCall, Usage
    from paddock.runtime.models.scripted import ScriptedTurn

__all__ = ["conversation", "counted", "error", "error_event", "listed", "stream", "whole"]

_STOP_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
_ERRORS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def conversation(request: dict[str, Any]) -> list[Message]:
    """The request's messages in chat format, which is what scripts are written for.

    Raises `ValueError` for a request that the real service refuses.
    """
    check(request, sign=_sign)
    told = (
        [{"role": "system", "content": _text_of(request["system"])}] if "system" in request else []
    )
    for turn in request["messages"]:
        told += [_answer(turn)] if turn["role"] == "assistant" else _told(turn)
    return told


def counted(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to how many tokens `request` would take: about a quarter of its characters.

    Raises `ValueError` for a request that the real service refuses.
    """
    check({**request, "max_tokens": 1}, sign=_sign)
    parts = [request.get(key) for key in ("system", "messages", "tools")]
    return {"input_tokens": max(1, len(json.dumps(parts, ensure_ascii=False)) // 4)}


def listed(models: Sequence[str]) -> dict[str, Any]:
    """The body that lists the models of the service."""
    entries = [
        {
            "id": name,
            "type": "model",
            "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",
        }
        for name in models
    ]
    ends = {"first_id": models[0], "last_id": models[-1]} if models else {}
    return {"data": entries, "has_more": False, "first_id": None, "last_id": None, **ends}


def error(message: str, status: int) -> dict[str, Any]:
    """The body of an answer with this HTTP status."""
    kind = _ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_0"}


def error_event(message: str, kind: str) -> bytes:
    """An error in the place of a stream's next event."""
    return _event({"type": "error", "error": {"type": kind, "message": message}})


def stream(turn: ScriptedTurn, request: dict[str, Any], number: int) -> Iterator[bytes]:
    """The turn as events."""
    answer = response_of(turn)
    usage = _usage(answer.usage)
    begun = {**_head(request, number), "content": [], "usage": {**usage, "output_tokens": 1}}
    begun |= {"stop_reason": None, "stop_sequence": None}
    yield _event({"type": "message_start", "message": begun})
    yield _event({"type": "ping"})
    for index, (block, deltas) in enumerate(_blocks(turn, answer)):
        yield _event({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    yield _event({"type": "message_delta", "delta": _stop(answer), "usage": usage})
    yield _event({"type": "message_stop"})


def whole(turn: ScriptedTurn, request: dict[str, Any], number: int) -> dict[str, Any]:
    """The turn as one body."""
    answer = response_of(turn)
    content: list[dict[str, Any]] = []
    if turn.thinking:
        content.append(_thinking(turn.thinking))
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    content += [_call(call) | {"input": _input(call.arguments)} for call in answer.tool_calls]
    usage = _usage(answer.usage)
    return {**_head(request, number), "content": content, "usage": usage, **_stop(answer)}


def _blocks(
    turn: ScriptedTurn, answer: ModelResponse
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each block of the answer as it begins, and the deltas that make the rest of it."""
    if turn.thinking:
        signature = {"type": "signature_delta", "signature": _sign(turn.thinking)}
        thoughts = [{"type": "thinking_delta", "thinking": text} for text in pieces(turn.thinking)]
        begun = {"type": "thinking", "thinking": "", "signature": ""}
        yield begun, [*thoughts, signature]
    if answer.text:
        texts = [{"type": "text_delta", "text": text} for text in pieces(answer.text)]
        yield {"type": "text", "text": ""}, texts
    for call in answer.tool_calls:
        starts = range(0, len(call.arguments), ARGUMENTS_PIECE)
        cut = [call.arguments[start : start + ARGUMENTS_PIECE] for start in starts]
        yield (
            _call(call) | {"input": {}},
            [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *cut]],
        )


def _head(request: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _input(arguments: str) -> dict[str, Any]:
    """A whole answer has no place for malformed arguments: the service makes an object of all."""
    try:
        value = json.loads(arguments)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": _sign(text)}


def _sign(thinking: str) -> str:
    return hashlib.sha256(thinking.encode()).hexdigest()


def _stop(answer: ModelResponse) -> dict[str, Any]:
    reason = _STOP_REASONS.get(answer.finish_reason, answer.finish_reason)
    stop: dict[str, Any] = {"stop_reason": reason, "stop_sequence": None}
    if reason == "refusal":
        stop["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
    return stop


def _usage(usage: Usage) -> dict[str, Any]:
    apart = usage.cached_tokens + usage.cache_write_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - apart),
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _event(content: dict[str, Any]) -> bytes:
    data = json.dumps(content, separators=(",", ":"))
    return f"event: {content['type']}\ndata: {data}\n\n".encode()


def _answer(turn: dict[str, Any]) -> Message:
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"])},
        }
        for block in _listed(turn["content"])
        if block["type"] == "tool_use"
    ]
    message: Message = {"role": "assistant", "content": _text_of(turn["content"])}
    return message | {"tool_calls": calls} if calls else message


def _told(turn: dict[str, Any]) -> Iterator[Message]:
    """The results of calls, and each text of the user as a message of its own."""
    for block in _listed(turn["content"]):
        if block["type"] == "tool_result":
            content = _text_of(block.get("content", ""))
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}
        else:
            yield {"role": "user", "content": _text_of([block])}


def _text_of(content: Any) -> str:
    return "".join(block.get("text", "") for block in _listed(content))


def _listed(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
