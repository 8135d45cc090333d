"""The file of an agent: what its YAML says as arguments of `AgentConfig`, and the way back.

Nothing in a file is interpolated: ``${HOME}`` is seven characters. A password is written only as
the name of a variable.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from paddock.errors import ConfigError
from paddock.redaction import Secrets
from paddock.runtime.agents.model_options import OPTION_TYPES
from paddock.runtime.core.response_format import answer_format
from paddock.runtime.core.text import clean_text
from paddock.runtime.tools.mcp.config import parse_mcp_servers

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.runtime.core.yamltext import Document

__all__ = ["FILE_TYPES", "NEVER_NONE", "dump", "load", "parse", "read_file", "texts"]

MAX_NESTING = 50
"""Of lists and mappings in each other that are written: fewer than a file may have."""

FILE_TYPES: Mapping[str, tuple[type, ...]] = {
    "system_prompt": (str,),
    "vars": (Mapping,),
    "model": (str,),
    "provider": (str,),
    "wire": (str,),
    "profile": (str, Mapping),
    "backend": (str, Mapping),
    "working_dir": (str,),
    "base_url": (str,),
    "service_tier": (str,),
    "reasoning_effort": (str,),
    "context_window": (int,),
    "response_format": (Mapping,),
    "databases": (Mapping,),
    "mcp_servers": (list,),
    **OPTION_TYPES,
    "auto_approve": (bool,),
    "on_refusal": (str,),
    "secrets": (list,),
}
"""The keys of a file, in the order in which they are written. Others are `extras`."""
_TYPE_NAMES: Mapping[type, str] = {
    str: "text",
    Mapping: "a mapping",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
}
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
NEVER_NONE = frozenset({"vars", "model", "backend", "auto_approve", "secrets", "mcp_servers"})


class Config(Protocol):
    """What is written: an `AgentConfig`, with the fields of `FILE_TYPES`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def backend(self) -> str | Backend: ...

    @property
    def secrets(self) -> Mapping[str, str]: ...

    @property
    def extras(self) -> Mapping[str, Any]: ...


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The contents of an agent's file; `FileNotFoundError` that says what was looked for."""
    from paddock.runtime.core.yamltext import MAX_BYTES

    try:
        with Path(path).expanduser().open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"Config file not found: {path}") from None


def texts(given: Mapping[str, object], place: str = "vars") -> dict[str, str]:
    """`given`, with texts for numbers; `ConfigError` for other values."""
    for name, value in given.items():
        if not isinstance(value, str | int | float):
            raise ConfigError(f"{place}.{name} has to be text, not {type(value).__name__}")
    return {str(name): str(value) for name, value in given.items()}


# ------------------------------------------------------------------------- reading


def parse(data: bytes, source: str) -> dict[str, Any]:
    """The arguments of `AgentConfig` that the file `source` gives; see `AgentConfig.from_file`."""
    document = load(data, source)
    for warning in _near_misses(document, source):
        warnings.warn(warning, stacklevel=3)
    given = _fields(document, source)
    return given | {"secrets": _secrets(given.get("secrets", ()), source)}


def _secrets(names: Iterable[object], source: str) -> Secrets:
    """The secrets of these names, from the environment."""
    found = {str(name): os.environ.get(str(name)) for name in names}
    if missing := [name for name, value in found.items() if value is None]:
        raise ConfigError(f"{source}: set in the environment what is secret: {', '.join(missing)}")
    return Secrets({name: value for name, value in found.items() if value is not None})


def load(data: bytes, source: str) -> Document:
    """The mapping that a file is."""
    from paddock.runtime.agents.recipes import TEXTS
    from paddock.runtime.core.yamltext import decode, read_yaml

    texts = [("vars", "*"), *(("backend", *path) for path in TEXTS)]
    document = read_yaml(decode(data, source=source), source=source, texts=texts)
    if not isinstance(document.data, dict):
        raise ConfigError(f"Config file must contain a YAML mapping: {source}")
    return document


def _fields(document: Document, source: str) -> dict[str, Any]:
    """The arguments of `AgentConfig` that a file gives."""
    found = {name: value for name, value in document.data.items() if name in FILE_TYPES}
    given = {n: value for n, value in found.items() if value is not None or n not in NEVER_NONE}
    lines = document.lines
    fields = {
        name: None if value is None else _field(name, value, f"{source}, line {lines[name]}")
        for name, value in given.items()
    }
    extras = {name: value for name, value in document.data.items() if name not in FILE_TYPES}
    return {**fields, "extras": extras}


def _field(name: str, value: Any, place: str) -> Any:
    """What `value` means as the field `name`; `ConfigError` says the place if it means nothing."""
    types = FILE_TYPES[name]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = " or ".join(_TYPE_NAMES[each] for each in types)
        raise ConfigError(f"{place}: {name} has to be {wanted}, not {type(value).__name__}")
    if name == "profile" and isinstance(value, Mapping):
        from paddock.runtime.permissions.profile import PermissionProfile

        return PermissionProfile.from_dict(value, source=f"{place}: profile")
    if name == "backend" and isinstance(value, Mapping):
        from paddock.runtime.agents.recipes import read_recipe

        return read_recipe(value, source=place)
    if name == "vars" and isinstance(value, Mapping):
        return texts(value, f"{place}: vars")
    if name == "mcp_servers":
        return parse_mcp_servers(value, source=f"{place}: ")
    return value


