"""Backend recipes as plain data, for files: ``{type: docker, image: ..., setup: [...]}``.

A field that has its default is left out; reading gives an equal recipe back. Secrets are
never written: neither the keys of an account nor any field that a recipe keeps out of its
`repr`. Makes no sandbox, and knows a backend only by its fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from paddock.errors import ConfigError
from paddock.image import Image, steps
from paddock.network import Allow
from paddock.sandbox import Resources
from paddock.transfers import Links

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from paddock.backends.base import Backend

__all__ = ["TEXTS", "read_recipe", "write_recipe"]

TEXTS = (("env_vars", "*"), ("labels", "*"), ("user",), ("uv_version",))
"""Where in a recipe a number as it is written is meant as text."""

_STEPS: Mapping[str, type[steps.Step]] = {kind.verb: kind for kind in get_args(steps.Step)}
_ACCOUNT_SECRETS = frozenset({"api_key", "jwt_token"})
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]*@")
"""In an address, before the host."""
_TYPES: Mapping[str, Any] = {"Any": Any, "Links": Links, "Mapping": Mapping, "Sequence": Sequence}
"""What the annotations of plain fields are made of, besides the builtins."""


# ------------------------------------------------------------------------- writing


def write_recipe(backend: Backend) -> dict[str, Any]:
    """`backend` as plain data; `ConfigError` names the field that cannot be said so."""
    kind = type(backend)
    if not _is_installed(kind):
        raise ConfigError(f"backend: {kind.__name__} is no installed backend, so has no name")
    document: dict[str, Any] = {"type": kind.name}
    for each in dataclasses.fields(backend):
        value = getattr(backend, each.name)
        if _is_default(each, value):
            continue
        if _is_account(each):
            document |= _written_account(value)
        elif each.repr:
            document[each.name] = _written(value, f"backend.{each.name}")
    return document


def _is_installed(kind: type[Backend]) -> bool:
    from paddock.backends.base import get_backend

    try:
        return get_backend(kind.name) is kind
    except ConfigError:
        return False


def _is_account(each: dataclasses.Field[Any]) -> bool:
    return "DaytonaConfig" in str(each.type)


def _is_default(each: dataclasses.Field[Any], value: object) -> bool:
    if each.default_factory is not dataclasses.MISSING:
        return bool(value == each.default_factory())
    return each.default is not dataclasses.MISSING and bool(value == each.default)


def _written(value: object, place: str) -> Any:
    match value:
        case str():
            if _PASSWORD.search(value):
                raise ConfigError(f"{place}: an address with a password is not written to a file")
            return value
        case None | bool() | int() | float():
            return value
        case Path():
            return str(value)
        case Resources() | steps.PipOptions():
            return _written_fields(value, place)
        case Allow():
            return {"allow": list(value.hosts)}
        case Image():
            return [_written_step(step, f"{place}[{n}]") for n, step in enumerate(value.steps, 1)]
        case Mapping():
            return {key: _written(each, f"{place}.{key}") for key, each in value.items()}
        case list() | tuple():
            return [_written(each, f"{place}[{n}]") for n, each in enumerate(value, 1)]
        case _:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise ConfigError(f"{place}: a {kind} cannot be written to a file")


def _written_fields(value: Any, place: str) -> dict[str, Any]:
    return {
        each.name: _written(getattr(value, each.name), f"{place}.{each.name}")
        for each in dataclasses.fields(value)
        if each.repr and not _is_default(each, getattr(value, each.name))
    }


def _written_step(step: steps.Step, place: str) -> dict[str, Any]:
    """``{verb: argument}``, or ``{verb: {name: argument, ...}}`` where there are several."""
    arguments = _written_fields(step, place)
    arguments |= arguments.pop("options", {})
    first = dataclasses.fields(step)[0].name
    return {step.verb: arguments[first] if list(arguments) == [first] else arguments}


def _written_account(config: Any) -> dict[str, Any]:
    given = config.model_dump(exclude_defaults=True, exclude=_ACCOUNT_SECRETS)
    account = {name: _written(value, f"backend.config.{name}") for name, value in given.items()}
    return {"config": account} if account else {}


# ------------------------------------------------------------------------- reading


def read_recipe(document: Mapping[str, Any], *, source: str) -> Backend:
    """The recipe that `document` says; `ConfigError` names the field that is wrong.

    Raises `MissingDependency` for an account's `config` without the account's package.
    """
    from paddock.backends.base import get_backend

    place = f"{source}: backend"
    given = dict(document)
    name = given.pop("type", None)
    if not isinstance(name, str):
        raise ConfigError(f"{place}: say which, such as type: docker")
    try:
        kind = get_backend(name)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    arguments = _arguments(kind, given, place)
    try:
        return kind(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    except TypeError as error:  # a field of a backend that is not ours, or one left out
        raise ConfigError(f"{place}: {error}") from error


def _arguments(kind: type[Any], given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What `kind` takes, of what is `given`, each checked against its annotation."""
    known = {each.name: each for each in dataclasses.fields(kind) if each.init}
    arguments = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"{place}.{name}: there is no such field{_hint(name, known)}")
        arguments[name] = _read_field(known[name], value, f"{place}.{name}")
    return arguments


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(known)}"


