"""Glob patterns over relative paths.

``*`` and ``?`` stay within a name, ``**`` as a name of its own spans directories,
``[...]`` and ``[!...]`` are sets, ``{a,b}`` are alternatives, a backslash takes the
next character as it is. A pattern without a slash matches names at any depth.
"""

from __future__ import annotations

import itertools
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ALTERNATIVES = 256
STAR = ""
"""Among the tokens of a name: any run of characters. The others are for one character."""
SPECIAL = frozenset("*?[]{}\\! ")


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression for `fullmatch`, which no pattern makes slow."""
    serial = itertools.count()
    parts = [path_regex(names(text), serial) for text in alternatives(pattern)]
    return re.compile("|".join(parts))


def widened(pattern: str) -> list[str]:
    """Simpler patterns that match all that `pattern` does and maybe more, for ripgrep, whose
    own idea of a set or of one character differs in bytes."""
    found = []
    for text in alternatives(pattern):
        wide = ["**" if name == "**" else wide_name(name) for name in names(text)]
        found.append("/" + "/".join(wide))
    return found


def names(pattern: str) -> list[str]:
    """The names of a path's pattern; one without a slash is looked for everywhere."""
    pattern = pattern[2:] if pattern.startswith("./") else pattern
    return pattern.lstrip("/").split("/") if "/" in pattern else ["**", pattern]


def alternatives(pattern: str) -> list[str]:
    """The patterns that the braces of one stand for."""
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        text = waiting.pop()
        found = first_braces(text)
        if found is None:
            done.append(text)
        else:
            start, commas, end = found
            borders = [start, *commas, end]
            for left, right in zip(borders, borders[1:]):
                waiting.append(text[:start] + text[left + 1 : right] + text[end + 1 :])
        if len(done) + len(waiting) > MAX_ALTERNATIVES:
            raise ValueError(f"bad glob pattern: more than {MAX_ALTERNATIVES} alternatives")
    return done


def first_braces(text: str) -> tuple[int, list[int], int] | None:
    """Where the first braces that are closed begin, have commas, and end."""
    opened: list[tuple[int, list[int]]] = []
    closed: list[tuple[int, list[int], int]] = []
    for at, char in unescaped(text):
        if char == "{":
            opened.append((at, []))
        elif char == "," and opened:
            opened[-1][1].append(at)
        elif char == "}" and opened:
            closed.append((*opened.pop(), at))
    return min(closed, default=None)


def unescaped(text: str) -> Iterator[tuple[int, str]]:
    at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        else:
            yield at, text[at]
        at += 1


def tokens(name: str) -> Iterator[tuple[str, str]]:
    """A name's pattern as (regular expression for one character or `STAR`, the character if it
    is a certain one)."""
    at = 0
    while at < len(name):
        char = name[at]
        at += 1
        if char == "*":
            yield STAR, ""
        elif char == "?":
            yield "[^/]", ""
        elif char == "[" and (end := set_end(name, at)):
            yield set_regex(name[at:end]), ""
            at = end + 1
        else:
            if char == "\\" and at < len(name):
                char = name[at]
                at += 1
            yield re.escape(char), char


def set_end(name: str, at: int) -> int:
    """Where the set ends whose ``[`` is before `at`; 0 if it does not."""
    first = at + 1 if name[at : at + 1] in ("!", "^") else at
    return max(name.find("]", first + 1), 0)


def set_regex(inner: str) -> str:
    negated = inner[0] in "!^"
    inner = inner[1:] if negated else inner
    try:
        members = re.sub("(?s)(.)-(.)|.", escaped_member, inner)
        re.compile(f"[{members}]")
    except re.error:  # a range that runs backwards matches nothing
        members, negated = "", False
    if not members:
        return "(?!)"
    return f"(?!/)[{'^' if negated else ''}{members}]"


def escaped_member(found: re.Match[str]) -> str:
    first, last = found.groups()
    return f"{re.escape(first)}-{re.escape(last)}" if first else re.escape(found[0])


def wide_name(name: str) -> str:
    wide = ""
    for _, char in tokens(name):
        if not char or "\ud800" <= char <= "\udfff":  # it takes no names that are not UTF-8
            wide += "" if wide.endswith("*") else "*"
        else:
            wide += "\\" + char if char in SPECIAL else char
    return wide


# ------------------------------------------------------------------ regular expressions


def first_fit(regex: str, serial: Iterator[int]) -> str:
    """`regex`, and once it has matched, no other way of matching it: an atomic group for
    Pythons that have none. What a star skips need never be more than up to the first fit
    of what follows it, as long as another star comes."""
    group = f"g{next(serial)}"
    return f"(?=(?P<{group}>{regex}))(?P={group})"


def name_regex(name: str, serial: Iterator[int]) -> str:
    runs = [""]
    for regex, _ in tokens(name):
        if regex != STAR:
            runs[-1] += regex
        elif len(runs) == 1 or runs[-1]:
            runs.append("")
    if len(runs) == 1:
        return runs[0]
    middle = "".join(first_fit("[^/]*?" + run, serial) for run in runs[1:-1])
    return runs[0] + middle + "[^/]*" + runs[-1]


def path_regex(pattern: list[str], serial: Iterator[int]) -> str:
    runs: list[list[str]] = [[]]
    for name in pattern:
        if name != "**":
            runs[-1].append(name_regex(name, serial))
        elif len(runs) == 1 or runs[-1]:
            runs.append([])
    if pattern[-1] == "**":
        runs[-1].append("[^/]+")  # something is below
    last = "/".join(runs[-1])
    if len(runs) == 1:
        return last
    first, *middle = ["".join(name + "/" for name in run) for run in runs[:-1]]
    fitted = "".join(first_fit("(?:[^/]+/)*?" + run, serial) for run in middle)
    return f"{first}{fitted}(?:[^/]+/)*{last}"
