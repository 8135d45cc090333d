"""What a service counted, of whatever type it is. Does no I/O."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["amount", "details", "tokens"]


def tokens(value: object) -> int:
    """Return a number of tokens; 0 for anything else."""
    found = amount(value)
    return 0 if found is None else int(found)


def amount(value: object) -> float | None:
    """Return a number that a budget can be compared with, also one in a text; None for others."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < math.inf else None


def details(value: object) -> dict[str, Any]:
    """Return an object of details; an empty one for anything else."""
    return value if isinstance(value, dict) else {}
