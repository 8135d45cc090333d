"""Texts that the ledger can keep, whatever a task returned or raised.

JSON may hold half of a surrogate pair, and names of files that are not UTF-8 become such text too.
A database and a file in UTF-8 cannot hold it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["json_text", "storable"]


def json_text(value: object, *, default: Callable[[Any], Any] | None = None) -> str:
    """Return the JSON of `value`, the same for equal values; half a surrogate pair is escaped.

    Raise `TypeError`, `ValueError` or `RecursionError` for what has no JSON, such as NaN.
    """
    text = _dumped(value, default, ensure_ascii=False)
    return text if text == storable(text) else _dumped(value, default, ensure_ascii=True)


def _dumped(value: object, default: Callable[[Any], Any] | None, *, ensure_ascii: bool) -> str:
    return json.dumps(
        value,
        default=default,
        ensure_ascii=ensure_ascii,
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )


def storable(text: str) -> str:
    """Return `text` with question marks instead of what cannot be written as UTF-8."""
    return text.encode(errors="replace").decode()
