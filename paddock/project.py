"""The project file: ``paddock.toml``, or ``[tool.paddock]`` in a pyproject.toml.

Says what the sandboxes of a project begin with. Knows how to find and to read it, and
what may be in it; not what a backend makes of it.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._frozen import FrozenMapping
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

__all__ = ["FILE_NAME", "Project", "find_project"]

FILE_NAME = "paddock.toml"
PYPROJECT = "pyproject.toml"
MAX_FILE_SIZE = 1024 * 1024
"""Bytes of a project file that are read: people write less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a project file says.

    - `path`: the file; `root`: the directory it is in, which is the project.
    - `image`, `dockerfile` or `snapshot`: what a sandbox begins with. At most one is set:
      a snapshot goes before a Dockerfile, and that before an image. `dockerfile` is a path
      of this machine, within `root`.
    - `working_dir`: an absolute path in the sandbox.
    - `setup`: shell commands; `env`: variables.
    - `upload_ignore`, `upload_gitignore`: what the upload of the project leaves out, beside
      what every upload does.
    - `uv_version`: the version of uv that a sandbox has to have.
    """

    path: Path
    image: str | None = None
    dockerfile: Path | None = None
    snapshot: str | None = None
    working_dir: str | None = None
    setup: tuple[str, ...] = ()
    upload_ignore: tuple[str, ...] = ()
    upload_gitignore: bool = False
    uv_version: str | None = None
    env: Mapping[str, str] = field(default_factory=FrozenMapping)

    @property
    def root(self) -> Path:
        return self.path.parent

    @property
    def prefix(self) -> str:
        """What stands before ``sandbox`` in the keys of this file."""
        return _prefix(self.path)


def find_project(start: Path | None = None) -> Project | None:
    """The project file that holds in `start`, by default the current directory.

    That is the nearest one on the way up, a paddock.toml before a pyproject.toml. A
    pyproject.toml without ``[tool.paddock]`` is passed by, and so is a file of another user
    in a directory that anyone can write to, such as /tmp. Raises `ConfigError` that says which file
    is wrong and where, `OSError` for one that cannot be read.
    """
    here = Path.cwd() if start is None else start.resolve()
    for folder in (here, *here.parents):
        own = folder / FILE_NAME
        if _holds(own):
            return _project(own, _load(own, _read(own)))
        shared = folder / PYPROJECT
        if _holds(shared) and (table := _tool_table(shared)) is not None:
            return _project(shared, table)
    return None


def _holds(path: Path) -> bool:
    """Whether there is a file, and not one that a stranger may have put there."""
    if not os.path.isfile(path):
        return False
    owner, folder = path.stat().st_uid, path.parent.stat()
    return owner in (0, os.getuid()) or not folder.st_mode & stat.S_IWOTH


def _tool_table(path: Path) -> dict[str, Any] | None:
    """``[tool.paddock]``, if the file has it. One that never says the name need not be valid."""
    data = _read(path)
    if b"paddock" not in data:
        return None
    tool = _load(path, data).get("tool")
    table = tool.get("paddock") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{path}: tool.paddock: give a table, not {_kind(table)}")
    return table


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_SIZE + 1)
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"{path} is larger than {MAX_FILE_SIZE} bytes")
    return data


def _load(path: Path, data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deeply") from None
    except ValueError as error:  # says the line; text that is not UTF-8 is one too
        raise ConfigError(f"{path}: {error}") from error


def _project(path: Path, table: dict[str, Any]) -> Project:
    from pydantic import ValidationError

    from paddock._project_model import Document

    try:
        sandbox = Document.model_validate(table).sandbox
    except ValidationError as error:
        told = [_sentence(path, each) for each in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(told))) from None
    snapshot, dockerfile, image = sandbox.snapshot, sandbox.dockerfile, sandbox.image
    return Project(
        path=path,
        image=None if snapshot or dockerfile else image,
        dockerfile=None if snapshot or not dockerfile else _within(path, dockerfile),
        snapshot=snapshot,
        working_dir=sandbox.working_dir,
        setup=tuple(sandbox.setup),
        upload_ignore=tuple(sandbox.upload_ignore),
        upload_gitignore=sandbox.upload_gitignore,
        uv_version=sandbox.uv_version,
        env=FrozenMapping(sandbox.env),
    )


def _within(path: Path, name: str) -> Path:
    """The Dockerfile called `name`: its folder is sent to the builder, so it is checked."""
    found = (path.parent / name).resolve()
    place = f"{path}: {_prefix(path)}sandbox.dockerfile: {name!r}"
    if not found.is_relative_to(path.parent.resolve()):
        raise ConfigError(f"{place} is outside of the project")
    if not found.is_file():
        raise ConfigError(f"{place} is no file; paths begin where the project file is")
    return found


# ------------------------------------------------------------- errors as sentences

_WANTED = {
    "string_type": "text in quotes",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a table"),
)


def _prefix(path: Path) -> str:
    return "tool.paddock." if path.name == PYPROJECT else ""


def _sentence(path: Path, error: ErrorDetails) -> str:
    """``FILE: KEY: what is wrong``, the key as it would be written in the file."""
    location = error["loc"]
    key = _prefix(path) + _dotted(location)
    if error["type"] == "extra_forbidden":
        return f"{path}: {key}: there is no such key{_suggestion(path, location)}"
    if wanted := _WANTED.get(error["type"]):
        return f"{path}: {key}: give {wanted}, not {_kind(error['input'])}"
    return f"{path}: {key}: {error['msg'].removeprefix('Value error, ')}"


def _dotted(location: tuple[int | str, ...]) -> str:
    """``sandbox.setup[1]``; items count from 1, as people do."""
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _suggestion(path: Path, location: tuple[int | str, ...]) -> str:
    """The nearest key that there is, wherever it belongs; or all that may stand there."""
    from paddock._project_model import KEYS

    wrong = str(location[-1])
    table = ".".join(str(part) for part in location[:-1])
    names = {key.rpartition(".")[2]: key for key in KEYS}
    if close := difflib.get_close_matches(wrong.lower().replace("-", "_"), names, n=1):
        return f"; did you mean {_prefix(path)}{names[close[0]]}?"
    here = [key.rpartition(".")[2] for key in KEYS if key.rpartition(".")[0] == table]
    return f"; there are: {', '.join(here)}"


def _kind(value: object) -> str:
    """What a value is called in TOML."""
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return "a date or time"
