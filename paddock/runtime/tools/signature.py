"""A function's parameters as the JSON schema of a tool, and a model's arguments as their values.

Both are made by pydantic from the annotations, so a parameter may be of any type that pydantic
can read from JSON.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    NotRequired,
    Required,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from paddock.errors import ConfigError
from paddock.runtime.core.context import RunContext
from paddock.runtime.tools.arguments import ArgumentError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Signature", "Untitled", "read_signature"]

MAX_PROBLEMS = 10
"""Problems of one call that are reported to the model: enough to see what is wrong."""

_CONTEXT = re.compile(r"(\w+\.)*RunContext(\[.*\])?", re.DOTALL)
_MISSING = inspect.Parameter.empty
_REFUSED: Mapping[Any, str] = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values",
    inspect.Parameter.VAR_KEYWORD: "takes any names",
}


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model has to give, and how the function gets it.

    `takes_context` says that the function's first parameter gets the `RunContext`, and `deps` is
    the class of its dependencies, if it names one.
    """

    schema: dict[str, Any]
    takes_context: bool = False
    deps: type | None = None
    _adapter: TypeAdapter[dict[str, Any]]
    _defaults: Mapping[str, FieldInfo] = field(default_factory=dict)

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return `arguments` as values of the parameters' types, by their names.

        A null for a parameter with a default counts as absent unless its type takes it, and so
        does JSON in a string where an object or a list has to be. Raises `ArgumentError`.
        """
        try:
            values = self._read(arguments)
        except ValidationError as error:
            mended = self._mended(arguments, error)
            if mended == arguments:
                raise self._refusal(error) from None
            try:
                values = self._read(mended)
            except ValidationError:
                raise self._refusal(error) from None
        for name, info in self._defaults.items():
            if name not in values:
                values[name] = info.get_default(call_default_factory=True, validated_data={})
        return values

    def _read(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return self._adapter.validate_json(json.dumps(arguments))

    def _mended(self, arguments: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
        mended = dict(arguments)
        for problem in error.errors(include_url=False, include_context=False):
            name = str(problem["loc"][0]) if problem["loc"] else ""
            value = mended.get(name)
            if value is None and name not in self.schema.get("required", ()):
                mended.pop(name, None)
            elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
                mended[name] = _parsed(value)
        return mended

    def _refusal(self, error: ValidationError) -> ArgumentError:
        errors = error.errors(include_url=False, include_context=False)
        known = ", ".join(self.schema["properties"]) or "none"
        problems = []
        for problem in errors[:MAX_PROBLEMS]:
            place = ".".join(map(str, problem["loc"]))
            match problem["type"]:
                case "missing":
                    problems.append(f"missing required argument '{place}'")
                case "extra_forbidden" if len(problem["loc"]) == 1:
                    problems.append(f"unknown argument '{place}' (known: {known})")
                case _:
                    value = shown(problem["input"])
                    problems.append(f"argument '{place}': {problem['msg']}, not {value}")
        if len(errors) > MAX_PROBLEMS:
            problems.append(f"and {len(errors) - MAX_PROBLEMS} more problems")
        return ArgumentError(problems)


def read_signature(
    function: Callable[..., Any],
    *,
    tool: str,
    method: bool,
    scope: Mapping[str, Any],
    described: Mapping[str, str],
) -> Signature:
    """Read the signature of `function`; of a `method`, without its first parameter.

    `scope` has the names that annotations may use besides those of the function's module, and
    `described` says what is known of parameters. Raises `ConfigError` naming `tool` and the
    parameter that has no schema.
    """
    parameters = _parameters(function, tool)
    if method:
        del parameters[:1]
    names = {**getattr(inspect.unwrap(function), "__globals__", {}), **scope}
    context = next(iter(parameters), None)
    deps, takes_context = None, False
    if context is not None and (annotation := _context(context, names)) is not None:
        takes_context = True
        deps = next((arg for arg in get_args(annotation) if _is_checkable(arg)), None)
        del parameters[:1]
    hints = {each.name: _hint(each, names, tool) for each in parameters}
    adapter = _adapter(tool, parameters, hints, names)
    defaults = {
        each.name: each.default
        for each in parameters
        if isinstance(each.default, FieldInfo) and not each.default.is_required()
    }
    return Signature(
        schema=_schema(adapter, parameters, described),
        takes_context=takes_context,
        deps=deps,
        _adapter=adapter,
        _defaults=defaults,
    )


def _is_checkable(annotation: object) -> bool:
    """Whether `isinstance` takes it: not `Any`, and not most protocols and typed dictionaries."""
    try:
        return isinstance(annotation, type) and not isinstance(None, annotation)
    except TypeError:
        return False


def _parameters(function: Callable[..., Any], tool: str) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError, NameError) as error:
        raise ConfigError(f"tool {tool!r}: its signature cannot be read: {error}") from error
    given = getattr(function, "keywords", {})  # of a partial: no longer the model's to choose
    return [each for each in parameters if each.name not in given]


def _context(parameter: inspect.Parameter, names: Mapping[str, Any]) -> Any:
    """Return the annotation of `parameter` if it is for the `RunContext`, else None.

    The dependencies may be imported for type checkers only.
    """
    annotation = parameter.annotation
    try:
        annotation = _evaluated(parameter, names)
    except Exception:
        text = annotation if isinstance(annotation, str) else ""
        return RunContext if _CONTEXT.fullmatch(text.strip()) else None
    return annotation if (get_origin(annotation) or annotation) is RunContext else None


def _hint(parameter: inspect.Parameter, names: Mapping[str, Any], tool: str) -> Any:
    """Return the type of `parameter`, or raise `ConfigError`."""
    what = f"tool {tool!r}: parameter {parameter.name!r}"
    if (problem := _REFUSED.get(parameter.kind)) is not None:
        raise ConfigError(f"{what} {problem}; a model gives each argument by its name")
    if parameter.annotation is _MISSING:
        raise ConfigError(f"{what} has no annotation; say its type, as in 'count: int'")
    try:
        hint = _evaluated(parameter, names)
    except Exception as error:
        raise ConfigError(
            f"{what}: its annotation {parameter.annotation!r} cannot be evaluated ({error}); "
            "define or import the type at run time, where the function is made a tool"
        ) from error
    if (get_origin(hint) or hint) is RunContext:
        raise ConfigError(f"{what}: only the first parameter can be a RunContext")
    return hint


def _evaluated(parameter: inspect.Parameter, names: Mapping[str, Any]) -> Any:
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    hints = get_type_hints(holder, dict(names), include_extras=True)
    return hints[parameter.name]


def _adapter(
    tool: str,
    parameters: list[inspect.Parameter],
    hints: Mapping[str, Any],
    names: Mapping[str, Any],
) -> TypeAdapter[dict[str, Any]]:
    """Return what reads all arguments; raise `ConfigError` for a type that has no schema."""
    fields = {}
    for each in parameters:
        has_field = isinstance(each.default, FieldInfo)
        hint = Annotated[hints[each.name], each.default] if has_field else hints[each.name]
        required = each.default.is_required() if has_field else each.default is _MISSING
        fields[each.name] = Required[hint] if required else NotRequired[hint]
    try:
        return _complete(fields, names)
    except PydanticUserError as error:
        for each in parameters:
            try:
                _complete({each.name: fields[each.name]}, names)
            except PydanticUserError as problem:
                reason = str(problem).partition("\n")[0]
                raise ConfigError(
                    f"tool {tool!r}: parameter {each.name!r} has no JSON schema: {reason}"
                ) from problem
        raise ConfigError(f"tool {tool!r} has no JSON schema: {error}") from error


def _complete(fields: Mapping[str, Any], names: Mapping[str, Any]) -> TypeAdapter[dict[str, Any]]:
    kind = with_config(ConfigDict(extra="forbid"))(TypedDict("Arguments", fields))  # type: ignore[operator]
    adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(kind)
    if not adapter.pydantic_complete:  # a type names others of the function's scope
        adapter.rebuild(raise_errors=True, _types_namespace=dict(names))
    adapter.json_schema()
    return adapter


class Untitled(GenerateJsonSchema):
    """Gives the fields of a schema no titles: they repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema(
    adapter: TypeAdapter[dict[str, Any]],
    parameters: list[inspect.Parameter],
    described: Mapping[str, str],
) -> dict[str, Any]:
    schema = adapter.json_schema(schema_generator=Untitled)
    schema.pop("title", None)
    for each in parameters:
        declared = schema["properties"][each.name]
        if each.name in described:
            declared.setdefault("description", described[each.name])
        if each.default is not _MISSING and not isinstance(each.default, FieldInfo):
            declared |= _default(each.default)
    return schema


def _default(value: object) -> dict[str, Any]:
    """Return what a schema says of the default `value`: nothing where JSON lacks it."""
    if isinstance(value, Iterator):  # it would be used up
        return {}
    try:
        default = to_jsonable_python(value)
        json.dumps(default, allow_nan=False)
    except (PydanticSerializationError, ValueError):
        return {}
    return {"default": default}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
