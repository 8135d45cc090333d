"""Copies of files of /etc: read once while they do not change, written for each sandbox.

Runs in the host and in the fork server; standard library only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Look(NamedTuple):
    """A file below /etc as it was when it was looked at."""

    name: str
    size: int
    inode: int
    modified: int


class Copies:
    """What was read of files."""

    def __init__(self) -> None:
        self._read: dict[Look, bytes] = {}

    def of(self, looks: Iterable[Look], texts: Mapping[str, str]) -> dict[str, bytes]:
        """Files by name: those, read again where one is not as it was, and the texts over them.

        What was read of others is forgotten.
        """
        self._read = {look: self._read.get(look) or _content(look) for look in looks}
        files = {look.name: text for look, text in self._read.items()}
        return {**files, **{name: text.encode() for name, text in texts.items()}}


def _content(look: Look) -> bytes:
    with open(f"/etc/{look.name}", "rb") as file:
        return file.read()


def write(
    folder: str, *, files: Mapping[str, bytes], folders: Iterable[str], links: Mapping[str, str]
) -> None:
    """Make a directory with these files and links, by name, and directories."""
    os.mkdir(folder, 0o755)
    for name in sorted(folders):
        os.makedirs(f"{folder}/{name}", 0o755, exist_ok=True)
    for name, target in links.items():
        os.symlink(target, f"{folder}/{name}")
    for name, text in files.items():
        fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(fd, text)
        finally:
            os.close(fd)
