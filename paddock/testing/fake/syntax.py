"""The small part of the shell's grammar that `FakeBackend` knows. Runs nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["BadSyntax", "Part", "Pipeline", "Redirect", "Simple", "Word", "parse"]

TOKEN = re.compile(
    r"(?P<space>[ \t]+|\\\n)|(?P<comment>#[^\n]*)"
    r"|(?P<redirect>[012]?(?:>>|>&|<&|>|<))|(?P<operator>&&|\|\||[;&|\n])"
    r"|(?P<odd>[()`]|\$\()"
)
PART = re.compile(
    r"'(?P<single>[^']*)'|\\(?P<escaped>.)|\$(?P<name>\w+|[?$!@])|\$\{(?P<braced>\w+)\}"
    r"|(?P<plain>[^\s'\"\\$;&|<>()`]+|\$)",
    re.DOTALL,
)
QUOTED = re.compile(
    r"\\(?P<escaped>[\"\\$`\n])|\$(?P<name>\w+|[?$!@])|\$\{(?P<braced>\w+)\}|(?P<plain>[^\"\\$`]+|[\\$])",
    re.DOTALL,
)
KEYWORDS = frozenset(
    [
        *(
            "if",
            "then",
            "else",
            "elif",
            "fi",
            "for",
            "while",
            "until",
            "do",
            "done",
            "case",
            "esac",
        ),
        *("{", "}", "!", "function"),
    ]
)


class BadSyntax(ValueError):
    """What is no line for this shell, or more than it knows."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word: text, or with `variable` the name of one."""

    text: str
    variable: bool = False
    quoted: bool = False


Word = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Redirect:
    """`operator` is one of ``<``, ``>``, ``>>``, ``>&`` and ``<&``."""

    descriptor: int
    operator: str
    target: Word


@dataclass(slots=True)
class Simple:
    words: list[Word] = field(default_factory=list)
    redirects: list[Redirect] = field(default_factory=list)


@dataclass(slots=True)
class Pipeline:
    """Commands joined by ``|``, and the operator after them."""

    commands: list[Simple]
    operator: str = ";"


def parse(text: str) -> list[Pipeline]:
    """Return the pipelines of a script. Raise `BadSyntax` for what this shell does not know."""
    found: list[Pipeline] = []
    current = Pipeline([Simple()])
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            word, at = _word(text, at)
            _add(current.commands[-1], word)
            continue
        at = match.end()
        if match["odd"]:
            raise BadSyntax(f"{match['odd']!r} is more than the shell of FakeBackend knows")
        if match["redirect"]:
            redirect, at = _redirect(text, at, match["redirect"])
            current.commands[-1].redirects.append(redirect)
        elif match["operator"] == "|":
            current.commands.append(Simple())
        elif match["operator"]:
            current = _ended(found, current, match["operator"])
    _ended(found, current, ";")
    return found


def _ended(found: list[Pipeline], current: Pipeline, operator: str) -> Pipeline:
    if current.commands[0].words or current.commands[0].redirects:
        current.operator = ";" if operator == "\n" else operator
        found.append(current)
    return Pipeline([Simple()])


def _add(command: Simple, word: Word) -> None:
    first = not command.words and len(word) == 1 and not word[0].quoted and not word[0].variable
    if first and word[0].text in KEYWORDS:
        raise BadSyntax(f"{word[0].text!r} is more than the shell of FakeBackend knows")
    command.words.append(word)


def _redirect(text: str, at: int, sign: str) -> tuple[Redirect, int]:
    operator = sign.lstrip("012")
    default = 0 if operator.startswith("<") else 1
    descriptor = int(sign[0]) if sign[0] in "012" else default
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    target, at = _word(text, at)
    return Redirect(descriptor, operator, target), at


def _word(text: str, at: int) -> tuple[Word, int]:
    parts: list[Part] = []
    start = at
    while at < len(text):
        if text[at] == '"':
            found, at = _quoted(text, at + 1)
            parts += found
            continue
        match = PART.match(text, at)
        if match is None:
            break
        parts.append(_part(match, quoted=match["plain"] is None))
        at = match.end()
    if at == start:
        raise BadSyntax(f"{text[at : at + 20]!r} is no word")
    return tuple(parts), at


def _quoted(text: str, at: int) -> tuple[list[Part], int]:
    parts = [Part("", quoted=True)]
    while at < len(text):
        if text[at] == '"':
            return parts, at + 1
        match = QUOTED.match(text, at)
        if match is None:
            raise BadSyntax(f"{text[at]!r} is more than the shell of FakeBackend knows")
        parts.append(_part(match, quoted=True))
        at = match.end()
    raise BadSyntax("a quote is not closed")


def _part(match: re.Match[str], *, quoted: bool) -> Part:
    groups = match.groupdict()
    name = groups["name"] or groups["braced"]
    if name is not None:
        return Part(name, variable=True, quoted=match.re is QUOTED)
    for group in ("single", "escaped", "plain"):
        if groups.get(group) is not None:
            return Part(groups[group] or "", quoted=quoted)
    raise AssertionError(match)
