"""The text of a message's content, which is a string, a list of parts, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paddock.runtime.core.model import Message

__all__ = ["SYSTEM", "images_apart", "is_answered", "system_count", "text_of"]

SYSTEM = frozenset({"system", "developer"})
"""Roles of system prompts."""


def is_answered(choice: Any, messages: Sequence[Message]) -> bool:
    """Whether the `choice` of a tool was answered: a call that it forces was made.

    It would otherwise be forced again with each result, and the run would never end.
    """
    return choice not in ("auto", "none") and bool(messages) and messages[-1]["role"] == "tool"


def text_of(content: Any) -> str:
    """The text in `content`; parts that are not text count as nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_text_of_part, content))
    return ""


def images_apart(messages: Iterable[Message]) -> list[Message]:
    """Return `messages` with the images of tool results in a message of the user after these,
    for services that take only text as a result."""
    told: list[Message] = []
    images: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] != "tool" and images:
            told.append({"role": "user", "content": images})
            images = []
        content = message.get("content")
        if message["role"] == "tool" and isinstance(content, list):
            images.append({"type": "text", "text": f"Result of {message['tool_call_id']}:"})
            images += [part for part in content if part.get("type") != "text"]
            message = {**message, "content": text_of(content)}
        told.append(message)
    return [*told, {"role": "user", "content": images}] if images else told


def system_count(messages: Sequence[Message]) -> int:
    """Return how many system messages come before all others."""
    others = (number for number, each in enumerate(messages) if each["role"] not in SYSTEM)
    return next(others, len(messages))


def _text_of_part(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""
