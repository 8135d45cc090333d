"""Names for a tar stream that a tar without much sense unpacks in linear time.

BusyBox makes all directories above each entry again, each by its whole path: a tree of two
thousand directories in each other takes it minutes. So what is deeper than `DEPTH` is unpacked
into a directory of its own beside the tree, and moved to its place afterwards. No I/O.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from paddock.backends.guest.inside.tar import FILE, Member, header, padding

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PLACES", "TOP", "ShallowNames"]

DEPTH = 16
"""Directories in each other that are unpacked by their path."""
TOP = "0"
"""The directory that stands for the tree."""
PLACES = "places"
"""A script that calls ``$step NAME UNPACKED PATH`` for each of the others, the deepest first: its
name, and where it belongs, as the directory above is unpacked and in the tree."""


class ShallowNames:
    """Names of members, of which each directory is named before what is in it."""

    def __init__(self) -> None:
        self._places = {"": TOP}
        """Where what is below a directory is unpacked, for those `DEPTH` below another."""
        self._lines: list[str] = []

    def name(self, path: str, *, is_folder: bool) -> str:
        """The name in the stream of the entry `path` of the tree."""
        parts = path.split("/")
        above = "/".join(parts[: (len(parts) - 1) // DEPTH * DEPTH])
        name = f"{self._places[above]}/{path[len(above) :].lstrip('/')}"
        if not is_folder or len(parts) % DEPTH:
            return name
        place = self._places[path] = str(len(self._places))
        self._lines.append(f"$step {place} {_quoted(name)} {_quoted(path)}\n")
        return place

    def last(self) -> Iterator[bytes]:
        """The member that has the script, if anything has to be moved."""
        if self._lines:
            text = os.fsencode("".join(reversed(self._lines)))
            yield header(Member(PLACES, FILE, mode=0o600, mtime=0, size=len(text)))
            yield text + padding(len(text))


def _quoted(word: str) -> str:
    return "'" + word.replace("'", r"'\''") + "'"
