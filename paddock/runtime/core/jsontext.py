"""JSON that anybody may have written, and values as a text that people and models read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["as_text", "problems_in", "read_json"]


def read_json(text: str | bytes) -> Any:
    """Return the value in `text`. Raise `ValueError` for anything but JSON, which has neither NaN
    nor Infinity, and `RecursionError` for one that is nested too deep."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def as_text(value: object) -> str:
    """Return a text as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def problems_in(error: ValidationError) -> list[str]:
    """Return each problem with its place. No value is quoted."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found]
