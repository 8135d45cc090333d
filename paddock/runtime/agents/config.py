"""What an agent is, as a value: `AgentConfig`, and its YAML file.

Knows how to read and write the file. It makes nothing: no tools, no client, no sandbox.
Nothing in a file is interpolated: ``${HOME}`` is seven characters.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paddock.errors import ConfigError
from paddock.redaction import Secrets
from paddock.runtime.agents.model_options import OPTION_TYPES, ModelOptions
from paddock.runtime.core.approval import check_on_refusal
from paddock.runtime.core.response_format import answer_format, is_model
from paddock.runtime.core.subagent import AgentDefinition
from paddock.runtime.core.text import clean_text
from paddock.runtime.models import WIRES
from paddock.runtime.tools.mcp.config import McpServer, parse_mcp_servers

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.runtime.agents.trust import Wish
    from paddock.runtime.core.approval import OnRefusal
    from paddock.runtime.core.yamltext import Document
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["DEFAULT_MODEL", "AgentConfig", "read_file"]

DEFAULT_MODEL = "gpt-5-mini"
MAX_NESTING = 50
"""Of lists and mappings in each other that are written: fewer than a file may have."""

_FILE_TYPES: Mapping[str, tuple[type, ...]] = {
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
_NEVER_NONE = frozenset({"vars", "model", "backend", "auto_approve", "secrets", "mcp_servers"})


def _env(name: str) -> str | None:
    return os.environ.get(name) or None


@dataclass(frozen=True, kw_only=True)
class AgentConfig(AgentDefinition, ModelOptions):
    """All that defines an agent. Vary one with `dataclasses.replace`.

    - `system_prompt`: its text, or the path of a prompt file (ends in ``.md``), which
      is rendered with `vars`; None is the user's default prompt, or Paddock's own.
    - `model`: the model's name, or ``scripted:PATH``. `base_url` is where it is served,
      and `provider` which protocol is spoken there if the name does not tell. `wire` is which
      of OpenAI's two: ``chat`` completions or ``responses``; see `OpenAIModel`.
    - `profile`: a name, a file, or a `PermissionProfile`; None is ``readonly``.
    - `backend`: a name, or a recipe such as ``LocalBackend(...)``.
    - `working_dir`: where the tools work, in the sandbox.
    - `service_tier`, `reasoning_effort`: sent to the model as they are; with the tier
      ``flex`` an answer may take 900 s to begin.
    - `context_window`: how many tokens fit into the model's context; needed only for models that
      nobody knows by name. A longer conversation is compacted.
    - `response_format`: what the final answer has to be: a JSON schema, a pydantic model,
      or a format as OpenAI takes it. See `RunResult.output`.
    - `databases`: those that the tools may use, by name, as they stand in the file. No repr
      shows them, and a password is written to a file only as ``${NAME}``.
    - `mcp_servers`: MCP servers whose tools the agent has, as ``SERVER__TOOL``: each an
      `McpServer`, or a mapping of its fields.
    - `temperature`, `top_p`, `max_tokens`, `seed`, `stop`, `tool_choice` (``auto``, ``none``,
      ``required`` or the name of a tool, until one was called) and `parallel_tool_calls`: sent to
      the model if they are set; `extra_body` and `extra_headers` too, as they are.
    - `timeout`, `idle_timeout`: seconds until the model's answer begins (600), and without a
      byte after that (300).
    - `prices`: what models cost, by name, in US dollars for a million tokens: ``input`` and
      ``output``, and if they differ ``cached_input`` and ``cache_write``. They take precedence
      over what a service says and over the price list.
    - `auto_approve`: approve what needs approval when there is nobody to ask.
    - `on_refusal`: what a refused call does. ``end_turn``, the default: the agent waits for the
      next prompt. ``continue``: the model reads the refusal and is asked again.
    - `secrets`: see `Backend.secrets`. A file has their names, and those of the backend's;
      the values are taken from the environment where it is read.
    - `extras`: anything else.

    Defaults come from the environment where it has ``OPENAI_MODEL``,
    ``OPENAI_BASE_URL``, ``PADDOCK_PROFILE``, ``PADDOCK_BACKEND``,
    ``PADDOCK_SERVICE_TIER``, ``PADDOCK_REASONING_EFFORT``, ``PADDOCK_TIMEOUT`` and
    ``PADDOCK_IDLE_TIMEOUT``, read when an `AgentConfig` is made. What may be None is None too
    when it is empty. Raises `ConfigError` for `vars` that are not text or numbers, for a
    `context_window` that is not positive, for a `response_format` that is neither a mapping nor
    a model, for an unknown `on_refusal` or `wire`, and for options of the model that are not valid.
    """

    system_prompt: str | None = None
    vars: Mapping[str, str] = field(default_factory=dict)
    model: str = field(default_factory=lambda: _env("OPENAI_MODEL") or DEFAULT_MODEL)
    provider: str | None = None
    wire: str | None = None
    profile: str | PermissionProfile | None = field(default_factory=lambda: _env("PADDOCK_PROFILE"))
    backend: str | Backend = field(default_factory=lambda: _env("PADDOCK_BACKEND") or "local")
    working_dir: str | None = None
    base_url: str | None = field(default_factory=lambda: _env("OPENAI_BASE_URL"))
    service_tier: str | None = field(default_factory=lambda: _env("PADDOCK_SERVICE_TIER"))
    reasoning_effort: str | None = field(default_factory=lambda: _env("PADDOCK_REASONING_EFFORT"))
    context_window: int | None = None
    response_format: Mapping[str, Any] | type[Any] | None = None
    databases: Mapping[str, Any] | None = field(default=None, repr=False)
    mcp_servers: Sequence[McpServer | Mapping[str, Any]] = ()
    auto_approve: bool = True
    on_refusal: OnRefusal | None = None
    secrets: Mapping[str, str] = field(default_factory=Secrets, repr=False)
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _FILE_TYPES.keys() - OPTION_TYPES.keys() - _NEVER_NONE:
            object.__setattr__(self, name, getattr(self, name) or None)
        object.__setattr__(self, "vars", _texts(self.vars))
        object.__setattr__(self, "secrets", Secrets(self.secrets))
        object.__setattr__(self, "mcp_servers", parse_mcp_servers(self.mcp_servers))
        if self.context_window is not None and self.context_window < 0:
            raise ConfigError(f"context_window: {self.context_window} is not a number of tokens")
        given = self.response_format
        if given is not None and not isinstance(given, Mapping) and not is_model(given):
            raise ConfigError("response_format: give a mapping or a pydantic model")
        check_on_refusal(self.on_refusal)
        if self.wire not in (None, *WIRES):
            raise ConfigError(f"wire: {self.wire!r} is not one of {', '.join(WIRES)}")

    @property
    def servers(self) -> tuple[McpServer, ...]:
        """Its `mcp_servers`, all of them as `McpServer`."""
        return parse_mcp_servers(self.mcp_servers)

    @property
    def backend_name(self) -> str:
        """The name of the backend that makes its sandboxes."""
        return self.backend if isinstance(self.backend, str) else self.backend.name

    @property
    def given_working_dir(self) -> str | None:
        """Where the tools work if this says so, or else its recipe; None if neither does."""
        of_recipe = None if isinstance(self.backend, str) else self.backend.working_dir
        return self.working_dir or of_recipe

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, trusted: bool = True, **defaults: Any
    ) -> Self:
        """Read a YAML file; keys that are no field of this class go to `extras`.

        One that is nearly the name of a field is warned of. What a file leaves out is as
        in ``AgentConfig(**defaults)``; null is None. Raises `FileNotFoundError` and other
        kinds of `OSError`, and `ConfigError` (a `ValueError`) that says what is wrong with
        it and where.

        A file can send your API key elsewhere (`base_url`), read variables as secrets, and
        run without isolation. Give ``trusted=False`` for a file that is not yours: then what
        a project's file may not decide is a `ConfigError` that lists it; see `file_wishes`.
        """
        data = read_file(path)
        config = cls.from_yaml(data, source=str(path), **defaults)
        if not trusted and (found := config.file_wishes(path, data)):
            listed = "".join(f"\n  {wish}" for wish in found)
            raise ConfigError(f"{path} asks for what an untrusted file may not decide:{listed}")
        return config

    def file_wishes(self, path: str | os.PathLike[str], data: bytes) -> list[Wish]:
        """What the file `path` with the contents `data`, which this was read from, asks for
        beyond what any file that came with a project may decide."""
        from paddock.runtime.agents.trust import wishes

        place = Path(path).expanduser().absolute()
        document = _load(data, str(path)).data
        return wishes(document, self.backend, folder=place.parent, known=frozenset(_FILE_TYPES))

    def file_digest(self, path: str | os.PathLike[str], data: bytes) -> str:
        """A digest of that file's place and contents, and of the files that it names."""
        from paddock.runtime.agents.trust import digest

        place = Path(path).expanduser().resolve()
        return digest(place, data, _load(data, str(path)).data, self.backend)

    @classmethod
    def from_yaml(cls, data: bytes, *, source: str = "configuration", **defaults: Any) -> Self:
        """As `from_file`, for contents that are not in a file; errors call them `source`."""
        return cls(**{**defaults, **_read(data, source)})

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write a YAML file that `from_file` reads back, making its parent directories.

        What is not set is left out. Keys of an account are never written, and neither are
        passwords of databases that are not the name of a variable (``${NAME}``). Raises
        `ConfigError`, before anything is written, that names what a file cannot say.
        """
        data = self.to_yaml()
        target = Path(path).expanduser()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def to_yaml(self, *, partial: bool = False) -> bytes:
        """The contents of `to_file`. If `partial`, what a file cannot say is left out.

        A backend is then written as a text that says what was wrong, which is the name of
        none: an agent read from it has to be given its backend before it makes a sandbox.
        """
        from paddock.runtime.core.yamltext import dump_yaml

        document = _document(self, partial=partial)
        data = dump_yaml(document).encode()
        if not partial:
            _verify(self, document, data)
        return data

    def resolve_system_prompt(self) -> str:
        """The system prompt's text; a prompt file is read and rendered.

        It reads a file and may compute for seconds: call it in a thread where an event loop
        runs. Raises `FileNotFoundError` and `ConfigError`.
        """
        from paddock.runtime.agents.prompts import resolve

        return resolve(self)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The contents of an agent's file; `FileNotFoundError` that says what was looked for."""
    from paddock.runtime.core.yamltext import MAX_BYTES

    try:
        with Path(path).expanduser().open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"Config file not found: {path}") from None


