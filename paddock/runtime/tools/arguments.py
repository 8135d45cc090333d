"""A model's arguments against a tool's JSON schema: mended where that is safe, else refused.

Looks at the first level only: types, required and unknown names, enums, bounds. What a
nested value must hold is the tool's own business. Knows no tool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.tool import InvalidCall

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ArgumentError", "fit_arguments", "object_schema", "shown"]

_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no"})
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_SHOWN_LENGTH = 80  # characters of a wrong value that are worth reading


class ArgumentError(InvalidCall):
    """The arguments do not fit; `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


def object_schema(*, required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    """Return the schema of arguments with these `properties` and no others."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | {"required": [*required], "additionalProperties": False}


def fit_arguments(schema: Mapping[str, Any], arguments: object) -> dict[str, Any]:
    """`arguments` with values coerced to the types of `schema`, or `ArgumentError`.

    Text such as ``"true"`` or ``"5"`` becomes what the schema asks for, and null for an
    optional argument counts as absent. Names that the schema does not declare are
    refused unless it declares none or says ``additionalProperties``.
    """
    if not isinstance(arguments, dict):
        raise ArgumentError([f"arguments must be an object, not {shown(arguments)}"])
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = schema.get("required") or ()
    problems = [f"missing required argument '{name}'" for name in required if name not in arguments]
    open_ended = schema.get("additionalProperties", not properties)
    unknown = [name for name in arguments if name not in properties]
    if unknown and not open_ended:
        known = ", ".join(properties) or "none"
        problems += [f"unknown argument '{name}' (known: {known})" for name in unknown]
    fitted: dict[str, Any] = {}
    for name, value in arguments.items():
        declared = properties.get(name)
        if not isinstance(declared, Mapping):
            fitted[name] = value
        elif value is None and name not in required and "null" not in _types(declared):
            continue
        else:
            fitted[name] = _coerced(value, _types(declared))
            problems += _complaints(name, fitted[name], declared)
    if problems:
        raise ArgumentError(problems)
    return fitted


def _types(declared: Mapping[str, Any]) -> tuple[str, ...]:
    kind = declared.get("type", ())
    return (kind,) if isinstance(kind, str) else tuple(kind)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool) and kind != "boolean":
        return kind not in _TYPES
    return isinstance(value, _TYPES.get(kind, (object,)))


def _coerced(value: Any, kinds: tuple[str, ...]) -> Any:
    if not kinds or any(_is(value, kind) for kind in kinds):
        return value
    for kind in kinds:
        try:
            changed = _convert(value, kind)
        except ValueError:
            continue
        if _is(changed, kind):
            return changed
    return value


def _convert(value: Any, kind: str) -> Any:
    """`value` as `kind` if that loses nothing, else as it was; `ValueError` if it cannot be."""
    match kind, value:
        case "boolean", str() | int() if str(value).strip().lower() in _TRUE | _FALSE:
            return str(value).strip().lower() in _TRUE
        case "integer", str():
            return int(value)
        case "integer", float() if value.is_integer():
            return int(value)
        case "number", str():
            return float(value)
        case "array" | "object", str():
            return json.loads(value)
        case _:
            return value


def _complaints(name: str, value: Any, declared: Mapping[str, Any]) -> list[str]:
    kinds = _types(declared)
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"argument '{name}' must be {_article(' or '.join(kinds))}, not {shown(value)}"]
    found = []
    if "enum" in declared and value not in declared["enum"]:
        choices = ", ".join(map(str, declared["enum"]))
        found.append(f"argument '{name}' must be one of {choices}, not {shown(value)}")
    if isinstance(value, int | float):
        if value < declared.get("minimum", value):
            found.append(f"argument '{name}' must be at least {declared['minimum']}")
        if value > declared.get("maximum", value):
            found.append(f"argument '{name}' must be at most {declared['maximum']}")
    return found


def _article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"


def shown(value: object, length: int = _SHOWN_LENGTH) -> str:
    """Return `value` as JSON, or the first `length` characters of that."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= length else text[:length] + "..."
