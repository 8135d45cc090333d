"""What an agent is, as a value: `AgentConfig`, and its YAML file.

Knows how to read and write the file. It makes nothing: no tools, no client, no sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.runtime.permissions import PermissionProfile

__all__ = ["DEFAULT_MODEL", "AgentConfig"]

DEFAULT_MODEL = "gpt-5-mini"
MAX_FILE_SIZE = 1024 * 1024
"""Bytes of a configuration file that are read: people write less."""

_FILE_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "system_prompt": str,
    "vars": Mapping,
    "model": str,
    "profile": (str, Mapping),
    "backend": str,
    "working_dir": str,
    "base_url": str,
    "service_tier": str,
    "reasoning_effort": str,
    "response_format": Mapping,
    "auto_approve": bool,
}


def _env(name: str) -> str | None:
    return os.environ.get(name) or None


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """All that defines an agent. Vary one with `dataclasses.replace`.

    - `system_prompt`: its text, or the path of a prompt file (ends in ``.md``), which
      is rendered with `vars`; None is the user's default prompt, or Paddock's own.
    - `model`: the model's name, or ``scripted:PATH``. `base_url` is where it is served.
    - `profile`: a name, a file, or a `PermissionProfile`; None is ``readonly``.
    - `backend`: a name, or a recipe such as ``LocalBackend(...)``.
    - `working_dir`: where the tools work, in the sandbox.
    - `auto_approve`: approve what needs approval when there is nobody to ask.
    - `extras`: anything else.

    Defaults come from the environment where it has ``OPENAI_MODEL``,
    ``OPENAI_BASE_URL``, ``PADDOCK_PROFILE``, ``PADDOCK_BACKEND``,
    ``PADDOCK_SERVICE_TIER`` and ``PADDOCK_REASONING_EFFORT``, read when an
    `AgentConfig` is made.
    """

    system_prompt: str | None = None
    vars: Mapping[str, str] = field(default_factory=dict)
    model: str = field(default_factory=lambda: _env("OPENAI_MODEL") or DEFAULT_MODEL)
    profile: str | PermissionProfile | None = field(default_factory=lambda: _env("PADDOCK_PROFILE"))
    backend: str | Backend = field(default_factory=lambda: _env("PADDOCK_BACKEND") or "local")
    working_dir: str | None = None
    base_url: str | None = field(default_factory=lambda: _env("OPENAI_BASE_URL"))
    service_tier: str | None = field(default_factory=lambda: _env("PADDOCK_SERVICE_TIER"))
    reasoning_effort: str | None = field(default_factory=lambda: _env("PADDOCK_REASONING_EFFORT"))
    response_format: Mapping[str, Any] | None = None
    auto_approve: bool = True
    extras: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a YAML file; keys that are no field of this class go to `extras`.

        Raises `FileNotFoundError`, and `ConfigError` (a `ValueError`) that says what is
        wrong with it.
        """
        found = Path(path).expanduser()
        if not found.is_file():
            raise FileNotFoundError(f"Config file not found: {path}")
        document = _load(found)
        known = {name: value for name, value in document.items() if name in _FILE_TYPES}
        extras = {name: value for name, value in document.items() if name not in _FILE_TYPES}
        for name, value in known.items():
            _check(name, value, path)
        given = {name: value for name, value in known.items() if value is not None}
        if isinstance(given.get("profile"), Mapping):
            from paddock.runtime.permissions import PermissionProfile

            given["profile"] = PermissionProfile.from_dict(given["profile"], source=str(path))
        if "vars" in given:
            given["vars"] = {str(name): str(value) for name, value in given["vars"].items()}
        return cls(**given, extras=extras)

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write a YAML file that `from_file` reads back, making its parent directories.

        What is not set is left out. A backend recipe is written as its name.
        """
        target = Path(path).expanduser()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.to_yaml())

    def to_yaml(self) -> bytes:
        """The contents of `to_file`."""
        import yaml

        text = yaml.safe_dump(self._document(), sort_keys=False, allow_unicode=True)
        return text.encode("utf-8", "replace")

    def resolve_system_prompt(self) -> str:
        """The system prompt's text; a prompt file is read and rendered."""
        from paddock.runtime.prompts import resolve

        return resolve(self)

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "extras" or (not value and each.name != "auto_approve"):
                continue
            document[each.name] = _plain(value)
        return {**document, **self.extras}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_dict"):  # a profile
        return value.to_dict()
    return value if isinstance(value, str | bool) else value.name  # a backend


def _load(path: Path) -> dict[str, Any]:
    import yaml

    with path.open("rb") as file:
        data = file.read(MAX_FILE_SIZE + 1)
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"{path} is larger than {MAX_FILE_SIZE} bytes")
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"Config file must contain a YAML mapping: {path}")
    return {str(name): value for name, value in document.items()}


def _check(name: str, value: object, path: str | os.PathLike[str]) -> None:
    if value is not None and not isinstance(value, _FILE_TYPES[name]):
        wanted = "a mapping" if _FILE_TYPES[name] is Mapping else "true or false"
        wanted = "text" if _FILE_TYPES[name] is str else wanted
        raise ConfigError(f"{path}: {name} has to be {wanted}, not {type(value).__name__}")