def _texts(given: Mapping[str, object], place: str = "vars") -> dict[str, str]:
    for name, value in given.items():
        if not isinstance(value, str | int | float):
            raise ConfigError(f"{place}.{name} has to be text, not {type(value).__name__}")
    return {str(name): str(value) for name, value in given.items()}


# ------------------------------------------------------------------------- reading


def _read(data: bytes, source: str) -> dict[str, Any]:
    document = _load(data, source)
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


def _load(data: bytes, source: str) -> Document:
    from paddock.runtime.agents.recipes import TEXTS
    from paddock.runtime.core.yamltext import decode, read_yaml

    texts = [("vars", "*"), *(("backend", *path) for path in TEXTS)]
    document = read_yaml(decode(data, source=source), source=source, texts=texts)
    if not isinstance(document.data, dict):
        raise ConfigError(f"Config file must contain a YAML mapping: {source}")
    return document


def _fields(document: Document, source: str) -> dict[str, Any]:
    """The arguments of `AgentConfig` that a file gives."""
    found = {name: value for name, value in document.data.items() if name in _FILE_TYPES}
    given = {n: value for n, value in found.items() if value is not None or n not in _NEVER_NONE}
    lines = document.lines
    fields = {
        name: None if value is None else _field(name, value, f"{source}, line {lines[name]}")
        for name, value in given.items()
    }
    extras = {name: value for name, value in document.data.items() if name not in _FILE_TYPES}
    return {**fields, "extras": extras}


