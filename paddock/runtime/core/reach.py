"""Whether a sandbox that works in a directory of this machine could write another one.

Bind mounts count: a place is compared by its file system and its path there, not by the
name under which it was reached. Blocks for some system calls.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Protocol

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.backends.base import Backend

__all__ = ["Placed", "require_out_of_reach"]

_MOUNTS = "/proc/self/mountinfo"
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Placed(Protocol):
    """What says where an agent's sandboxes work, such as an `AgentConfig`."""

    @property
    def backend(self) -> str | Backend: ...

    @property
    def given_working_dir(self) -> str | None: ...


class _Mount(NamedTuple):
    point: PurePosixPath
    device: str
    root: PurePosixPath


class _Place(NamedTuple):
    """A path within a file system."""

    device: str
    path: PurePosixPath

    def meets(self, other: _Place) -> bool:
        """Whether one of both is the other one, or below it."""
        return self.device == other.device and (
            self.path.is_relative_to(other.path) or other.path.is_relative_to(self.path)
        )


ANOTHER_SESSION_DIRECTORY = (
    "choose a directory apart from it (session_dir, --session-dir or PADDOCK_SESSIONS_DIR), or do "
    "not save the session (--no-save)"
)


def require_out_of_reach(
    kept: Path, config: Placed, *, what: str, advice: str = ANOTHER_SESSION_DIRECTORY
) -> None:
    """Raise `ConfigError` if the sandboxes of `config` could write the file or directory `kept`.

    They do if they work in it, above it or below it, and could put links and forged files there,
    which this process would use. `what` says what it is.
    """
    given = config.given_working_dir
    if given is None or not _works_here(config):
        return
    mounts = _mounts()
    own = _place(Path(os.path.realpath(kept)), mounts)
    for place in _reached(Path(os.path.realpath(Path(given))), mounts):
        if own.meets(place):
            raise ConfigError(
                f"{what} {kept} and the working directory {given} lie within each other, so the "
                f"sandbox could write what is kept there; {advice}"
            )


def _works_here(config: Placed) -> bool:
    from paddock.backends.base import get_backend

    backend = config.backend
    if isinstance(backend, str):
        try:
            return get_backend(backend).default_working_dir is None
        except ConfigError:
            return False  # whoever makes the sandbox says what is wrong
    return backend.default_working_dir is None


def _reached(working_dir: Path, mounts: list[_Mount]) -> Iterator[_Place]:
    """What a sandbox writes there: the directory, and what is mounted below it."""
    yield _place(working_dir, mounts)
    for mount in mounts:
        if mount.point.is_relative_to(working_dir):
            yield _Place(mount.device, mount.root)


def _place(path: Path, mounts: list[_Mount]) -> _Place:
    found = _Place("", PurePosixPath(path))
    longest = -1
    for mount in mounts:  # of several at one point the last one covers the others
        if path.is_relative_to(mount.point) and len(mount.point.parts) >= longest:
            longest = len(mount.point.parts)
            found = _Place(mount.device, mount.root / path.relative_to(mount.point))
    return found


def _mounts() -> list[_Mount]:
    """What is mounted where; nothing on systems that do not say it in /proc."""
    found = []
    with contextlib.suppress(FileNotFoundError), open(_MOUNTS, encoding="utf-8") as file:
        for line in file:
            _, _, device, root, point, *_ = line.split(" ")
            found.append(_Mount(_unescaped(point), device, _unescaped(root)))
    return found


def _unescaped(path: str) -> PurePosixPath:
    """Blanks, tabs, newlines and backslashes are written in octal."""
    return PurePosixPath(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), path))
