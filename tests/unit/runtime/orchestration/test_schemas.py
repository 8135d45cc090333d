"""Schemas, glimpses, tagged unions and layered prompts."""

from __future__ import annotations

import copy
import hashlib
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from paddock import TaggedUnion, define_tool, glimpse, layered_prompt, normalize_schema
from paddock.runtime.orchestration.schemas import problems_by


class Price(BaseModel):
    kind: str = "price"
    amount: float


class Promotion(BaseModel):
    kind: Literal["promotion"]
    skus: list[str]


@pytest.mark.rows("F-10")
def test_a_schema_is_given_in_four_ways() -> None:
    given = {"type": "object", "properties": {"n": {"enum": (1, 2)}}}
    before = copy.deepcopy(given)
    taken = normalize_schema(given)
    assert taken == {"type": "object", "properties": {"n": {"enum": [1, 2]}}}
    taken["properties"]["n"]["enum"].append(3)
    assert given == before
    assert normalize_schema(taken) == taken
    assert normalize_schema({}) == {}
    assert normalize_schema(Price)["required"] == ["amount"]
    assert normalize_schema({"query": str, "within": {"days": int | None}}) == {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "within": {"$ref": "#/$defs/Arguments_within"},
        },
        "required": ["query", "within"],
        "$defs": {
            "Arguments_within": {
                "type": "object",
                "title": "Arguments_within",
                "properties": {"days": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
                "required": ["days"],
            }
        },
    }
    assert normalize_schema({"type": str})["required"] == ["type"]
    assert normalize_schema(list[int] | None) == {
        "anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]
    }
    assert normalize_schema(StrEnum("Colour", ["red"]))["enum"] == ["red"]


CYCLE: dict[str, Any] = {"type": "object"}
CYCLE["properties"] = {"again": CYCLE}