def _read_field(each: dataclasses.Field[Any], value: Any, place: str) -> Any:
    if _is_account(each):
        return None if value is None else _read_account(value, place)
    if not each.repr:
        raise ConfigError(f"{place}: what is secret is not kept in a file")
    read = _READERS.get(each.name)
    if read is not None and isinstance(value, list | dict):
        return read(value, place)
    if str(each.type) == "Path" and isinstance(value, str):
        return steps.local_path(place, value)
    return _checked(str(each.type), _tuples(value), place)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _checked(annotation: str, value: Any, place: str) -> Any:
    """`value`, if it is what `annotation` says. One of other names is the recipe's to check."""
    import pydantic

    try:
        _adapter(annotation).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(f"{place}{_inner(problem['loc'], value)}: {problem['msg']}") from None
    return value


def _inner(path: Sequence[int | str], value: Any) -> str:
    """Where in `value` a problem is, of which pydantic says the `path`."""
    if isinstance(value, Mapping):
        return f".{path[0]}" if path else ""
    return "".join(f"[{each + 1}]" for each in path if isinstance(each, int))


@functools.cache
def _adapter(annotation: str) -> TypeAdapter[Any]:
    import pydantic  # takes a while to import

    names = {"__annotations__": {"value": annotation}, "__module__": "builtins"}
    try:
        hints = get_type_hints(type("Asked", (), names), localns=dict(_TYPES))
    except NameError:  # not a plain type; as plain data it can only be text
        return pydantic.TypeAdapter(str)
    return pydantic.TypeAdapter(hints["value"])


def _read_resources(value: Any, place: str) -> Resources:
    arguments = _arguments(Resources, _mapping(value, place), place)
    try:
        return Resources(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _read_network(value: Any, place: str) -> Allow:
    given = _mapping(value, place)
    hosts = given.get("allow")
    if list(given) != ["allow"] or not isinstance(hosts, list):
        raise ConfigError(f"{place}: give a word, or allow: with a list of hosts")
    return Allow(hosts=_checked("Sequence[str]", tuple(hosts), place))


def _read_image(value: Any, place: str) -> Image:
    if not isinstance(value, list):
        raise ConfigError(f"{place}: give a reference, or a list of steps")
    return Image(tuple(_read_step(step, f"{place}[{n}]") for n, step in enumerate(value, 1)))


def _read_step(document: Any, place: str) -> steps.Step:
    given = _mapping(document, place)
    if len(given) != 1:
        raise ConfigError(f"{place}: a step is one verb and what it takes")
    verb, argument = next(iter(given.items()))
    if verb not in _STEPS:
        raise ConfigError(f"{place}: there is no step {verb}{_hint(verb, _STEPS)}")
    kind = _STEPS[verb]
    place = f"{place}.{verb}"
    names = [each.name for each in dataclasses.fields(kind)]
    short = kind is steps.Env or not isinstance(argument, dict)
    given = {names[0]: argument} if short else dict(argument)
    own = {name: given.pop(name) for name in names if name in given}
    arguments = _arguments(kind, own, place)
    if given and "options" in names:
        arguments["options"] = steps.PipOptions(**_arguments(steps.PipOptions, given, place))
    elif given:
        raise ConfigError(f"{place}: there is no {', '.join(given)}")
    try:
        return kind(**arguments)
    except TypeError as error:  # something is left out
        raise ConfigError(f"{place}: {error}") from error


def _read_account(value: Any, place: str) -> Any:
    import pydantic

    from paddock.backends.daytona import sdk

    kind = sdk().DaytonaConfig
    for name in (given := _mapping(value, place)):
        if name in _ACCOUNT_SECRETS:
            raise ConfigError(f"{place}.{name}: a key is not kept in a file; set DAYTONA_API_KEY")
        if name not in kind.model_fields:
            raise ConfigError(f"{place}.{name}: no such field{_hint(name, kind.model_fields)}")
    try:
        return kind(**given)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(f"{place}.{problem['loc'][0]}: {problem['msg']}") from None


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: give a mapping, not {type(value).__name__}")
    return value


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "resources": _read_resources,
    "network": _read_network,
    "image": _read_image,
}
