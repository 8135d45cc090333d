"""What programs give and raise, as JSON and as text that an error can quote."""

from __future__ import annotations

from typing import Any

from paddock.errors import PaddockError
from paddock.runtime.orchestration.records import canonical

__all__ = ["as_json", "shown", "told"]

MAX_SHOWN = 80
"""Characters of a value that an error quotes."""


def as_json(value: object) -> tuple[Any, bytes]:
    """Return `value` as JSON has it, models by their aliases, and as canonical JSON.

    Raise `TypeError` if JSON cannot hold it.
    """
    from pydantic_core import to_jsonable_python

    try:
        plain = to_jsonable_python(value)
        return plain, canonical(plain)
    except Exception as error:  # also what the value's own methods raise
        raise TypeError(told(error)) from None


def shown(value: object) -> str:
    """Return the start of the representation of `value`."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def told(error: BaseException) -> str:
    """Return what `error` says; if it is not one of ours, with its kind."""
    try:
        text = str(error)
    except Exception:
        text = ""
    if isinstance(error, PaddockError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
