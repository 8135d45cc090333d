"""The form that a result has to have: read from a request, and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from paddock.errors import ConfigError
from paddock.runtime.core.response_format import schema_validator
from paddock.runtime.remote.failures import RequestFailed
from paddock.runtime.remote.handler import Outcome

__all__ = ["MISMATCH", "check_output", "output_format"]

FIELD = "output_format_json_schema_str"
MISMATCH = "structured output does not match the schema"
MAX_PROBLEMS = 5
"""Places of a result that are named."""
MAX_PROBLEM = 300
"""Characters of one: it quotes the result."""


def output_format(given: str | None) -> Mapping[str, Any] | None:
    """Return the format that a request wants: ``{"type": "json_schema", "schema": {...}}``.

    `given` holds that, or a bare JSON Schema. Raise `RequestFailed` for what is neither.
    """
    if given is None:
        return None
    try:
        found = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise RequestFailed(f"{FIELD}: it is not JSON: {error}") from None
    if not isinstance(found, Mapping):
        raise RequestFailed(f"{FIELD}: give an object")
    schema: object = found
    if found.get("type") == "json_schema":
        schema = found.get("schema") or _schema_inside(found.get("json_schema"))
    if not isinstance(schema, Mapping):
        raise RequestFailed(f"{FIELD}: its schema is not an object")
    try:
        schema_validator(schema, source=FIELD)
    except ConfigError as error:
        raise RequestFailed(str(error)) from None
    return {"type": "json_schema", "schema": schema}


def _schema_inside(given: object) -> object:
    return given.get("schema") if isinstance(given, Mapping) else None


def check_output(outcome: Outcome, wanted: Mapping[str, Any]) -> Outcome:
    """Return an outcome that fits the schema. A text fits if it is JSON that does.

    Raise `RequestFailed` with the places that do not fit.
    """
    data = outcome.data
    value = data.get("structured_output")
    if data["type"] == "text":
        try:
            value = json.loads(data["text"])
        except (ValueError, RecursionError):
            raise _mismatch(["$: it is a text"]) from None
    if problems := find_problems(value, wanted["schema"]):
        raise _mismatch(problems)
    if not isinstance(value, Mapping):
        raise _mismatch(["$: it is not an object"])
    structured = {"type": "structured_output", "structured_output": dict(value)}
    return Outcome(data=structured, metadata=outcome.metadata)


def find_problems(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Return where `value` does not fit `schema`, and how."""
    import referencing

    validator = schema_validator(schema, source=FIELD)
    try:
        found = list(islice(validator.iter_errors(value), MAX_PROBLEMS))
    except referencing.exceptions.Unresolvable as error:
        return [f"$: the schema refers to {error.ref}"]
    return [f"{each.json_path}: {each.message}"[:MAX_PROBLEM] for each in found]


def _mismatch(problems: list[str]) -> RequestFailed:
    metadata = {"code": "output_mismatch", "problems": problems}
    return RequestFailed(f"{MISMATCH}: {'; '.join(problems)}", metadata)
