"""What an agent's file asks for that a file which came with a project may not decide.

A project's file describes an agent and its sandbox. It must not send keys elsewhere, read the
user's environment or files, or weaken the fence. What is listed here as free is free;
everything else, future keys included, needs the user's trust. Decides nothing by itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.image import Image
from paddock.runtime.models import SCRIPTED
from paddock.runtime.tools.mcp.config import parse_mcp_servers

if TYPE_CHECKING:
    from paddock.backends.base import Backend

__all__ = ["Wish", "digest", "wishes"]

_FREE = frozenset(
    {"vars", "provider", "wire", "service_tier", "reasoning_effort", "context_window",
     "response_format", "temperature", "top_p", "max_tokens", "seed", "stop", "tool_choice",
     "parallel_tool_calls", "timeout", "idle_timeout"}
)  # fmt: skip
"""Keys of an agent's file that any file may set."""

_FREE_PROFILES = frozenset({"readonly", "developer", "developer-bash-only"})
"""Profiles that ask before dangerous calls and protect what others run later."""

_FREE_BACKENDS = frozenset({"local", "docker", "daytona"})

_FREE_FIELDS = frozenset(
    {"type", "setup", "setup_timeout", "env_vars", "labels", "resources", "user", "uv_version",
     "snapshot", "auto_stop_interval", "ephemeral", "lease", "create_timeout",
     "upload_ignore", "upload_gitignore", "upload_links"}
)  # fmt: skip
"""Keys of a recipe that stay within the sandbox."""

_FREE_VALUES: Mapping[str, tuple[Any, ...]] = {
    "hardening": ("default", "strict"),
}

_KNOWN_KEYS: Mapping[str, str] = {
    "base_url": "where your API key and the conversation are sent",
    "secrets": "variables of your environment that commands get",
    "databases": "databases of yours that the agent reaches",
    "working_dir": "a directory of this machine that the agent works in",
    "prices": "what answers are counted as costing, so when a budget is used up",
    "extra_body": "what your model's service is sent beside the conversation",
    "extra_headers": "what your model's service is sent beside the conversation",
    "auto_approve": "approves dangerous calls without asking you",
    "profile": "an own profile, which may allow everything without asking",
    "system_prompt": "a file outside of the project that the model reads",
    "model": "a file outside of the project that is read as a script",
    "backend": "a backend that is not one of Paddock's own",
}
_KNOWN_FIELDS: Mapping[str, str] = {
    "isolation": "how commands are kept away from this machine",
    "network": "more network than the default",
    "hardening": "less hardening of the container",
    "host": "the Docker Engine that is used",
    "runtime": "the container runtime",
    "config": "the Daytona account and its address",
    "volumes": "volumes of your account or engine, which other sandboxes may use",
    "engine_options": "options of the Docker Engine that Paddock does not know",
    "extra_hosts": "where names lead in the sandbox",
    "gpus": "graphics processors of the engine's machine",
    "uploads": "files outside of the project that go into the sandbox",
    "image": "files outside of the project that go into an image",
    "working_dir": "a directory of this machine that the agent works in",
    "type": "a backend that is not one of Paddock's own",
}


