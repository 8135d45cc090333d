"""The tools of a server, made fit for models."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from paddock.runtime.tools.mcp.definitions import (
    fit_description,
    fit_name,
    fit_schema,
    rename_arguments,
)


def test_a_tool_is_named_after_its_server() -> None:
    assert fit_name("docs", "search") == "docs__search"


def test_every_name_is_one_that_services_take_and_no_two_are_equal() -> None:
    tools = ["a.b", "a/b", "a b", "x" * 200, "x" * 201, "", "ä"]
    names = [fit_name("docs", tool) for tool in tools]
    assert len(set(names)) == len(tools)
    for name in names:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
        assert name.startswith("docs__")


def test_a_description_is_bounded_and_may_be_missing() -> None:
    assert fit_description(None) == ""
    assert len(fit_description("x" * 1_000_000)) < 5000


def test_a_schema_that_services_take_stays_as_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"$ref": "#/$defs/b"}},
        "required": ["a"],
        "$defs": {"b": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
    }
    assert fit_schema(schema) == schema


def test_alternatives_at_the_top_become_optional_arguments() -> None:
    schema = {
        "type": "object",
        "anyOf": [
            {"properties": {"id": {"type": "integer"}, "all": {}}, "required": ["id", "all"]},
            {"properties": {"name": {"type": "string"}, "all": {}}, "required": ["name", "all"]},
        ],
    }
    fitted = fit_schema(schema)
    assert set(fitted["properties"]) == {"id", "name", "all"}
    assert fitted["required"] == ["all"]
    assert "anyOf" not in fitted


def test_what_all_parts_require_together_is_required() -> None:
    schema = {
        "allOf": [
            {"properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
        ],
        "properties": {"c": {}},
        "required": ["c"],
    }
    fitted = fit_schema(schema)
    assert set(fitted["properties"]) == {"a", "b", "c"}
    assert fitted["required"] == ["c", "a", "b"]
    assert fitted["type"] == "object"


def test_a_reference_to_elsewhere_allows_anything() -> None:
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {"a": {"$ref": "https://example.org/a.json"}},
    }
    assert fit_schema(schema) == {"type": "object", "properties": {"a": {}}}


def test_a_reference_that_leads_to_nothing_allows_anything() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/gone"},
            "b": {"$ref": "#anchor"},
            "c": {"items": {"$ref": "#/$defs/a~1b"}},
            "d": {"$ref": "#"},
            "e": {"$ref": "#/anyOf/0"},
            "f": {"$ref": 7},
        },
        "anyOf": [{"type": "object"}],
        "$defs": {"a/b": {"type": "integer"}},
    }
    properties = fit_schema(schema)["properties"]
    assert properties == {
        "a": {},
        "b": {},
        "c": {"items": {"$ref": "#/$defs/a~1b"}},
        "d": {"$ref": "#"},
        "e": {},
        "f": {},
    }


def test_names_of_arguments_that_services_do_not_take_are_changed() -> None:
    schema = {
        "type": "object",
        "properties": {"ok.name": {}, "no name": {"type": "string"}, "no/name": {}},
        "required": ["no name", "ok.name"],
    }
    renamed, changed = rename_arguments(schema)
    assert sorted(changed.values()) == ["no name", "no/name"]
    assert len(renamed["properties"]) == 3
    for name in renamed["properties"]:
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name)
    assert [changed.get(name, name) for name in renamed["required"]] == ["no name", "ok.name"]
    assert rename_arguments({"type": "object", "properties": {"a": {}}})[1] == {}


@pytest.mark.parametrize("depth", [30, 500])
def test_a_schema_that_is_too_deep_is_cut(depth: int) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    assert len(json.dumps(fit_schema(schema))) < 2000


def test_of_a_schema_that_is_too_large_the_names_are_kept() -> None:
    properties = {f"name{n}": {"type": "string", "description": "x" * 1000} for n in range(200)}
    fitted = fit_schema({"type": "object", "properties": properties, "required": ["name1"]})
    assert len(json.dumps(fitted)) < 20_000
    assert "name1" in fitted["properties"]


@pytest.mark.parametrize("schema", [{"properties": 3}, {"required": "a"}, {"anyOf": [3, "x"]}, {}])
def test_a_schema_that_makes_no_sense_is_one_of_an_object(schema: dict[str, Any]) -> None:
    fitted = fit_schema(schema)
    assert fitted["type"] == "object"
    assert fitted["properties"] == {}
    assert "required" not in fitted
