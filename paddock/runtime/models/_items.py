"""A conversation in chat format as the items of OpenAI's Responses API. Does no I/O.

The source of the format is OpenAI's published API reference for ``POST /responses``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.runtime.models._content import system_count, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.model import Message

__all__ = ["Item", "input_items", "instructions", "said", "text_format", "tool_params"]

Item = dict[str, Any]


def instructions(messages: Sequence[Message]) -> str:
    """Return the system prompt: the system messages that the conversation begins with."""
    return "\n\n".join(text_of(each["content"]) for each in messages[: system_count(messages)])


def input_items(messages: Sequence[Message], *, service: str) -> list[Item]:
    """Return what follows the system prompt, with what `service` wants back of its reasoning."""
    items: list[Item] = []
    for message in messages[system_count(messages) :]:
        match message["role"]:
            case "assistant":
                items += _answer(message, service)
            case "tool":
                call_id, output = message["tool_call_id"], _output(message["content"])
                items.append({"type": "function_call_output", "call_id": call_id, "output": output})
            case role:
                spoken = "developer" if role == "system" else role
                content = _parts(message["content"])
                items.append({"type": "message", "role": spoken, "content": content})
    return items


def tool_params(tools: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Return tools in chat format as the service takes them; none is strict unless it says so."""
    return [{"type": "function", "strict": False, **tool["function"]} for tool in tools]


def text_format(response_format: Mapping[str, Any]) -> Item:
    """Return a response format of chat completions as the service takes it."""
    inner = response_format.get("json_schema")
    return {"type": response_format["type"], **(inner if isinstance(inner, dict) else {})}


def _answer(message: Message, service: str) -> list[Item]:
    """An answer of the model. Where `service` itself gave it, its own items go back, unless the
    history says something else by now."""
    text, calls = text_of(message.get("content")), message.get("tool_calls") or []
    called = {call["id"]: call["function"] for call in calls}
    kept = message.get("opaque") or {}
    items: list[Item] = kept.get("items", []) if kept.get("service") == service else []
    if (said(items), [each["call_id"] for each in items if _is_call(each)]) == (text, [*called]):
        return [
            {**each, "arguments": called[each["call_id"]]["arguments"]} if _is_call(each) else each
            for each in items
        ]
    spoken: list[Item] = []
    if text:
        spoken.append({"type": "message", "role": "assistant", "content": text})
    return spoken + [
        {
            "type": "function_call",
            "call_id": call_id,
            "name": function["name"],
            "arguments": function["arguments"],
        }
        for call_id, function in called.items()
    ]


def said(items: Sequence[Item]) -> str:
    """Return the text that the model's `items` have for the user, refusals included."""
    return "".join(part.get("text") or part.get("refusal") or "" for part in _contents(items))


def is_refusal(items: Sequence[Item]) -> bool:
    """Return whether the model refuses to answer in `items`."""
    return any((part.get("refusal") or "").strip() for part in _contents(items))


def _contents(items: Sequence[Item]) -> list[Any]:
    return [part for item in items if item["type"] == "message" for part in item["content"]]


def _is_call(item: Item) -> bool:
    return bool(item["type"] == "function_call")


def _output(content: Any) -> Any:
    return content if isinstance(content, str) else _parts(content)


def _parts(content: Any) -> list[Item]:
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return [_part(part) for part in content or ()]


def _part(part: Item) -> Item:
    match part:
        case {"type": "text"}:
            return {"type": "input_text", "text": part["text"]}
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            return {"type": "input_image", "image_url": url, "detail": rest.get("detail", "auto")}
        case {"type": "file", "file": dict(file)}:
            return {"type": "input_file", **file}
    return part
