"""System prompts: the built-in one, the user's own, and prompt files.

A prompt file is a Jinja2 template, after an optional block of YAML between two ``---``
lines with `description`, `variables` and `initial_prompt`. Templates are rendered in
Jinja's sandbox; a value is never itself taken for a template.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.permissions import load_profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.config import AgentConfig
    from paddock.runtime.permissions import PermissionProfile

__all__ = ["PromptFile", "read_prompt", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """A prompt file, read. `defaults` has None for a variable that has to be given."""

    body: str
    source: str
    description: str = ""
    initial_prompt: str | None = None
    defaults: Mapping[str, str | None] = field(default_factory=dict)

    def render(self, values: Mapping[str, str]) -> str:
        """The prompt's text; `ConfigError` names a variable that is missing."""
        from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        known = {name: value for name, value in self.defaults.items() if value is not None}
        known.update(values)
        for name in self.defaults:
            if name not in known:
                raise ConfigError(f"Missing required variable: {name}")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
        )
        try:
            return environment.from_string(self.body).render(known)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{self.source}, line {error.lineno}: {error.message}") from error
        except TemplateError as error:
            raise ConfigError(f"{self.source}: {error}") from error


def resolve(config: AgentConfig) -> str:
    """The system prompt of `config`, rendered if it is a file."""
    import platformdirs

    profile = load_profile(config.profile)
    values = {**_known_values(config, profile), **config.vars}
    if not config.system_prompt:
        users_own = platformdirs.user_config_path("paddock") / "default.md"
        return read_prompt(users_own).render(values) if users_own.is_file() else _built_in(values)
    if config.system_prompt.endswith(".md") and "\n" not in config.system_prompt:
        return read_prompt(Path(config.system_prompt).expanduser()).render(values)
    return config.system_prompt


def read_prompt(path: Path) -> PromptFile:
    """Read a prompt file; `ConfigError` if it is not one, `FileNotFoundError` if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"Prompt file not found: {path}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    head, body = _split(text)
    if not body.strip():
        raise ConfigError(f"{path}: the prompt is empty")
    document = _read_head(head, path)
    variables = document.get("variables") or {}
    if not isinstance(variables, dict):
        raise ConfigError(f"{path}: variables has to be a mapping")
    return PromptFile(
        body=body,
        source=str(path),
        description=str(document.get("description") or ""),
        initial_prompt=document.get("initial_prompt"),
        defaults={str(name): _default(value) for name, value in variables.items()},
    )


def _split(text: str) -> tuple[str, str]:
    lines = text.splitlines(keepends=True)
    if lines and lines[0].rstrip() == "---":
        for number, line in enumerate(lines[1:], 1):
            if line.rstrip() == "---":
                return "".join(lines[1:number]), "".join(lines[number + 1 :])
    return "", text


def _read_head(head: str, path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(head) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: what stands between the --- lines has to be a mapping")
    return document


def _default(value: Any) -> str | None:
    if isinstance(value, dict):
        if value.get("default") is not None:
            return str(value["default"])
        return None if value.get("required", True) else ""
    return str(value)


def _known_values(config: AgentConfig, profile: PermissionProfile) -> dict[str, str]:
    backend = config.backend if isinstance(config.backend, str) else config.backend.name
    return {
        "platform": platform.system() if backend == "local" else "Linux",
        "home_dir": "~",
        "working_dir": config.working_dir or profile.shell_working_dir or ".",
        "profile_name": profile.name,
        "shell_mode": profile.shell.value,
        "file_write_mode": profile.file_write.value,
        "database_mode": profile.database.value,
        "sandbox_info": f"a {backend} sandbox",
    }


def _built_in(values: Mapping[str, str]) -> str:
    return (
        "You are an agent that works with tools in a sandbox.\n\n"
        f"System: {values['platform']}, {values['sandbox_info']}\n"
        f"Working directory: {values['working_dir']}\n"
        f"Profile: {values['profile_name']} (shell {values['shell_mode']}, "
        f"writing files {values['file_write_mode']})\n\n"
        "Look before you change something. Use the tools to find facts instead of guessing "
        "them, and run independent calls together. Change only what the task asks for, check "
        "that the change does what it should, and say plainly what you did and what you could "
        "not do. When a call was refused, do not try to get around it."
    )
