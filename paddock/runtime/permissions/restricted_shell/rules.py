"""What may follow a program's name: options of a list, and operands. Knows no program."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from paddock.runtime.permissions.restricted_shell.syntax import Refused, Variable, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["AnyArguments", "Arguments", "Options", "Rule"]

_NUMBER = re.compile(r"-[0-9]+")


class Rule(Protocol):
    """What one program may be given."""

    def check(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """The words to run with, globs left only where the rule wants them; or `Refused`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """A program's arguments, understood: option names with values, and operands."""

    options: tuple[tuple[str, str | None], ...]
    operands: tuple[str, ...]
    varying: bool = False
    """Whether an option, its value or an operand that is text holds a variable."""

    def values(self, *names: str) -> list[str]:
        """The values of these options."""
        return [value for name, value in self.options if name in names and value is not None]

    def has(self, *names: str) -> bool:
        return any(name in names for name, _ in self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyArguments:
    """For programs that cannot do harm whatever their arguments."""

    def check(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options that a program may have; all others are refused, abbreviations too.

    `short` is written as for getopt: letters, ``:`` after one that takes a value,
    ``::`` after one whose value can only be attached. `long` names are without
    dashes: ``name``, ``name=`` with a value, ``name=?`` with a value that can only be
    attached. `numeric` allows ``-5``. A value in a word of its own cannot begin with
    a dash: a program that reads it otherwise would see an unchecked option.
    With `bundled_values` off a value is never taken from the word of its letter.

    Options are put before operands, unless `keep_order`: some programs take an option
    that comes after an operand for one more operand, and might write to it.
    """

    short: str = ""
    long: str = ""
    numeric: bool = False
    bundled_values: bool = True
    keep_order: bool = False
    max_operands: int | None = None
    text_operands: int = 0
    """How many leading operands are text, where a glob stands for itself..."""
    text_unless: tuple[str, ...] = ()
    """...unless one of these options came before."""
    also: Callable[[Arguments], None] | None = None
    """A further check; raises `Refused`."""
    _short: dict[str, str] = field(init=False, repr=False, compare=False)
    _long: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        letters = re.findall(r"(.)(:{0,2})", self.short)
        names = (re.fullmatch(r"([^=]+)(=?\??)", name) for name in self.long.split())
        object.__setattr__(self, "_short", dict(letters))
        object.__setattr__(self, "_long", {found[1]: found[2] for found in names if found})

    def check(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        reading = _Reading(self._short, self._long, self)
        checked = reading.run(words)
        if self.max_operands is not None and len(reading.operands) > self.max_operands:
            raise Refused(f"more than {self.max_operands} operands are not allowed")
        if self.also is not None:
            self.also(
                Arguments(
                    options=tuple(reading.options),
                    operands=tuple(reading.operands),
                    varying=reading.varying,
                )
            )
        return checked


class _Reading:
    """One reading of a program's words against its `Options`."""

    def __init__(self, short: dict[str, str], long: dict[str, str], rule: Options) -> None:
        self._short = short
        self._long = long
        self._rule = rule
        self.options: list[tuple[str, str | None]] = []
        self.operands: list[str] = []
        self.varying = False

    def run(self, words: Sequence[Word]) -> tuple[Word, ...]:
        operands: list[Word] = []
        options: list[Word] = operands if self._rule.keep_order else []
        waiting: str | None = None  # the option that the next word is the value of
        ended = False
        for word in words:
            text = word.text
            if waiting is not None:
                if text.startswith("-"):
                    raise Refused(f"the value of {waiting} begins with a dash; attach it")
                self.options.append((waiting, text))
                options.append(self._fixed(word))
                waiting = None
            elif ended or not text.startswith("-") or text == "-":
                self.operands.append(text)
                operands.append(self._fixed(word) if self._is_text() else word)
            elif text == "--":
                ended = True
                operands.append(word)
            else:
                waiting = self._option(text)
                options.append(self._fixed(word))
        if waiting is not None:
            raise Refused(f"{waiting} needs a value")
        return tuple(operands) if options is operands else (*options, *operands)

    def _fixed(self, word: Word) -> Word:
        self.varying = self.varying or any(isinstance(part, Variable) for part in word.parts)
        return word.literal()

    def _is_text(self) -> bool:
        if self._rule.max_operands is not None:
            return True  # a glob could stand for more operands than were counted
        if any(name in self._rule.text_unless for name, _ in self.options):
            return False
        return len(self.operands) <= self._rule.text_operands

    def _option(self, text: str) -> str | None:
        """Take one word of options; the name of the one that still wants its value, or None."""
        if text.startswith("--"):
            return self._long_option(text)
        if self._rule.numeric and _NUMBER.fullmatch(text):
            return None
        return self._short_options(text)

    def _long_option(self, text: str) -> str | None:
        name, equals, value = text.removeprefix("--").partition("=")
        takes = self._long.get(name)
        if takes is None or (equals and takes == ""):
            raise Refused(f"the option --{name} is not allowed")
        if takes == "=" and not equals:
            return f"--{name}"
        self.options.append((f"--{name}", value if equals else None))
        return None

    def _short_options(self, text: str) -> str | None:
        for place, letter in enumerate(text[1:], start=2):
            takes = self._short.get(letter)
            if takes is None:
                raise Refused(f"the option -{letter} is not allowed")
            rest = text[place:]
            if takes and rest and not self._rule.bundled_values:
                raise Refused(f"the value of -{letter} must be a word of its own")
            if takes and (rest or takes == "::"):
                self.options.append((f"-{letter}", rest or None))
                return None
            if takes:
                return f"-{letter}"
            self.options.append((f"-{letter}", None))
        return None