def _field(name: str, value: Any, place: str) -> Any:
    """What `value` means as the field `name`; `ConfigError` says the place if it means nothing."""
    types = _FILE_TYPES[name]
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
        return _texts(value, f"{place}: vars")
    if name == "mcp_servers":
        return parse_mcp_servers(value, source=f"{place}: ")
    return value


def _near_misses(document: Document, source: str) -> list[str]:
    """A warning for each key that goes to `extras` and looks like a field's."""
    found = []
    for name in document.data.keys() - _FILE_TYPES.keys():
        place = f"{source}, line {document.lines[name]}: {name}"
        plain = name.lower().replace("-", "_")
        if name == "extras":
            found.append(f"{place} is itself kept as an extra; extras stand beside the other keys")
        elif close := difflib.get_close_matches(plain, _FILE_TYPES, n=1, cutoff=0.8):
            found.append(f"{place} is kept as an extra; did you mean {close[0]}?")
    return sorted(found)


# ------------------------------------------------------------------------- writing


def _document(config: AgentConfig, *, partial: bool) -> dict[str, Any]:
    """`config` as a file has it."""
    values = {name: getattr(config, name) for name in _FILE_TYPES if _is_written(config, name)}
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
            if name in _FILE_TYPES:
                raise ConfigError(f"extras.{name}: this is the name of a field")
            document[name] = _plain(value, f"extras.{name}")
        except ConfigError:
            if not partial:
                raise
    return document


def _secret_names(config: AgentConfig) -> list[str]:
    of_backend = {} if isinstance(config.backend, str) else config.backend.secrets
    return sorted({*config.secrets, *of_backend})


def _is_written(config: AgentConfig, name: str) -> bool:
    """What is not set is left out, unless the environment would then speak for it."""
    if name == "secrets":
        return False  # but for their names
    value = getattr(config, name)
    if value is None:
        default = type(config).__dataclass_fields__[name].default_factory
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
    """What a partial file says in place of `value`."""
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


def _verify(config: AgentConfig, document: Mapping[str, Any], data: bytes) -> None:
    """Raise `ConfigError` unless `data` is read back as `config`."""
    again = _fields(_load(data, "what was written"), "what was written")
    for name, value in document.items():
        if name not in _FILE_TYPES:
            same = _same(again["extras"][name], config.extras[name])
        elif name == "backend":  # but for its secrets
            same = _written(name, again[name]) == value
        elif name == "secrets":
            same = again[name] == value
        else:
            same = _same(again[name], getattr(config, name))
        if not same:
            place = name if name in _FILE_TYPES else f"extras.{name}"
            raise ConfigError(f"{place} cannot be written so that it is read back as it is")


def _same(one: object, other: object) -> bool:
    """Equality of plain data. What is not a number equals nothing, but is written alike."""
    return one == other or repr(one) == repr(other)