def _near_misses(document: Document, source: str) -> list[str]:
    """A warning for each key that goes to `extras` and looks like a field's."""
    found = []
    for name in document.data.keys() - FILE_TYPES.keys():
        place = f"{source}, line {document.lines[name]}: {name}"
        plain = name.lower().replace("-", "_")
        if name == "extras":
            found.append(f"{place} is itself kept as an extra; extras stand beside the other keys")
        elif close := difflib.get_close_matches(plain, FILE_TYPES, n=1, cutoff=0.8):
            found.append(f"{place} is kept as an extra; did you mean {close[0]}?")
    return sorted(found)


# ------------------------------------------------------------------------- writing


def dump(config: Config, *, partial: bool) -> bytes:
    """See `AgentConfig.to_yaml`."""
    from paddock.runtime.core.yamltext import dump_yaml

    document = _document(config, partial=partial)
    data = dump_yaml(document).encode()
    if not partial:
        _verify(config, document, data)
    return data


def _document(config: Config, *, partial: bool) -> dict[str, Any]:
    """`config` as a file has it."""
    values = {name: getattr(config, name) for name in FILE_TYPES if _is_written(config, name)}
    document: dict[str, Any] = {}
    for name, value in values.items():
        try:
            document[name] = _written(name, value)
        except ConfigError as error:
            if not partial:
                raise
            document[name] = _instead(name, value, error)
    if names := _secret_names(config):
        document["secrets"] = names
    for name, value in config.extras.items():
        try:
            if name in FILE_TYPES:
                raise ConfigError(f"extras.{name}: this is the name of a field")
            document[name] = _plain(value, f"extras.{name}")
        except ConfigError:
            if not partial:
                raise
    return document


def _secret_names(config: Config) -> list[str]:
    of_backend = {} if isinstance(config.backend, str) else config.backend.secrets
    return sorted({*config.secrets, *of_backend})


def _is_written(config: Config, name: str) -> bool:
    """What is not set is left out, unless the environment would then speak for it."""
    if name == "secrets":
        return False  # but for their names
    value = getattr(config, name)
    if value is None:
        default = config.__dataclass_fields__[name].default_factory
        return callable(default) and default() is not None
    return value not in ({}, ())


def _written(name: str, value: Any) -> Any:
    from paddock.backends.base import Backend
    from paddock.runtime.agents.recipes import write_recipe
    from paddock.runtime.permissions.profile import PermissionProfile

    if isinstance(value, Backend):
        return _plain(write_recipe(value), name)
    if name == "databases" and isinstance(value, Mapping):
        value = {n: _discreet(each, f"{name}.{n}") for n, each in value.items()}
    if name == "mcp_servers":
        value = [server.to_dict() for server in value]
    return _plain(value.to_dict() if isinstance(value, PermissionProfile) else value, name)


def _discreet(database: Any, place: str, *, partial: bool = False) -> Any:
    """`database`, whose password stands elsewhere. If `partial`, without one that does not."""
    if not isinstance(database, Mapping) or database.get("password") is None:
        return database
    if _REFERENCE.fullmatch(str(database["password"])):
        return database
    if not partial:
        raise ConfigError(f"{place}.password: what is secret is not written; give it as ${{NAME}}")
    return {**database, "password": None}


def _instead(name: str, value: Any, error: ConfigError) -> Any:
    """Return what a partial file says instead of `value`."""
    from paddock.backends.base import Backend

    if name == "databases" and isinstance(value, Mapping):
        with contextlib.suppress(ConfigError):
            kept = {n: _discreet(each, name, partial=True) for n, each in value.items()}
            return _plain(kept, name)
    if isinstance(value, Backend):
        return clean_text(f"{value.name} ({error})")
    if name == "mcp_servers":
        return [_plain(server.to_dict(partial=True), name) for server in value]
    if isinstance(value, type) and (wanted := answer_format(value)) is not None:
        return wanted.wire  # a model's schema, without its class
    return clean_text(value) if isinstance(value, str) else None


def _plain(value: Any, place: str, depth: int = 0) -> Any:
    """A copy of `value` that is plain data; `ConfigError` names what is not."""
    if depth > MAX_NESTING:
        raise ConfigError(f"{place}: nested too deep to be written, or a part of itself")
    if isinstance(value, str):
        if clean_text(value) != value:
            raise ConfigError(f"{place}: text that is not valid Unicode cannot be written")
        return value
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ConfigError(f"{place}: the key {name!r} is not text")
        return {_plain(n, place): _plain(v, f"{place}.{n}", depth + 1) for n, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{place}[{n}]", depth + 1) for n, each in enumerate(value, 1)]
    if value is None or isinstance(value, bool | int | float):
        return value
    kind = "class" if isinstance(value, type) else type(value).__qualname__
    raise ConfigError(f"{place}: a {kind} cannot be written to a file")


def _verify(config: Config, document: Mapping[str, Any], data: bytes) -> None:
    """Raise `ConfigError` unless `data` is read back as `config`."""
    again = _fields(load(data, "what was written"), "what was written")
    for name, value in document.items():
        if name not in FILE_TYPES:
            same = _same(again["extras"][name], config.extras[name])
        elif name == "backend":  # but for its secrets
            same = _written(name, again[name]) == value
        elif name == "secrets":
            same = again[name] == value
        else:
            same = _same(again[name], getattr(config, name))
        if not same:
            place = name if name in FILE_TYPES else f"extras.{name}"
            raise ConfigError(f"{place} cannot be written so that it is read back as it is")


def _same(one: object, other: object) -> bool:
    """Equality of plain data. What is not a number equals nothing, but is written alike."""
    return one == other or repr(one) == repr(other)
