"""System prompts: the built-in one, the user's own, and prompt files.

A prompt file is a Jinja2 template, after an optional block of YAML between two ``---``
lines with `description`, `variables` and `initial_prompt`. Knows what a template is given;
rendering it is the business of `paddock.runtime.agents.rendering`.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._places import config_directory
from paddock.errors import ConfigError
from paddock.runtime.core.yamltext import read_text, read_yaml
from paddock.runtime.permissions.profile import load_profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["PromptFile", "automatic_values", "read_prompt", "resolve"]

_FENCE = "---"
_TEXTS = (("variables", "*"), ("variables", "*", "default"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """A prompt file, read. `defaults` has None for a variable that has to be given.

    `body` begins on `first_line` of the file that `source` names.
    """

    body: str
    source: str
    first_line: int = 1
    description: str = ""
    initial_prompt: str | None = None
    defaults: Mapping[str, str | None] = field(default_factory=dict)

    def render(self, values: Mapping[str, str]) -> str:
        """The prompt's text. Values that the file does not name are there for it too.

        Raise `ConfigError` that names a missing variable, or the line that is wrong.
        """
        from paddock.runtime.agents.rendering import render

        known = {name: value for name, value in self.defaults.items() if value is not None}
        known.update(values)
        for name in self.defaults:
            if name not in known:
                raise ConfigError(f"Missing required variable: {name}")
        return render(self.body, known, source=self.source, first_line=self.first_line)


def resolve(config: AgentConfig) -> str:
    """The system prompt of `config`, rendered if it is a file."""
    prompt = config.system_prompt
    if prompt and (not prompt.endswith(".md") or "\n" in prompt):
        return prompt
    profile = load_profile(config.profile)
    values = {**automatic_values(config, profile), **config.vars}
    if prompt:
        return read_prompt(Path(prompt).expanduser()).render(values)
    users_own = config_directory() / "default.md"
    if users_own.is_file():
        return read_prompt(users_own).render(values)
    shell_dir = None if config.given_working_dir else profile.shell_working_dir
    return _built_in(values, profile, shell_dir)


def read_prompt(path: Path) -> PromptFile:
    """Read a prompt file; `ConfigError` if it is not one, `FileNotFoundError` if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"Prompt file not found: {path}")
    text = read_text(path)
    head, body = _split(text)
    if not body.strip():
        raise ConfigError(f"{path}: the prompt is empty")
    document = _read_head(head, str(path))
    return PromptFile(
        body=body,
        source=str(path),
        first_line=1 + text.count("\n") - body.count("\n"),
        description=document.get("description") or "",
        initial_prompt=document.get("initial_prompt"),
        defaults={
            name: _default(value, f"{path}: variables.{name}")
            for name, value in (document.get("variables") or {}).items()
        },
    )


def _split(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    if lines[0].rstrip() == _FENCE:
        for number, line in enumerate(lines[1:], 1):
            if line.rstrip() == _FENCE:
                return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    return "", text


def _read_head(head: str, source: str) -> Mapping[str, Any]:
    document = read_yaml(head, source=source, texts=_TEXTS, first_line=2)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: what stands between the --- lines has to be a mapping")
    kinds = {"description": str, "initial_prompt": str, "variables": dict}
    for name, kind in kinds.items():
        value = data.get(name)
        if value is not None and not isinstance(value, kind):
            wanted = "a mapping" if kind is dict else "text"
            place = f"{source}, line {document.lines[name]}: {name}"
            raise ConfigError(f"{place} has to be {wanted}, not {type(value).__name__}")
    return data


def _default(value: Any, place: str) -> str | None:
    """The default of a variable in its short form or its long one; None if it has none."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: give a text, or a mapping with required and default")
    required, default = value.get("required"), value.get("default")
    if not isinstance(required, bool | None):
        raise ConfigError(f"{place}.required: give true or false")
    if not isinstance(default, str | None):
        raise ConfigError(f"{place}.default: give a text")
    return "" if default is None and required is False else default


def automatic_values(config: AgentConfig, profile: PermissionProfile) -> dict[str, str]:
    """What every prompt file is given, unless `AgentConfig.vars` say otherwise."""
    backend = config.backend
    if isinstance(backend, str):
        from paddock.backends.base import get_backend

        name, kind = backend, get_backend(backend)
        place = kind.default_working_dir
    else:
        name, kind = backend.name, type(backend)
        place = backend.known_working_dir
    here = kind.default_working_dir is None  # directories of this machine
    return {
        "platform": platform.system() if here else "Linux",
        "home_dir": "~",
        "working_dir": config.working_dir or place or ".",
        "profile_name": profile.name,
        "shell_mode": profile.shell.value,
        "file_write_mode": profile.file_write.value,
        "database_mode": profile.database.value,
        "sandbox_info": f"a {name} sandbox",
    }


def _built_in(values: Mapping[str, str], profile: PermissionProfile, shell_dir: str | None) -> str:
    place = values["working_dir"]
    if shell_dir is not None:
        place += f"; commands start in {shell_dir} if the sandbox has it"
    return (
        "You are an agent that works with tools in a sandbox.\n\n"
        f"System: {values['platform']}, {values['sandbox_info']}\n"
        f"Working directory: {place}\n"
        f"Profile: {values['profile_name']} (shell {values['shell_mode']}, "
        f"writing files {values['file_write_mode']})\n\n"
        "Look before you change something. Use the tools to find facts instead of guessing "
        "them, and run independent calls together. Change only what the task asks for, check "
        "that the change does what it should, and say plainly what you did and what you could "
        "not do. When a call was refused, do not try to get around it."
    )
