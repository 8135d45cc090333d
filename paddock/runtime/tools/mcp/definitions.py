"""The tools of a server, made fit for models: their names, descriptions and schemas.

What a server says is not trusted: it may be of any size, and no service takes all of JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from paddock.runtime.core.text import clean_text
from paddock.runtime.core.tool import TOOL_NAME
from paddock.runtime.permissions.profile import MCP_MARK

__all__ = ["fit_description", "fit_name", "fit_schema", "rename_arguments"]

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
_ARGUMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def fit_name(server: str, tool: str) -> str:
    """Return what models call `tool` of `server`: two tools never have one name."""
    name = f"{server}{MCP_MARK}{tool}"
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

    A reference that leads to nothing in the schema becomes a schema that allows anything.
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
    fitted = _with_sound_references(fitted, fitted)
    if len(json.dumps(fitted)) > MAX_SCHEMA:
        names = list(fitted["properties"])[:100]
        return {"type": "object", "properties": {clean_text(name[:64]): {} for name in names}}
    return fitted


def _fit(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return {}
    match value:
        case Mapping():
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


def _with_sound_references(value: Any, root: dict[str, Any]) -> Any:
    """Return `value`, a part of `root`, with ``{}`` for each reference that leads to nothing."""
    if isinstance(value, list):
        return [_with_sound_references(each, root) for each in value]
    if not isinstance(value, dict):
        return value
    references = [value[word] for word in ("$ref", "$dynamicRef") if word in value]
    if not all(_leads_somewhere(each, root) for each in references):
        return {}
    return {name: _with_sound_references(each, root) for name, each in value.items()}


def _leads_somewhere(reference: Any, root: dict[str, Any]) -> bool:
    if reference == "#":
        return True
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return False
    found: Any = root
    for part in unquote(reference[2:]).split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return False
    return isinstance(found, dict | bool)


def rename_arguments(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `schema` with names of arguments that services take, and the changed ones by these."""
    changed: dict[str, str] = {}
    properties: dict[str, Any] = {}
    for name, each in schema["properties"].items():
        fit = name
        if not _ARGUMENT.fullmatch(name):
            digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
            fit = f"{_NOT_IN_NAME.sub('_', name)[: MAX_NAME - 9]}_{digest}"
            changed[fit] = name
        properties[fit] = each
    if not changed:
        return schema, {}
    renamed = {**schema, "properties": properties}
    if "required" in schema:
        given = {name: fit for fit, name in changed.items()}
        renamed["required"] = [given.get(name, name) for name in schema["required"]]
    return renamed, changed


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
