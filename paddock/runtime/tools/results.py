"""What a function returns as the result of a tool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from enum import Enum
from typing import TYPE_CHECKING

from pydantic_core import PydanticSerializationError, to_json

from paddock.runtime.core.content import ImagePart
from paddock.runtime.core.tool import ToolOutput

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["as_output"]


def as_output(value: object) -> ToolOutput:
    """Return `value` as a result: text as it is, images as images, other values as JSON text.

    A list may have both texts and images. Raises `TypeError` for a value that has no JSON.
    """
    if isinstance(value, ToolOutput):
        return value
    parts = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(part, ImagePart) for part in parts):
        return _mixed(parts)
    return ToolOutput(_text(value))


def _mixed(parts: Sequence[object]) -> ToolOutput:
    shown = [str(part) if isinstance(part, ImagePart) else _text(part) for part in parts]
    images = tuple(part for part in parts if isinstance(part, ImagePart))
    return ToolOutput("\n".join(shown), images=images)


def _text(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, Enum):
        return value
    if isinstance(value, Iterator | AsyncIterator):  # it may never end
        raise TypeError("a tool cannot return an iterator; return a list")
    try:
        return to_json(value).decode()
    except PydanticSerializationError as error:
        raise TypeError(
            f"a tool cannot return {type(value).__qualname__}: {error}; return text, an ImagePart, "
            "or data that pydantic can write as JSON"
        ) from error
