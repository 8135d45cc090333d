"""What a ``.dockerignore`` keeps out of a context, by the rules of BuildKit as of Docker 23.

Each name is checked by itself, also below a directory that is ignored. Older builders do not look
there for what an exception with a wildcard (``!**/*.go``) brings back.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["IgnoreRules", "read_patterns"]

ONE = r"(?:\\.|[^\\\]-])"
TOKEN = re.compile(
    r"(?P<deep>\*\*/?)|(?P<any>\*)|(?P<one>\?)|\\(?P<escaped>.)"
    rf"|\[(?P<no>\^?+)(?P<set>(?:{ONE}(?:-{ONE})?)+)\]|(?P<plain>[^*?\[\\])",
    re.DOTALL,
)
IN_SET = re.compile(r"\\(.)|[^-]", re.DOTALL)
SPECIAL = re.compile(r"[*?\[\]\\]")


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    negative: bool
    regex: re.Pattern[str]


class IgnoreRules:
    """Patterns, of which the last that matches a name decides. Raises `ConfigError`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [_parsed(text) for text in patterns]

    def walk(self, root: Path) -> Iterator[str]:
        """Yield the names below `root` that are not ignored, and the directories that these are in.

        Raises OSError.
        """
        return self._walk(root, "", [False] * len(self._patterns), [])

    def _walk(
        self, folder: Path, prefix: str, above: list[bool], entered: list[str]
    ) -> Iterator[str]:
        """`above` says which patterns match the folder: they match all that is in it. `entered`
        are the ignored directories around it that have not been yielded."""
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = prefix + entry.name
            matches, ignored = self._matches(name, above)
            if not ignored:
                yield from entered
                entered.clear()
                yield name
            below = f"{name}/"
            if entry.is_dir(follow_symlinks=False) and not (ignored and self._ends_at(below)):
                if ignored:
                    entered.append(name)
                yield from self._walk(folder / entry.name, below, matches, entered)
                if entered and entered[-1] == name:
                    entered.pop()

    def _matches(self, name: str, above: list[bool]) -> tuple[list[bool], bool]:
        """Which patterns match, and whether the name is ignored."""
        matches, ignored = [], False
        for pattern, inherited in zip(self._patterns, above, strict=True):
            match = inherited or (
                pattern.negative == ignored and pattern.regex.fullmatch(name) is not None
            )
            matches.append(match)
            if match:
                ignored = not pattern.negative
        return matches, ignored

    def _ends_at(self, folder: str) -> bool:
        """Return whether no exception can match what is in an ignored folder."""
        return not any(
            pattern.negative
            and (SPECIAL.search(pattern.text) or f"{pattern.text}/".startswith(folder))
            for pattern in self._patterns
        )


def read_patterns(text: str) -> list[str]:
    """Those of a file's lines that are no comments, which begin with ``#`` and no space."""
    lines = text.removeprefix("\ufeff").split("\n")
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _parsed(line: str) -> _Pattern:
    text = line.strip()
    negative = text.startswith("!")
    text = text.removeprefix("!").strip()
    try:
        if not text:
            raise ValueError("it is empty")
        text = posixpath.normpath(text).lstrip("/")
        return _Pattern(text, negative, re.compile(_translated(text), re.DOTALL))
    except (ValueError, re.error) as error:
        raise ConfigError(f"{line!r} is no pattern of files to ignore: {error}") from None


def _translated(text: str) -> str:
    if text.startswith("**") and text[2:3] != "/" and not SPECIAL.search(text, 2):
        return ".*" + re.escape(text[2:])
    regex, at = "", 0
    while at < len(text):
        token = TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"{text[at:]!r} is not complete")
        at = token.end()
        match token.lastgroup:
            case "deep":
                regex += "(?:.*/)?" if at < len(text) else ".*"
            case "any":
                regex += "[^/]*"
            case "one":
                regex += "[^/]"
            case "set":
                regex += f"[{token['no']}{IN_SET.sub(_literal, token['set'])}]"
            case _:
                regex += re.escape(token["escaped"] or token["plain"])
    return regex


def _literal(match: re.Match[str]) -> str:
    return re.escape(match[1] or match[0])
