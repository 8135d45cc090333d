"""A command line in a small, safe part of the POSIX shell's language, read and written.

What is understood: words with quotes, escapes, globs and a few variables; pipelines;
``&&``, ``||``, ``;`` and newlines; redirections to /dev/null, between streams and from a
file; comments. Everything else is refused by name. A command line is written back
from what was understood, so a shell never gets to see text that was not. This module
does not know which programs are harmless.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CommandLine", "Glob", "Refused", "SimpleCommand", "Text", "Variable", "Word", "parse"]

_BLANKS = " \t"
_WORD_ENDS = frozenset(" \t\n;&|<>()")
_GLOB_CHARS = frozenset("*?[")
_VARIABLES = frozenset({"HOME", "PWD", "PATH", "USER", "SHELL", "LANG", "?"})
"""The shell's and the sandbox owner's; none of them holds what a command has printed."""
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_ESCAPABLE_IN_QUOTES = frozenset('$`"\\\n')
_REDIRECTION = re.compile(r"([0-9]*)(<<<|<<|<&|<>|<\(|<|>>|>&|>\||>\(|>)")

_AFTER_HOME = ("", "/", *_WORD_ENDS)
_REFUSED_OPERATORS = {
    "&>": "'&>' is not allowed, write '>/dev/null 2>&1'",
    "|&": "'|&' is not allowed, write '2>&1 |'",
    ";;": "';;' is not allowed",
    "&": "running in the background is not allowed",
    "(": "subshells and functions are not allowed",
    ")": "subshells and functions are not allowed",
}


class Refused(Exception):
    """The command line may not run; the message is for its author."""


@dataclass(frozen=True, slots=True)
class Text:
    """Characters that mean themselves."""

    value: str


@dataclass(frozen=True, slots=True)
class Glob:
    """An unquoted ``*``, ``?`` or ``[``."""

    value: str


@dataclass(frozen=True, slots=True)
class Variable:
    """``$name``; its value is never split into words."""

    name: str


Part = Text | Glob | Variable
EXIT_CODE = Variable("?")
"""A number, whatever a sandbox does."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command. `home` tells that it begins with an unquoted ``~``."""

    parts: tuple[Part, ...]
    home: bool = False

    @property
    def text(self) -> str:
        """The word without its quotes; variables as ``$name``."""
        shown = (f"${p.name}" if isinstance(p, Variable) else p.value for p in self.parts)
        return ("~" if self.home else "") + "".join(shown)

    @property
    def plain(self) -> bool:
        """Whether the shell would leave it as it is."""
        return not self.home and all(isinstance(part, Text) for part in self.parts)

    def literal(self) -> Word:
        """The word with its globs quoted."""
        parts: list[Part] = []
        for part in self.parts:
            _add(parts, Text(part.value) if isinstance(part, Glob) else part)
        return Word(tuple(parts), self.home)

    @property
    def may_become_option(self) -> bool:
        """Whether it begins with a dash if the variables that it begins with are empty."""
        leading, rest = self._split()
        if not leading or not rest:
            return False
        return isinstance(rest[0], Glob) or _dashed(rest[0])

    def render(self) -> str:
        """The word for a shell.

        It cannot become an option there: a leading glob is led by ``./``, and a variable
        whose value begins with a dash counts as empty.
        """
        if self.home:
            return _guarded("HOME") + "".join(map(_rendered, self.parts))
        leading, rest = self._split()
        start = "./" if rest and not leading and isinstance(rest[0], Glob) else ""
        pieces = [*(_guarded(part.name) for part in leading), start, *map(_rendered, rest)]
        return "".join(pieces) or "''"

    def _split(self) -> tuple[list[Variable], list[Part]]:
        """The variables that it begins with, and what follows; empty quotes mean nothing."""
        parts = [part for part in self.parts if part != Text("")]
        leading: list[Variable] = []
        while parts and isinstance(parts[0], Variable) and parts[0] != EXIT_CODE:
            leading.append(parts.pop(0))  # type: ignore[arg-type]
        return leading, parts


def _dashed(part: Part) -> bool:
    return isinstance(part, Text) and part.value.startswith("-")


def _guarded(name: str) -> str:
    return f'"${{{name}##-*}}"'


def _rendered(part: Part) -> str:
    match part:
        case Text(value):
            return shlex.quote(value) if value else ""
        case Glob(value):
            return value
        case Variable(name):
            return f'"${name}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleCommand:
    """A program's name and arguments, and its redirections as the shell writes them."""

    words: tuple[Word, ...]
    redirections: tuple[str, ...] = ()
    guard: tuple[str, str] = ("", "")
    """What the shell reads before and after the program and its arguments."""

    def render(self) -> str:
        before, after = self.guard
        program = before + " ".join(word.render() for word in self.words) + after
        return " ".join([program, *self.redirections])


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Simple commands and what stands between them."""

    commands: tuple[SimpleCommand, ...]
    operators: tuple[str, ...]

    def render(self) -> str:
        pieces = [self.commands[0].render()]
        for operator, command in zip(self.operators, self.commands[1:], strict=True):
            pieces += [operator, command.render()]
        return " ".join(pieces)


@dataclass(frozen=True, slots=True)
class _Operator:
    value: Literal["|", "&&", "||", ";", "\n"]


@dataclass(frozen=True, slots=True)
class _Redirection:
    value: str


_Token = Word | _Operator | _Redirection


def parse(line: str) -> CommandLine:
    """Read a command line; raises `Refused` for what is not of the safe part."""
    _refuse_invisible(line)
    commands: list[SimpleCommand] = []
    operators: list[str] = []
    words: list[Word] = []
    redirections: list[str] = []
    for token in (*_Reader(line).tokens(), _Operator("\n")):
        match token:
            case Word():
                words.append(token)
            case _Redirection(value):
                redirections.append(value)
            case _Operator(value) if words:
                commands.append(SimpleCommand(words=tuple(words), redirections=tuple(redirections)))
                operators.append(";" if value == "\n" else value)
                words, redirections = [], []
            case _Operator(value) if redirections or value != "\n":
                raise Refused("a command is missing")
            case _Operator():
                pass  # an empty line, or one that continues after an operator
            case _:
                assert_never(token)
    if not commands:
        raise Refused("it is empty")
    if operators.pop() != ";":
        raise Refused("a command is missing at the end")
    return CommandLine(tuple(commands), tuple(operators))


def _refuse_invisible(line: str) -> None:
    for char in line:
        if char not in "\t\n" and unicodedata.category(char) in ("Cc", "Cf"):
            raise Refused(f"it has an invisible character, U+{ord(char):04X}")


class _Reader:
    """Reads tokens, one pass over the text; `_at` is the place of the next character."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0

    def tokens(self) -> Iterator[_Token]:
        while True:
            self._skip_to_token()
            char = self._peek()
            if not char:
                return
            if redirection := _REDIRECTION.match(self._line, self._at):
                self._at = redirection.end()
                yield self._redirection(redirection[1], redirection[2])
            elif char in _WORD_ENDS:
                yield self._operator()
            else:
                yield self._word()

    def _peek(self, length: int = 1) -> str:
        return self._line[self._at : self._at + length]

    def _skip_to_token(self) -> None:
        while True:
            if self._peek() and self._peek() in _BLANKS:
                self._at += 1
            elif self._peek(2) == "\\\n":
                self._at += 2
            elif self._peek() == "#":
                end = self._line.find("\n", self._at)
                self._at = len(self._line) if end < 0 else end
            else:
                return

    def _operator(self) -> _Operator:
        two, one = self._peek(2), self._peek()
        if two in ("&&", "||"):
            self._at += 2
            return _Operator("&&" if two == "&&" else "||")
        if two in _REFUSED_OPERATORS or one in _REFUSED_OPERATORS:
            raise Refused(_REFUSED_OPERATORS.get(two) or _REFUSED_OPERATORS[one])
        self._at += 1
        return _Operator("|" if one == "|" else "\n" if one == "\n" else ";")

    def _redirection(self, descriptor: str, kind: str) -> _Redirection:
        self._skip_to_token()
        target = None if self._peek() in _WORD_ENDS or not self._peek() else self._word()
        match kind:
            case "<" if target is not None and descriptor in ("", "0") and _readable(target):
                return _Redirection("<" + target.render())
            case ">" | ">>" if target is not None and descriptor in ("", "1", "2"):
                if target.plain and target.text == "/dev/null":
                    return _Redirection(f"{descriptor}>/dev/null")
                raise Refused("output may be redirected to /dev/null only")
            case ">&" if target is not None and descriptor in ("", "1", "2"):
                if target.plain and target.text in ("1", "2"):
                    return _Redirection(f"{descriptor}>&{target.text}")
        raise Refused(f"the redirection '{descriptor}{kind}' is not allowed")

    def _word(self) -> Word:
        parts: list[Part] = []
        home = self._peek() == "~" and self._line[self._at + 1 : self._at + 2] in _AFTER_HOME
        if home:
            self._at += 1
        elif self._peek() == "~":
            raise Refused("another user's ~ is not allowed")
        while (char := self._peek()) and char not in _WORD_ENDS:
            self._at += 1
            match char:
                case "'":
                    _add(parts, Text(self._until_quote()))
                case '"':
                    self._double_quoted(parts)
                case "\\":
                    _add(parts, Text(self._escaped()))
                case "$":
                    _add(parts, self._dollar(quoted=False))
                case "`":
                    raise Refused("command substitution is not allowed")
                case _:
                    _add(parts, Glob(char) if char in _GLOB_CHARS else Text(char))
        if parts == [Glob("[")]:
            parts = [Text("[")]  # the program of that name; alone it is no pattern
        return Word(tuple(parts), home)

    def _until_quote(self) -> str:
        end = self._line.find("'", self._at)
        if end < 0:
            raise Refused("a quote is not closed")
        text, self._at = self._line[self._at : end], end + 1
        return text

    def _escaped(self) -> str:
        char = self._peek()
        if not char:
            raise Refused("it ends in a backslash")
        self._at += 1
        return "" if char == "\n" else char

    def _double_quoted(self, parts: list[Part]) -> None:
        _add(parts, Text(""))
        while (char := self._peek()) != '"':
            if not char:
                raise Refused("a quote is not closed")
            self._at += 1
            match char:
                case "\\" if self._peek() in _ESCAPABLE_IN_QUOTES and self._peek():
                    _add(parts, Text(self._escaped()))
                case "$":
                    _add(parts, self._dollar(quoted=True))
                case "`":
                    raise Refused("command substitution is not allowed")
                case _:
                    _add(parts, Text(char))
        self._at += 1

    def _dollar(self, *, quoted: bool) -> Part:
        following = self._peek()
        if following == "(":
            raise Refused("command substitution and arithmetic are not allowed")
        if following and (following in "{[" or (following in "'\"" and not quoted)):
            raise Refused(f"'${following}' is not allowed")
        name = _VARIABLE_NAME.match(self._line, self._at)
        if name is None:
            return Text("$")
        if name[0] not in _VARIABLES:
            raise Refused(f"the variable ${name[0]} is not allowed")
        self._at = name.end()
        return Variable(name[0])


def _readable(target: Word) -> bool:
    """Whether ``<target`` opens one file; some shells connect to hosts through /dev names."""
    return target.plain and (target.text == "/dev/null" or not target.text.startswith("/dev/"))


def _add(parts: list[Part], part: Part) -> None:
    """Append `part`, joined with the one before if both are text."""
    if parts and isinstance(parts[-1], Text) and isinstance(part, Text):
        part = Text(parts.pop().value + part.value)  # type: ignore[union-attr]
    parts.append(part)
