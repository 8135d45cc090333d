"""The arguments of a call, as JSON text, from the pieces that a service sent. Does no I/O.

Models and gateways write more than strict JSON objects: nothing, ``null``, raw newlines in
strings, an object encoded twice, ``{}`` before the object, the whole object again after its
pieces. What is plainly one object is read as one; two objects are two calls; anything else
stays as it came, for the model to be told.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_whole", "read_arguments"]

_LENIENT = json.JSONDecoder(strict=False)  # takes raw control characters in strings

MOST_TEXTS = 64
"""JSON texts in one call that are looked at: more than any answer has calls."""


def read_arguments(pieces: Sequence[str]) -> list[str]:
    """Return the texts of the calls that `pieces` are: mostly one, never none.

    Each text is a JSON object, or else all that came, unchanged.
    """
    text = "".join(pieces)
    if not text.strip():
        return ["{}"]
    if _is_object(text):
        return [text]
    values = _values(text)
    if values is None and len(pieces) > 1 and _is_running_total(pieces):
        text = pieces[-1]
        values = _values(text)
    objects = [_object(value) for value in values or ()]
    if not objects or None in objects:
        return [text]
    distinct: list[dict[str, Any]] = []
    for each in objects:
        if each and each not in distinct:
            distinct.append(each)
    return [json.dumps(each, ensure_ascii=False) for each in distinct] or ["{}"]


def is_whole(text: str) -> bool:
    """Whether `text` is one whole JSON text, and so was not cut off."""
    values = _values(text)
    return values is not None and bool(values)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _values(text: str) -> list[Any] | None:
    """The JSON texts that `text` is made of; None if it is made of anything else."""
    values: list[Any] = []
    place = _next(text, 0)
    while place < len(text):
        if len(values) == MOST_TEXTS:
            return None
        try:
            value, place = _LENIENT.raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        values.append(value)
        place = _next(text, place)
    return values


def _next(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _object(value: Any) -> dict[str, Any] | None:
    """`value` as arguments; None if it cannot be that."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):  # encoded twice
        inner = _values(value)
        value = inner[0] if inner is not None and len(inner) == 1 else None
    return value if isinstance(value, dict) else None


def _is_running_total(pieces: Sequence[str]) -> bool:
    """Whether each piece is all that came so far."""
    said = [piece for piece in pieces if piece]
    return all(later.startswith(earlier) for earlier, later in itertools.pairwise(said))
