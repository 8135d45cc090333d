"""The text of a message's content, which is a string, a list of parts, or nothing."""

from __future__ import annotations

from typing import Any

__all__ = ["text_of"]


def text_of(content: Any) -> str:
    """The text in `content`; parts that are not text count as nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_text_of_part, content))
    return ""


def _text_of_part(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""
