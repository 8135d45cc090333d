"""Which files of projects the user trusts: asked once, remembered by digest.

The answers are in the user's state directory, in a file of theirs alone. A file that changed,
or was moved, is asked about again. Files in the user's own configuration directory need none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from paddock._directory import PrivateDirectory
from paddock._places import config_directory, state_directory
from paddock.backends.isolation.levels import requested
from paddock.cli.conversation import forget_what_was_typed
from paddock.cli.text import one_line
from paddock.errors import ConfigError
from paddock.runtime.agents.trust import Wish
from paddock.runtime.conversation.directory import CONFIG

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from paddock.backends.base import Backend
    from paddock.project import Project
    from paddock.runtime.agents.config import AgentConfig

__all__ = ["TrustStore", "require_trust", "require_trusted_setup", "trust_file"]

FILE_NAME = "trusted.json"
MAX_BYTES = 16 << 20
"""Bytes of the file of answers: more than a hundred thousand of them."""

UNFENCED = "commands that run as you, without isolation"

_LENGTH = 200
"""Characters of a wish that are shown on its line."""


class TrustStore:
    """The files that were trusted, and their digests."""

    def __init__(self) -> None:
        path = state_directory()
        self._files = PrivateDirectory(path) if path is not None else None

    def known(self) -> dict[str, str]:
        """The digests by path. Empty where nothing readable is kept."""
        if self._files is None:
            return {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads(self._files.read(FILE_NAME, MAX_BYTES))
            if isinstance(found, dict):
                return {str(path): str(digest) for path, digest in found.items()}
        return {}

    def trusts(self, path: Path, digest: str) -> bool:
        return self.known().get(str(path.resolve())) == digest

    def remember(self, path: Path, digest: str) -> None:
        """Trust `path` as long as it has `digest`. Raises `ConfigError` where nothing is kept."""
        self._write({**self.known(), str(path.resolve()): digest})

    def forget(self, path: Path) -> bool:
        """Trust `path` no more; False if it was not trusted."""
        known = self.known()
        found = known.pop(str(path.resolve()), None) is not None
        if found:
            self._write(known)
        return found

    def _write(self, known: dict[str, str]) -> None:
        try:
            if self._files is None:
                raise OSError(errno.ENOENT, "there is no home directory")
            self._files.make()
            self._files.replace(FILE_NAME, json.dumps(known, indent=2).encode() + b"\n")
        except OSError as error:
            raise ConfigError(
                f"what is trusted cannot be kept: {error}; set XDG_STATE_HOME to a directory of "
                "yours, or give --trust each time"
            ) from error


def require_trust(
    path: Path,
    data: bytes,
    config: AgentConfig,
    *,
    overridden: Collection[str] = (),
    isolation: str | None = None,
    trust: bool = False,
) -> None:
    """Return if the user trusts the file `path`, from whose contents `data` `config` was read.

    What the options of the command have `overridden` is not asked for; `isolation` is theirs.
    `trust` is the user's word for this time. Asks at a terminal; without one, raises
    `ConfigError` that says how to trust the file.
    """
    if trust or is_own(path):
        return
    found = [
        wish
        for wish in (*config.file_wishes(path, data), *_unfenced_setup(config, isolation))
        if wish.key not in overridden
    ]
    if found:
        confirm(path, config.file_digest(path, data), found)


def require_trusted_setup(project: Project | None, recipe: Backend, *, trust: bool) -> None:
    """Return if `recipe` runs no command of `project` on this machine without isolation, or
    the user trusts the project's file. Raises as `require_trust`."""
    if project is None or trust or not project.setup or not runs_unfenced(recipe):
        return
    setup = [command for command in recipe.setup if command in project.setup]
    if setup and not is_own(project.path):
        wish = Wish(key="sandbox.setup", value="; ".join(setup), meaning=UNFENCED)
        confirm(project.path, _file_digest(project.path), [wish])


def runs_unfenced(recipe: Backend) -> bool:
    """Whether its commands run as the user, with nothing between them and this machine."""
    fields = {each.name for each in dataclasses.fields(recipe)}
    return "isolation" in fields and requested(getattr(recipe, "isolation", None)) == "none"


def trust_file(path: Path, store: TrustStore) -> list[Wish]:
    """Trust the file `path`, or that of the session in the directory `path`, as it is now.

    Returns what it asks for.
    """
    if path.is_dir():
        path = path / CONFIG
    if path.suffix == ".toml":
        store.remember(path, _file_digest(path))
        return []
    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.agents.config_file import read_file

    data = read_file(path)
    config = AgentConfig.from_yaml(data, source=str(path))
    store.remember(path, config.file_digest(path, data))
    return config.file_wishes(path, data)


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def confirm(path: Path, digest: str, found: Sequence[Wish]) -> None:
    """Return if `path` with this `digest` is trusted, or the user says so now."""
    store = TrustStore()
    if store.trusts(path, digest):
        return
    if not _ask(path, found):
        raise ConfigError(
            f"{path} is not trusted; it asks for\n{_listed(found)}\nread it, and if you trust it "
            f"run `paddock trust {shlex.quote(str(path))}`, or give --trust for this time"
        )
    try:
        store.remember(path, digest)
    except ConfigError as error:
        typer.echo(f"paddock: {error}", err=True)


def is_own(path: Path) -> bool:
    """Whether `path` lies in the user's own configuration directory."""
    own = config_directory()
    return own.is_absolute() and path.expanduser().resolve().is_relative_to(own.resolve())


def _unfenced_setup(config: AgentConfig, isolation: str | None) -> Iterator[Wish]:
    recipe = config.backend
    if isinstance(recipe, str):
        unfenced = recipe == "local" and requested(None) == "none"
        setup: Sequence[str] = ()
    else:
        unfenced, setup = runs_unfenced(recipe), recipe.setup
    if not (isolation == "none" or (isolation is None and unfenced)):
        return
    if setup:
        yield Wish(key="backend.setup", value="; ".join(setup), meaning=UNFENCED)
    for server in config.servers:
        if server.command is not None and server.where == "sandbox":
            command = shlex.join(server.command)
            yield Wish(key=f"{server.place}.command", value=command, meaning=UNFENCED)


def _ask(path: Path, found: Sequence[Wish]) -> bool:
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    forget_what_was_typed()
    print(f"{one_line(str(path), _LENGTH)} asks for\n{_listed(found)}", file=sys.stderr)
    print("Trust this file? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _listed(found: Sequence[Wish]) -> str:
    return "\n".join(f"  {one_line(str(wish), _LENGTH)}" for wish in found)
