"""Structured output: what the final answer has to be, as it is sent and as it is checked.

`AgentConfig.response_format` may be a JSON schema, a pydantic model, or a format as OpenAI
takes it. A service promises little of it, and some ignore it, so every answer is checked
here. Nothing is fetched: a schema refers to itself only. Knows no loop and no provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.core.jsontext import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jsonschema.protocols import Validator
    from pydantic import BaseModel

__all__ = [
    "AnswerFormat",
    "InvalidAnswer",
    "answer_format",
    "is_model",
    "problems_of",
    "schema_validator",
]

MAX_PROBLEMS = 5
"""Problems of one answer that are reported; the first ones matter most."""
MAX_PROBLEM_LENGTH = 300
"""Characters of one: it quotes the answer, which may be long."""
MAX_NAME_LENGTH = 64
"""Characters of a schema's name, as OpenAI takes it."""

_SCHEMA_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_SCHEMA_WORDS = frozenset(
    {"$schema", "$ref", "$defs", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf"}
)
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*", re.DOTALL)


class InvalidAnswer(ValueError):
    """A final answer is not what was asked for. The message says where, for a model to read."""

    @property
    def request(self) -> str:
        """The text for the model, so that it answers again."""
        return (
            f"That answer is not what was asked for:\n{self}\n"
            "Answer again, with nothing but the JSON that the response format describes."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    """A format: `wire` is what a request says of it, in OpenAI's form.

    `read` gives the value of an answer's text; it raises `InvalidAnswer`.
    """

    wire: Mapping[str, Any]
    read: Callable[[str], Any]


def is_model(value: object) -> bool:
    """Whether `value` is a pydantic model's class. Does not import pydantic to find out."""
    return isinstance(value, type) and hasattr(value, "model_json_schema")


def answer_format(given: Mapping[str, Any] | type[Any] | None) -> AnswerFormat | None:
    """The format that `given` describes; None for None.

    Raises `ConfigError` for what is no schema. The first call imports what checks, some 0.1 s.
    """
    if given is None:
        return None
    if isinstance(given, type):
        return _of_model(given)
    match given.get("type"):
        case "text":
            return AnswerFormat(wire=given, read=str)
        case "json_object":
            return AnswerFormat(wire=given, read=_schema_reader({"type": "object"}))
        case "json_schema":
            described = given.get("json_schema")
            schema = described.get("schema") if isinstance(described, Mapping) else None
            if not isinstance(schema, Mapping):
                raise ConfigError("response_format: json_schema.schema has to be a mapping")
            return AnswerFormat(wire=given, read=_schema_reader(schema))
    if not _looks_like_schema(given):
        raise ConfigError(
            "response_format: give a JSON schema, a pydantic model, or one of the types text, "
            "json_object and json_schema"
        )
    name = str(given.get("title", "answer"))
    return AnswerFormat(wire=_wire(name, given), read=_schema_reader(given))


def _looks_like_schema(given: Mapping[str, Any]) -> bool:
    kind = given.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    known = all(isinstance(each, str) and each in _SCHEMA_TYPES for each in kinds)
    return bool(kinds and known) or (kind is None and bool(_SCHEMA_WORDS & given.keys()))


def _wire(name: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:MAX_NAME_LENGTH] or "answer"
    return {"type": "json_schema", "json_schema": {"name": plain, "schema": dict(schema)}}


def _of_model(model: type[BaseModel]) -> AnswerFormat:
    import pydantic

    def read(text: str) -> Any:
        text = _unfenced(text)
        _decoded(text)  # invalid JSON is reported as for schemas
        try:
            return model.model_validate_json(text)
        except pydantic.ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)[:MAX_PROBLEMS]
            told = (f"{_place(each['loc'])}: {each['msg']}" for each in problems)
            raise InvalidAnswer("\n".join(each[:MAX_PROBLEM_LENGTH] for each in told)) from None

    return AnswerFormat(wire=_wire(model.__name__, model.model_json_schema()), read=read)


def schema_validator(schema: Mapping[str, Any], *, source: str) -> Validator:
    """Return a validator for `schema`. Raise `ConfigError` naming `source` if it is invalid."""
    import jsonschema
    import referencing
    from jsonschema.validators import validator_for

    kind = validator_for(dict(schema), default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        message = f"{source}: the schema at {error.json_path}: {error.message}"
        raise ConfigError(message) from error
    # A registry of its own has nothing and fetches nothing.
    return kind(dict(schema), registry=referencing.Registry())


def problems_of(value: Any, validator: Validator) -> list[str]:
    """Return what is wrong with `value`, each with its place; nothing if it fits."""
    found = islice(validator.iter_errors(value), MAX_PROBLEMS)
    return [f"{each.json_path}: {each.message}"[:MAX_PROBLEM_LENGTH] for each in found]


def _schema_reader(schema: Mapping[str, Any]) -> Callable[[str], Any]:
    import referencing

    validator = schema_validator(schema, source="response_format")

    def read(text: str) -> Any:
        value = _decoded(_unfenced(text))
        try:
            problems = problems_of(value, validator)
        except referencing.exceptions.Unresolvable as error:
            raise ConfigError(f"response_format: the schema refers to {error.ref}") from error
        if problems:
            raise InvalidAnswer("\n".join(problems))
        return value

    return read


def _unfenced(text: str) -> str:
    """The answer without the Markdown fence that some models put around JSON."""
    fenced = _FENCED.fullmatch(text)
    return fenced[1] if fenced else text


def _decoded(text: str) -> Any:
    try:
        return read_json(text)
    except json.JSONDecodeError as error:
        raise InvalidAnswer(f"it is not JSON: {error}") from None
    except (ValueError, RecursionError) as error:  # NaN, a number or nesting without end
        raise InvalidAnswer(f"it is not JSON that can be read: {error}") from None


def _place(path: Iterable[int | str]) -> str:
    """``$.items[0].name``, as JSONPath has it."""
    return "$" + "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
