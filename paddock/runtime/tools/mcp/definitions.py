"""The tools of a server, made fit for models: their names, descriptions and schemas.

What a server says is not trusted: it may be of any size, and no service takes all of JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from paddock.runtime.core.text import clean_text
from paddock.runtime.core.tool import TOOL_NAME

__all__ = ["fit_description", "fit_name", "fit_schema"]

MAX_NAME = 64
MAX_DESCRIPTION = 4000
"""Characters: enough for good ones. Each request carries all of them."""

MAX_SCHEMA = 64 * 1024
"""Characters of one schema, as JSON; of a longer one only the names of the arguments are kept."""

MAX_DEPTH = 24
"""Levels of a schema; what is below may be anything."""

_COMBINED = ("oneOf", "anyOf", "allOf")
_DROPPED = frozenset({"$schema", "$id", "$comment", "$anchor", "$dynamicAnchor", "$vocabulary"})
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")


def fit_name(server: str, tool: str) -> str:
    """Return what models call `tool` of `server`: two tools never have one name."""
    name = f"{server}__{tool}"
    if TOOL_NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(tool.encode("utf-8", "replace")).hexdigest()[:8]
    plain = _NOT_IN_NAME.sub("_", name)[: MAX_NAME - 9]
    return f"{plain}_{digest}"


def fit_description(text: str | None) -> str:
    """Return `text`, or the beginning of it."""
    cleaned = clean_text(text or "")
    return cleaned if len(cleaned) <= MAX_DESCRIPTION else f"{cleaned[:MAX_DESCRIPTION]}..."


def fit_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema of an object that services take and that allows what `schema` allows.

    A reference out of the schema becomes one that allows anything.
    """
    fitted: dict[str, Any] = _fit(schema, 0)
    for word in _COMBINED:  # no service takes them at the top
        if isinstance(variants := fitted.pop(word, None), list):
            _merge(fitted, variants, every=word == "allOf")
    fitted["type"] = "object"
    properties = fitted.get("properties")
    fitted["properties"] = properties if isinstance(properties, dict) else {}
    if not _is_list_of_names(fitted.get("required")):
        fitted.pop("required", None)
    if len(json.dumps(fitted)) > MAX_SCHEMA:
        names = list(fitted["properties"])[:100]
        return {"type": "object", "properties": {clean_text(name[:64]): {} for name in names}}
    return fitted


def _fit(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return {}
    match value:
        case Mapping():
            reference = value.get("$ref")
            if reference is not None and not str(reference).startswith("#"):
                return {}
            return {
                clean_text(str(name)): _fit(each, depth + 1)
                for name, each in value.items()
                if name not in _DROPPED
            }
        case list() | tuple():
            return [_fit(each, depth + 1) for each in value]
        case str():
            return clean_text(value)
        case _:
            return value


def _merge(fitted: dict[str, Any], variants: list[Any], *, every: bool) -> None:
    """Put the properties of `variants` among those of `fitted`: what each requires is required
    where all of them hold, or all of them require it."""
    known = [each for each in variants if isinstance(each, dict)]
    for variant in known:
        properties = variant.get("properties")
        if isinstance(properties, dict):
            fitted["properties"] = {**properties, **fitted.get("properties", {})}
    required = [
        set(each["required"]) if _is_list_of_names(each.get("required")) else set()
        for each in known
    ]
    if required:
        more = set.union(*required) if every else set.intersection(*required)
        before = fitted.get("required", [])
        fitted["required"] = [*before, *sorted(more.difference(before))]


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
