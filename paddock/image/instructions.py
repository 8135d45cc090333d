"""Reads the text of a Dockerfile into instructions, as BuildKit does.

It knows how instructions are written, not what they do. It never raises: the builder reports
what cannot be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Instruction", "Source", "expand", "read_source"]

DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
FLAG = re.compile(r"--([A-Za-z][\w-]*)(?:=(\"[^\"]*\"|\S*))?(?:\s+|$)")
WORD = re.compile(r"""(?:[^\\\s'"]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|['"\\])+""", re.DOTALL)
HEREDOC = re.compile(r"\d*<<(?P<tabs>-?)(?P<name>[^<]+)", re.DOTALL)
QUOTES = re.compile(r"\\(.)|[\"']", re.DOTALL)
HEREDOC_KEYWORDS = frozenset({"RUN", "COPY", "ADD"})
VARIABLE = re.compile(
    r"\\(?P<escaped>.)"
    r"|\$(?:(?P<name>\w+)|\{(?P<braced>\w+)(?:(?P<operator>:?[-+?])(?P<word>[^}]*))?\})",
    re.DOTALL,
)
ONBUILD = "ONBUILD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction. `line` is where it begins, from 1; `text` is what follows its flags.

    Continued lines are joined in `text`. `heredocs` are the names of its here-documents, whose
    lines are in no instruction. What an ONBUILD holds is an instruction with `onbuild`.
    """

    line: int
    keyword: str
    text: str
    flags: tuple[tuple[str, str], ...] = ()
    heredocs: tuple[str, ...] = ()
    onbuild: bool = False

    @property
    def words(self) -> list[str]:
        """The words of `text`, in quotes where they are."""
        return WORD.findall(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The instructions of a Dockerfile, and what its ``# syntax=`` says in line `syntax_line`."""

    instructions: tuple[Instruction, ...]
    syntax: str | None = None
    syntax_line: int = 0


def read_source(text: str) -> Source:
    lines = re.split(r"\r?\n", text.removeprefix("\ufeff"))
    directives = {name: (value, number) for name, value, number in _directives(lines)}
    escape, _ = directives.get("escape", ("\\", 0))
    syntax, line = directives.get("syntax", (None, 0))
    found = tuple(_instructions(lines, escape))
    return Source(instructions=found, syntax=syntax, syntax_line=line)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Return `text` without quotes and with variables replaced; unknown ones are empty."""

    def value_of(match: re.Match[str]) -> str:
        if match["escaped"] is not None:
            return match["escaped"]
        name, operator, word = match["name"] or match["braced"], match["operator"], match["word"]
        value = values.get(name)
        if operator is None:
            return value or ""
        unset = not value if operator.startswith(":") else value is None
        if operator.endswith("+"):
            return "" if unset else expand(word, values)
        return expand(word, values) if unset and operator.endswith("-") else value or ""

    return VARIABLE.sub(value_of, text.replace('"', "").replace("'", ""))


def _directives(lines: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yield name, value and line of the directives at the top, which any other line ends."""
    for number, line in enumerate(lines, 1):
        match = DIRECTIVE.fullmatch(line.strip())
        if match is None:
            return
        yield match[1].lower(), match[2], number


def _instructions(lines: list[str], escape: str) -> Iterator[Instruction]:
    at = 0
    while at < len(lines):
        start = at + 1
        text, at = _joined(lines, at, escape)
        if not text:
            continue
        keyword, onbuild, text = _keyword(text)
        flags, text = _flags(text)
        heredocs, at = _heredocs(lines, at, text) if keyword in HEREDOC_KEYWORDS else ((), at)
        yield Instruction(
            line=start,
            keyword=keyword,
            text=text,
            flags=flags,
            heredocs=heredocs,
            onbuild=onbuild,
        )


def _joined(lines: list[str], at: int, escape: str) -> tuple[str, int]:
    """Return the logical line that begins at `at`, and the index of what follows.

    Comments and empty lines within it are left out.
    """
    pieces: list[str] = []
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.lstrip().startswith("#") or (pieces and not line.strip()):
            if not pieces:
                break
            continue
        before = line.rstrip(" \t")
        if not before.endswith(escape):
            pieces.append(line)
            break
        pieces.append(before.removesuffix(escape))
    return "".join(pieces).strip(), at


def _keyword(text: str) -> tuple[str, bool, str]:
    """Return the keyword, whether an ONBUILD holds it, and the rest."""
    keyword, rest = _split(text)
    if keyword != ONBUILD:
        return keyword, False, rest
    inner, rest = _split(rest)
    return inner, True, rest


def _split(text: str) -> tuple[str, str]:
    keyword, *rest = text.split(maxsplit=1) or [""]
    return keyword.upper(), "".join(rest)


def _flags(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags = []
    while match := FLAG.match(text):
        flags.append((match[1], (match[2] or "").strip('"')))
        text = text[match.end() :]
    return tuple(flags), text


def _heredocs(lines: list[str], at: int, text: str) -> tuple[tuple[str, ...], int]:
    """Return the here-documents of an instruction, and the index of what follows them.

    One that never ends is not a heredoc: the shell reads it from the same line.
    """
    found = []
    for word in WORD.findall(text):
        match = HEREDOC.fullmatch(word)
        if match is None:
            continue
        name, tabs = QUOTES.sub(r"\1", match["name"]), "\t" if match["tabs"] else ""
        ends = (n for n in range(at, len(lines)) if name and lines[n].lstrip(tabs) == name)
        if (end := next(ends, None)) is not None:
            found.append(name)
            at = end + 1
    return tuple(found), at
