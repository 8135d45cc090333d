"""The definition of an agent as plain data: `AgentConfig`, and its YAML file.

It creates no tools, client or sandbox. `config_file` reads and writes the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paddock.errors import ConfigError
from paddock.redaction import Secrets
from paddock.runtime.agents.config_file import (
    FILE_TYPES,
    NEVER_NONE,
    dump,
    load,
    parse,
    read_file,
    texts,
)
from paddock.runtime.agents.model_options import OPTION_TYPES, ModelOptions
from paddock.runtime.core.approval import check_on_refusal
from paddock.runtime.core.response_format import is_model
from paddock.runtime.core.subagent import AgentDefinition
from paddock.runtime.models import WIRES
from paddock.runtime.tools.mcp.config import McpServer, parse_mcp_servers

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.runtime.agents.trust import Wish
    from paddock.runtime.core.approval import OnRefusal
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["DEFAULT_MODEL", "AgentConfig"]

DEFAULT_MODEL = "gpt-5-mini"


def _env(name: str) -> str | None:
    return os.environ.get(name) or None


@dataclass(frozen=True, kw_only=True)
class AgentConfig(AgentDefinition, ModelOptions):
    """Everything that defines an agent. Vary one with `dataclasses.replace`.

    - `system_prompt`: its text, or the path of a prompt file (ends in ``.md``), which
      is rendered with `vars`; None is the user's default prompt, or Paddock's own.
    - `model`: the model's name, or ``scripted:PATH``. `base_url`: the URL of its service.
      `provider`: the protocol of the service, if the name does not imply it. `wire`: which of
      OpenAI's two protocols, ``chat`` completions or ``responses``; see `OpenAIModel`.
    - `profile`: a name, a file, or a `PermissionProfile`; None is ``readonly``.
    - `backend`: a name, or a recipe such as ``LocalBackend(...)``.
    - `working_dir`: the directory of the tools, in the sandbox.
    - `service_tier`, `reasoning_effort`: sent to the model unchanged; with the tier ``flex`` an
      answer may take 900 s to begin.
    - `context_window`: the size of the model's context in tokens; needed only for unlisted
      models. A longer conversation is compacted.
    - `response_format`: the format of the final answer: a JSON schema, a pydantic model, or a
      format as OpenAI takes it. See `RunResult.output`.
    - `databases`: the databases of the tools, by name, as in the file. No repr shows them, and a
      password is written to a file only as ``${NAME}``.
    - `mcp_servers`: MCP servers whose tools the agent has, as ``SERVER__TOOL``: each an
      `McpServer`, or a mapping of its fields.
    - `temperature`, `top_p`, `max_tokens`, `seed`, `stop`, `tool_choice` (``auto``, ``none``,
      ``required`` or the name of a tool, until one was called) and `parallel_tool_calls`: sent to
      the model if they are set; `extra_body` and `extra_headers` too, unchanged.
    - `timeout`, `idle_timeout`: seconds until the model's answer begins (600), and without a
      byte after that (300).
    - `prices`: what models cost, by name, in US dollars for a million tokens: ``input`` and
      ``output``, and if they differ ``cached_input`` and ``cache_write``. They take precedence
      over what a service says and over the price list.
    - `auto_approve`: approve what needs approval when no one can be asked.
    - `on_refusal`: the effect of a refused call. ``end_turn``, the default: the agent waits for
      the next prompt. ``continue``: the model reads the refusal and is asked again.
    - `secrets`: see `Backend.secrets`. A file has only their names, and those of the backend's;
      the values come from the environment of the reader.
    - `extras`: anything else.

    Defaults come from the environment variables ``OPENAI_MODEL``, ``OPENAI_BASE_URL``,
    ``PADDOCK_PROFILE``, ``PADDOCK_BACKEND``, ``PADDOCK_SERVICE_TIER``,
    ``PADDOCK_REASONING_EFFORT``, ``PADDOCK_TIMEOUT`` and ``PADDOCK_IDLE_TIMEOUT``, read when an
    `AgentConfig` is made. An empty one counts as None where None is allowed.

    Raises `ConfigError` for `vars` that are not text or numbers, for a `context_window` that is
    not positive, for a `response_format` that is neither a mapping nor a model, for an unknown
    `on_refusal` or `wire`, and for invalid options of the model.
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
        for name in FILE_TYPES.keys() - OPTION_TYPES.keys() - NEVER_NONE:
            object.__setattr__(self, name, getattr(self, name) or None)
        object.__setattr__(self, "vars", texts(self.vars))
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
        document = load(data, str(path)).data
        return wishes(document, self.backend, folder=place.parent, known=frozenset(FILE_TYPES))

    def file_digest(self, path: str | os.PathLike[str], data: bytes) -> str:
        """A digest of that file's place and contents, and of the files that it names."""
        from paddock.runtime.agents.trust import digest

        place = Path(path).expanduser().resolve()
        return digest(place, data, load(data, str(path)).data, self.backend)

    @classmethod
    def from_yaml(cls, data: bytes, *, source: str = "configuration", **defaults: Any) -> Self:
        """As `from_file`, for contents that are not in a file; errors call them `source`."""
        return cls(**{**defaults, **parse(data, source)})

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
        return dump(self, partial=partial)

    def resolve_system_prompt(self) -> str:
        """The system prompt's text; a prompt file is read and rendered.

        It reads a file and may compute for seconds: call it in a thread where an event loop
        runs. Raises `FileNotFoundError` and `ConfigError`.
        """
        from paddock.runtime.agents.prompts import resolve

        return resolve(self)