_ELSEWHERE = "a server that this machine connects to, and that is sent what the agent says"
_ON_THE_HOST = "a program that runs as you, outside of the sandbox"
_VARIABLES = "variables of your environment that a server gets"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A key of a file that needs trust, with its value as text, and what it decides."""

    key: str
    value: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.key}: {self.value}  ({self.meaning})"


def wishes(
    document: Mapping[str, Any], backend: Backend | str, *, folder: Path, known: frozenset[str]
) -> list[Wish]:
    """What a file in `folder` asks for beyond what any file may. `document` is its contents,
    `backend` its recipe as it was read; keys that are not `known` mean nothing to Paddock."""
    found: list[Wish] = []
    for key, value in document.items():
        if key == "backend" and isinstance(value, Mapping):
            found += _of_recipe(value, backend, folder)
        elif key == "mcp_servers":
            found += _of_servers(value)
        elif key in known and value not in (None, [], {}) and not _is_free(key, value, folder):
            found.append(_wish(key, value, _KNOWN_KEYS))
    return found


def digest(path: Path, data: bytes, document: Mapping[str, Any], backend: Backend | str) -> str:
    """A digest of the file `path`, its contents `data`, and the files that it names."""
    named = {str(path): hashlib.sha256(data).hexdigest()}
    for other in _included(document, backend):
        if other.is_file():
            named[str(other)] = hashlib.sha256(other.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def _is_free(key: str, value: Any, folder: Path) -> bool:
    match key:
        case "model":
            path = str(value).removeprefix(SCRIPTED)
            return path == value or _is_within(path, folder)
        case "system_prompt":
            text = str(value)
            return not _is_prompt_file(text) or _is_within(text, folder)
        case "profile":
            # A file of this name, which may be the project's, goes before a packaged profile.
            named = isinstance(value, str) and value in _FREE_PROFILES
            return named and not os.path.isfile(value)
        case "backend":
            return value in _FREE_BACKENDS
        case "auto_approve":
            return value is False
        case _:
            return key in _FREE


def _of_recipe(document: Mapping[str, Any], backend: Backend | str, folder: Path) -> Iterator[Wish]:
    for key, value in document.items():
        if not _is_free_field(key, value, backend, folder):
            yield _wish(f"backend.{key}", value, _KNOWN_FIELDS)


def _is_free_field(key: str, value: Any, backend: Backend | str, folder: Path) -> bool:
    if key == "type":
        return value in _FREE_BACKENDS
    if key in _FREE_FIELDS or value is None:
        return True
    if isinstance(backend, str):
        return False
    match key:
        case "working_dir":
            return backend.default_working_dir is not None
        case "isolation":  # auto may be less than what the user's environment asks for
            asked = os.environ.get("PADDOCK_ISOLATION")
            return value == "bubblewrap" or (value == "auto" and asked != "bubblewrap")
        case "network":  # containers have a full network unless the recipe says less
            return backend.default_working_dir is not None or value in ("auto", "none")
        case "uploads":
            return all(_is_within(here, folder) for here, _ in backend.uploads)
        case "image":
            return all(_is_within(path, folder) for path in _image_paths(backend))
        case _:
            return value in _FREE_VALUES.get(key, ())


def _of_servers(document: Any) -> Iterator[Wish]:
    for server in parse_mcp_servers(document):
        place = f"mcp_servers.{server.name}"
        if server.url is not None:
            yield Wish(key=f"{place}.url", value=server.url, meaning=_ELSEWHERE)
        if server.where == "host":
            command = shlex.join(server.command or ())
            yield Wish(key=f"{place}.command", value=command, meaning=_ON_THE_HOST)
        if names := server.references:
            yield Wish(key=place, value=", ".join(names), meaning=_VARIABLES)


def _image_paths(backend: Backend | str) -> list[Path]:
    """The files of this machine that an image is made of."""
    image = getattr(backend, "image", None)
    if not isinstance(image, Image):
        return []
    return [
        value
        for step in image.steps
        for each in dataclasses.fields(step)
        if isinstance(value := getattr(step, each.name), Path)
    ]


def _included(document: Mapping[str, Any], backend: Backend | str) -> Iterator[Path]:
    model, prompt = document.get("model"), document.get("system_prompt")
    profile = document.get("profile")
    if isinstance(model, str) and model.startswith(SCRIPTED):
        yield Path(model.removeprefix(SCRIPTED)).expanduser()
    if isinstance(prompt, str) and _is_prompt_file(prompt):
        yield Path(prompt).expanduser()
    if isinstance(profile, str):
        yield Path(profile).expanduser()
    yield from _image_paths(backend)


def _is_prompt_file(text: str) -> bool:
    return text.endswith(".md") and "\n" not in text


def _is_within(path: str | Path, folder: Path) -> bool:
    return Path(path).expanduser().resolve().is_relative_to(folder.resolve())


def _wish(key: str, value: Any, meanings: Mapping[str, str]) -> Wish:
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    name = key.rpartition(".")[2]
    return Wish(key=key, value=shown, meaning=meanings.get(name, "not known to be harmless"))