@pytest.mark.rows("F-10")
@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (None, "None is not a schema"),
        (True, "True is not a schema"),
        ("str", "'str' is not a schema"),
        ([int], "is not a schema"),
        (lambda: None, "is not a schema"),
        (Price(amount=1), "is not a schema"),
        ({"query": "string"}, "no keyword of JSON Schema"),
        ({"type": "objekt"}, "objekt"),
        ({"type": "object", "query": str}, "type: 'object' is not a type"),
        ({1: str}, "the name 1 is not text"),
        ({"enum": [{1: 2}]}, "keys of a JSON Schema are text"),
        ({"const": float("nan")}, "nan is not JSON"),
        ({"const": {1, 2}}, "is not JSON"),
        ({"a": type(lambda: None)}, "function"),
        (CYCLE, "contains itself"),
        ({"$ref": "https://example.com/schema.json"}, "itself only"),
        ({"$ref": "file:///etc/passwd"}, "itself only"),
        ({"properties": {"a": {"items": {"$ref": "other.json#/x"}}}}, "itself only"),
        ({"$dynamicRef": "other#x"}, "itself only"),
        ({"$ref": "#/$defs/lost"}, "refers to nothing"),
    ],
)
def test_anything_else_is_a_type_error(schema: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        normalize_schema(schema)


@pytest.mark.rows("F-10")
def test_a_schema_that_refers_to_itself_checks_values() -> None:
    schema = normalize_schema(
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
    )
    assert problems_by({"next": {"next": {}}}, schema) == []
    (problem,) = problems_by({"next": {"last": 1}}, schema)
    assert problem.startswith("$.next: ")


@pytest.mark.rows("F-11")
def test_a_glimpse_of_a_sequence_is_its_count_and_a_sample() -> None:
    assert glimpse([1, 2, 3, 4]) == {"count": 4, "sample": [1, 2, 3]}
    assert glimpse((1,), max_items=0) == {"count": 1, "sample": []}
    assert glimpse({"a": [1, 2, 3, 4]}) == {"a": [1, 2, 3, 4]}
    assert [glimpse(each) for each in ("text", 7, None)] == ["text", 7, None]
    with pytest.raises(ValueError, match="max_items"):
        glimpse([1], max_items=-1)


@pytest.mark.rows("F-11")
def test_a_tagged_union_tells_its_models_apart_by_a_required_field() -> None:
    members: Any = list[TaggedUnion(Price, Promotion)]  # type: ignore[misc]
    union: TypeAdapter[Any] = TypeAdapter(members)
    price, promotion = union.validate_python(
        [{"kind": "price", "amount": 1}, {"kind": "promotion", "skus": []}]
    )
    assert isinstance(price, Price)
    assert isinstance(promotion, Promotion)
    defined = union.json_schema()["$defs"]
    assert defined["Price"]["required"] == ["kind", "amount"]
    assert defined["Price"]["properties"]["kind"]["const"] == "price"
    for wrong in ({"amount": 1}, {"kind": "promotion", "amount": 1}, {"kind": "gift"}):
        with pytest.raises(ValidationError):
            union.validate_python([wrong])
    assert Price(amount=1).kind == "price"  # the model itself stays as it was


@pytest.mark.rows("F-11")
def test_a_tagged_union_needs_models_with_different_values() -> None:
    class Bare(BaseModel):
        amount: float

    class Free(BaseModel):
        kind: str

    class AlsoPrice(BaseModel):
        kind: Literal["price", "cost"]

    class ByName(BaseModel):
        op: str = Field("by_name", alias="operation")

    class ByOther(BaseModel):
        op: str = Field("by_other", alias="operation")

    assert TaggedUnion(ByName, ByOther, discriminator="op")
    for models, problem in (
        ((Price, Bare), "Bare has no field 'kind'"),
        ((Price, Free), "Free.kind has no value"),
        ((Price, AlsoPrice), "Price and AlsoPrice both have kind='price'"),
    ):
        with pytest.raises(ValueError, match=problem):
            TaggedUnion(*models)
    for few in ((), (Price,), (Price, dict)):
        with pytest.raises(TypeError, match=r"two or more|not a pydantic model"):
            TaggedUnion(*few)


@pytest.mark.rows("F-12")
def test_a_layered_prompt_has_its_layers_in_order_and_leaves_empty_ones_out() -> None:
    search = define_tool("search", {"query": str}, "Search | find.", approval="always")
    prompt = layered_prompt(
        examples=[{"user": "Hi", "answer": 1}],
        identity="You lead.",
        communication="  ",
        operational_rules=["Be brief.", "Route\nwell."],
        tools=[search, {"name": "count", "description": "Count."}, "search", "look"],
        domain_knowledge={"b": [1], "a": "é"},
        safety=[],
        output_format="JSON",
    )
    assert prompt.text == str(prompt)
    assert (
        prompt.text
        == """# Identity

You lead.

# Operational rules

- Be brief.
- Route
  well.

# Tools

| Name | Description | Approval |
| --- | --- | --- |
| search | Search \\| find. | always |
| count | Count. |  |
| look |  |  |

# Domain knowledge

```json
{
  "a": "é",
  "b": [
    1
  ]
}
```

# Output format

JSON

# Examples

```json
[
  {
    "answer": 1,
    "user": "Hi"
  }
]
```"""
    )
    assert prompt.cache_key == hashlib.sha256(prompt.text.encode()).hexdigest()


@pytest.mark.rows("F-12")
def test_the_same_layers_give_the_same_key_and_others_another() -> None:
    def key(**layers: Any) -> str:
        return layered_prompt(**{"identity": "I", **layers}).cache_key

    assert key(domain_knowledge={"a": 1, "b": 2}) == key(domain_knowledge={"b": 2, "a": 1})
    assert key() == key(safety=None) == key(safety=[]) == key(domain_knowledge={})
    assert len({key(), key(safety="x"), key(output_format="x"), key(tools=["x"])}) == 4


@pytest.mark.rows("F-12")
@pytest.mark.parametrize(
    "layers",
    [
        {"identity": {"who": "me"}},
        {"safety": [1]},
        {"communication": 7},
        {"domain_knowledge": {1, 2}},
        {"examples": [float("nan")]},
        {"tools": "search"},
        {"tools": [7]},
        {"tools": [{"title": "search"}]},
    ],
)
def test_a_layer_of_another_type_is_refused(layers: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        layered_prompt(**{"identity": "I", **layers})
    with pytest.raises(ValueError, match="identity"):
        layered_prompt(identity=" ")
