"""Schemas of tools, plans and references: from what a program gives to JSON Schema (2020-12)."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticUndefined
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012
from typing_extensions import TypedDict

from paddock.errors import ConfigError
from paddock.runtime.core.response_format import problems_of, schema_validator
from paddock.runtime.orchestration.values import shown
from paddock.runtime.tools.signature import Untitled

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["TaggedUnion", "glimpse", "normalize_schema", "problems_by", "resolved"]

MAX_REFERENCES = 10
"""References to follow from one to the next: more of them go round."""

_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "$comment", "title", "description", "default"})
_TAKEN = "give a JSON Schema, a pydantic model, a mapping such as {'name': str}, or a type"


def normalize_schema(schema: Any) -> dict[str, Any]:
    """Return `schema` as a JSON Schema (2020-12) of its own; the argument is never changed.

    `schema` is a JSON Schema, a pydantic model, a mapping of names to types, which are all
    required, or any type that pydantic can describe. Raise `TypeError` for anything else, and for
    a ``$ref`` to anything but the schema itself.
    """
    try:
        described = _described(schema)
        schema_validator(described, source="schema")
        _check_references(described)
    except RecursionError:
        raise TypeError("the schema contains itself, or is nested too deeply") from None
    except (ConfigError, PydanticUserError) as error:
        raise TypeError(str(error).partition("\n")[0]) from error
    return described


def _described(schema: Any) -> dict[str, Any]:
    described: dict[str, Any]
    if isinstance(schema, Mapping):
        if _has_types(schema):
            adapter = TypeAdapter(_typed_dict(schema, ()))
            described = adapter.json_schema(schema_generator=Untitled)
            del described["title"]
            return described
        described = _json_copy(schema, "$")
        if described and not described.keys() & _keywords():
            raise TypeError(f"{shown(schema)} has no keyword of JSON Schema; {_TAKEN}")
        return described
    if not _is_type(schema):
        raise TypeError(f"{shown(schema)} is not a schema; {_TAKEN}")
    described = TypeAdapter(schema).json_schema()
    return described


def _keywords() -> frozenset[str]:
    from jsonschema import Draft202012Validator

    return _ANNOTATIONS.union(Draft202012Validator.VALIDATORS)


def _has_types(schema: Mapping[Any, Any]) -> bool:
    return any(
        _has_types(value) if isinstance(value, Mapping) else _is_type(value)
        for value in schema.values()
    ) and not isinstance(schema.get("properties"), Mapping)


def _is_type(value: object) -> bool:
    """Return whether `value` is a type or looks like an annotation, not data or a function."""
    if isinstance(value, str | bytes | int | float | Collection | BaseModel | None):
        return isinstance(value, type)  # the class of an enum is a collection
    return isinstance(value, type) or not inspect.isroutine(value)


def _typed_dict(types: Mapping[Any, Any], path: tuple[str, ...]) -> Any:
    fields: dict[str, Any] = {}
    for name, value in types.items():
        place = ".".join((*path, str(name)))
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} is not text")
        if isinstance(value, Mapping):
            fields[name] = _typed_dict(value, (*path, name))
        elif _is_type(value):
            fields[name] = value
        else:
            raise TypeError(f"{place}: {shown(value)} is not a type, such as str or list[int]")
    return TypedDict("_".join(("Arguments", *path)), fields)  # type: ignore[operator]


def _json_copy(value: Any, path: str) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float() if value == value and abs(value) != float("inf"):
            return value
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise TypeError(f"{path}: the keys of a JSON Schema are text")
            return {key: _json_copy(each, f"{path}.{key}") for key, each in value.items()}
        case list() | tuple():
            return [_json_copy(each, f"{path}[{at}]") for at, each in enumerate(value)]
        case _:
            raise TypeError(f"{path}: {shown(value)} is not JSON")


def _check_references(schema: dict[str, Any]) -> None:
    """Raise `TypeError` for a reference to another document, or to nothing."""
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise TypeError(f"$ref {reference!r}: a schema can refer to itself only")
        try:
            resolver.lookup(reference)
        except (Unresolvable, LookupError, ValueError) as error:
            raise TypeError(f"$ref {reference!r} refers to nothing in the schema") from error


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(each, str):
                yield each
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def resolved(part: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `part` of a normalized `schema` refers to; `part` if it is no reference."""
    for _ in range(MAX_REFERENCES):
        if not isinstance(part, dict):
            return {}
        if not isinstance(part.get("$ref"), str):
            return part
        resolver = Registry().resolver_with_root(DRAFT202012.create_resource(dict(schema)))
        part = resolver.lookup(part["$ref"]).contents
    return {}


def problems_by(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with `value` by a normalized `schema`; nothing if it fits."""
    return problems_of(value, schema_validator(schema, source="schema"))


def glimpse(value: Any, max_items: int = 3) -> Any:
    """Return what a prompt may show of `value`: of a list the count and its first items.

    Sequences and sets become ``{"count": n, "sample": [...]}`` with at most `max_items` items; a
    mapping, text and everything else stays as it is.
    """
    if max_items < 0:
        raise ValueError(f"max_items is at least 0, not {max_items}")
    if isinstance(value, Mapping | str | bytes | bytearray) or not isinstance(value, Collection):
        return value
    return {"count": len(value), "sample": list(islice(value, max_items))}


def TaggedUnion(*models: Any, discriminator: str = "kind") -> Any:  # noqa: N802
    """Return the type of a value of one of `models`, told apart by their field `discriminator`.

    The field is a `Literal`, or has a default, as in ``kind: str = "price_change"``, which then
    is its only value. The schema requires it. Raise `TypeError` for anything but two or more
    pydantic models, and `ValueError` where a value is missing or two models have the same one.
    """
    if len(models) < 2:
        raise TypeError(f"a TaggedUnion has two or more models, not {len(models)}")
    owners: dict[Any, str] = {}
    members = []
    for model in models:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{shown(model)} is not a pydantic model")
        values = _tags(model, discriminator)
        for value in values:
            if value in owners:
                raise ValueError(
                    f"{owners[value]} and {model.__name__} both have {discriminator}={value!r}"
                )
            owners[value] = model.__name__
        members.append(_tagged(model, discriminator, values))
    return Annotated[Union[tuple(members)], Field(discriminator=discriminator)]  # noqa: UP007


def _tags(model: type[BaseModel], discriminator: str) -> tuple[Any, ...]:
    field = model.model_fields.get(discriminator)
    if field is None:
        raise ValueError(f"{model.__name__} has no field {discriminator!r}")
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    if field.default is PydanticUndefined or not isinstance(field.default, str | int | Enum):
        raise ValueError(
            f"{model.__name__}.{discriminator} has no value: give it one, as in "
            f'{discriminator}: str = "{model.__name__.lower()}"'
        )
    return (field.default,)


def _tagged(model: type[BaseModel], discriminator: str, values: tuple[Any, ...]) -> Any:
    """Return `model` with the field as a literal that has to be given."""
    field: FieldInfo = model.model_fields[discriminator]
    required = Field(alias=field.alias, description=field.description)
    fields: dict[str, Any] = {discriminator: (Literal[values], required)}
    return create_model(
        model.__name__,
        __base__=model,
        __module__=model.__module__,
        __doc__=model.__doc__,
        **fields,
    )
