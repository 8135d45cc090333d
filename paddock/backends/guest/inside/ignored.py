"""Which entries of a tree are ignored, by patterns as in a .gitignore file; used on both ends.

Paths are relative to the tree's root. No pattern makes matching slow, so those of a sandbox
may be matched outside.
"""

from __future__ import annotations

import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["GITIGNORE", "GITIGNORE_MAX", "IgnoreRules"]

GITIGNORE = ".gitignore"
GITIGNORE_MAX = 256 * 1024
"""Bytes of one .gitignore file: the longest that people write have a few thousand."""
MAX_PATTERNS = 10_000
"""Patterns that may apply in one directory: each entry is matched against all of them."""
SPECIAL = frozenset("*?[\\")


class Pattern:
    """One pattern; `matches` takes the path from its .gitignore file on if `anchored`, else a
    name."""

    __slots__ = ("anchored", "folders_only", "matches", "negative")

    def __init__(self, text: str) -> None:
        self.negative = text.startswith("!")
        text = text[1:] if self.negative else text
        self.folders_only = text.endswith("/")
        text = text[:-1] if self.folders_only else text
        self.anchored = "/" in text
        self.matches: Callable[[str], object] = matcher(text[1:] if text[:1] == "/" else text)


def matcher(text: str) -> Callable[[str], object]:
    if not SPECIAL & set(text):
        return text.__eq__
    import re  # most trees are packed without such patterns

    from .globs import path_regex, set_end, unescaped

    if any(char == "[" and not set_end(text, at + 1) for at, char in unescaped(text)):
        return never
    serial = itertools.count()
    return re.compile(path_regex(text.split("/"), serial)).fullmatch


def never(name: str) -> bool:
    """For a pattern with a set that is not closed, which git lets match nothing."""
    return False


def parse(lines: Iterable[str]) -> list[Pattern]:
    """The patterns of some lines, the last one first, since that decides."""
    texts = [trimmed(line) for line in lines]
    return [Pattern(text) for text in reversed(texts) if text.strip("!/")]


def trimmed(line: str) -> str:
    """`line` without the spaces at its end, except one after a backslash."""
    text = line.rstrip(" ")
    escaped = (len(text) - len(text.rstrip("\\"))) % 2
    return text + " " if escaped and text != line else text


class IgnoreRules:
    """Patterns, and those of the .gitignore files that were added.

    The patterns take precedence over the files, and a file over those of directories above
    it. Of one list the last pattern that matches decides. What is in an ignored directory is
    ignored.
    """

    def __init__(self, patterns: Iterable[str] = (), *, gitignore: bool = False) -> None:
        self.gitignore = gitignore
        """Whether a walk has to add the .gitignore files that it finds."""
        self._own = parse(patterns)
        self._files: dict[str, Sequence[tuple[str, list[Pattern]]] | None] = {"": ()}
        """By directory the files that apply to what is in it, the nearest first; None for an
        ignored directory."""

    def add(self, folder: str, contents: bytes) -> None:
        """Add the .gitignore file of `folder`, before anything in that is asked for.

        Raise `ValueError` for too many patterns, or more than `GITIGNORE_MAX` bytes.
        """
        if len(contents) > GITIGNORE_MAX:
            raise ValueError(f"{folder}/{GITIGNORE} has more than {GITIGNORE_MAX} bytes")
        above = self._applying(folder)
        if above is None:
            return
        lines = contents.decode("utf-8", "surrogateescape").split("\n")
        found = parse(
            line[:-1] if line.endswith("\r") else line for line in lines if not line.startswith("#")
        )
        if not found:
            return
        if len(found) + sum(len(patterns) for _, patterns in above) > MAX_PATTERNS:
            raise ValueError(f"more than {MAX_PATTERNS} patterns in .gitignore files: {folder!r}")
        self._files[folder] = ((folder, found), *above)

    def ignores(self, path: str, is_folder: bool) -> bool:
        """Return whether `path`, or a directory that it is in, is ignored."""
        folder, _, name = path.rpartition("/")
        files = self._applying(folder)
        return files is None or self._matches(files, path, name, is_folder)

    def _applying(self, folder: str) -> Sequence[tuple[str, list[Pattern]]] | None:
        unknown = []
        while folder not in self._files:
            unknown.append(folder)
            folder = folder.rpartition("/")[0]
        files = self._files[folder]
        for below in reversed(unknown):
            if files is not None and self._matches(files, below, below.rpartition("/")[2], True):
                files = None
            self._files[below] = files
        return files

    def _matches(
        self,
        files: Sequence[tuple[str, list[Pattern]]],
        path: str,
        name: str,
        is_folder: bool,
    ) -> bool:
        for folder, patterns in itertools.chain((("", self._own),), files):
            below = path[len(folder) + 1 :] if folder else path
            for pattern in patterns:
                if pattern.folders_only and not is_folder:
                    continue
                if pattern.matches(below if pattern.anchored else name):
                    return not pattern.negative
        return False
