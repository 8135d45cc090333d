"""Secrets, and text without them: pure functions of text, with no say in where it goes.

A secret is found as it is and as tools print it (without the white space at its ends, line by
line), in base64 (at each of its three alignments), in hexadecimal, percent-encoded, escaped for
JSON, and quoted for a shell. Each place becomes ``[secret NAME]``. Places that overlap become
one, under the name of the first.

It does not find what is compressed, encrypted, or cut in two: a secret whose one half went
to stdout and the other to stderr is not joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, TypeVar, overload

from paddock._automaton import ROOT, Automaton
from paddock._frozen import FrozenMapping
from paddock._spellings import LEAST, spellings
from paddock.errors import ConfigError

__all__ = ["NOTHING_SECRET", "Redactor", "Secrets", "ShortSecret", "Stream", "TextStream"]

T = TypeVar("T")

MOST = 8 * 1024
"""Bytes of the longest secret: keys and tokens are shorter, and a file is not a variable."""

MAX_DEPTH = 100
"""Levels of a value that are looked through; what is below is left out."""

MARK = "[secret NAME]"
"""Replaces a secret."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TOO_DEEP = "..."


class Secrets(FrozenMapping[str, str]):
    """Names and values of secrets; its repr shows the names.

    Raises `ConfigError` for a name that is no shell variable's, and for a value that is
    not text, longer than 8 KiB, or shorter than 8 bytes without the white space at its ends
    (it would be found in innocent text; see `ShortSecret`). The error does not tell the value.
    """

    __slots__ = ()

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        super().__init__(items)
        for name, value in self.items():
            _check(name, value)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self)})"


class ShortSecret(str):
    """The value of a secret that may have fewer than 8 bytes: ``{"PIN": ShortSecret("1234")}``.

    Everything that looks like it is redacted, also where it is something else: each 1234 in
    each text, such as a number of lines or a part of a path. An agent may then not understand
    what it reads.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "ShortSecret(...)"


def _check(name: object, value: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"secret {name!r}: give the name of an environment variable")
    if not isinstance(value, str):
        raise ConfigError(f"secret {name}: the value has to be text")
    try:
        whole, size = len(value.encode()), len(value.strip().encode())
    except UnicodeEncodeError:
        raise ConfigError(f"secret {name}: the value is not valid Unicode") from None
    if "\0" in value:
        raise ConfigError(f"secret {name}: the value cannot hold a NUL character")
    least = 1 if isinstance(value, ShortSecret) else LEAST
    if size < least or whole > MOST:
        hint = (
            "" if least == 1 or whole > MOST else "; to insist, give a ShortSecret (--short-secret)"
        )
        raise ConfigError(
            f"secret {name}: it has {size} bytes; what can be redacted has {least} to {MOST}{hint}"
        )


class Redactor:
    """Takes `secrets` out of what it is given. Immutable, and safe to share.

    Its methods return the very object that they were given if there is nothing to
    redact. They take linear time: some 6 ms for each MB that has nothing like a
    secret, and half a second for one that is made to be slow.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._secrets = frozenset(Secrets(secrets).items())
        self._mark = MARK

    @classmethod
    def marking(cls, values: Iterable[str], mark: str) -> Redactor:
        """Return one that puts `mark` for each of `values`, which have no names.

        Of one that is shorter than `LEAST` bytes or longer than `MOST` only the value itself is
        found, not its encodings. White space alone is no secret.
        """
        made = cls()
        made._secrets = frozenset(("", value) for value in values if value.strip())
        made._mark = mark
        return made

    def __repr__(self) -> str:
        return f"Redactor({', '.join(sorted({name for name, _ in self._secrets}))})"

    def __bool__(self) -> bool:
        """Whether there are secrets."""
        return bool(self._secrets)

    def including(self, secrets: Mapping[str, str]) -> Redactor:
        """One that redacts `secrets` too, and earlier values of the same names."""
        more = frozenset(Secrets(secrets).items())
        return self._union(more)

    def __or__(self, other: Redactor) -> Redactor:
        return self._union(other._secrets)

    def _union(self, more: frozenset[tuple[str, str]]) -> Redactor:
        if more <= self._secrets:
            return self
        both = Redactor()
        both._secrets, both._mark = self._secrets | more, self._mark
        return both

    @cached_property
    def _automaton(self) -> Automaton:
        return Automaton(self._words)

    @cached_property
    def _backward(self) -> Automaton:
        return Automaton({word[::-1]: name for word, name in self._words.items()})

    @cached_property
    def _words(self) -> dict[bytes, str]:
        """What is looked for; of names with one value the first of the alphabet counts."""
        ordered = sorted(self._secrets, reverse=True)
        spelt = spellings if self._mark is MARK else _spelt_where_it_is_telling
        return {word: name for name, value in ordered for word in spelt(value)}

    def data(self, data: bytes) -> bytes:
        """`data` without secrets."""
        if not self or not self._automaton.is_in(data):
            return data
        stream = self.stream()
        return stream.feed(data) + stream.close()

    def text(self, text: str) -> str:
        """`text` without secrets."""
        if not self:
            return text
        data = _encoded(text)
        redacted = self.data(data)
        return text if redacted is data else _decoded(redacted)

    @overload
    def value(self, value: dict[str, Any]) -> dict[str, Any]: ...
    @overload
    def value(self, value: str) -> str: ...
    @overload
    def value(self, value: object) -> object: ...
    def value(self, value: object) -> object:
        """`value`, as JSON has them, without secrets in its texts, keys and numbers.

        Objects of other kinds are kept if their repr holds none, and else become that repr.
        """
        return self._value(value, MAX_DEPTH) if self else value

    def _value(self, value: object, depth: int) -> object:
        match value:
            case None | bool():
                return value
            case str():
                return self.text(value)
            case bytes():
                return self.data(value)
            case Mapping() | list() | tuple() | set() | frozenset() if depth == 0:
                return _TOO_DEEP
            case Mapping():
                return {
                    self._value(key, depth - 1): self._value(item, depth - 1)
                    for key, item in value.items()
                }
            case list():
                return [self._value(item, depth - 1) for item in value]
            case tuple() | set() | frozenset():
                return tuple(self._value(item, depth - 1) for item in value)
            case _:
                shown = repr(value)
                redacted = self.text(shown)
                return value if redacted is shown else redacted

    def stream(self) -> Stream:
        """For bytes that come in pieces."""
        return Stream(self._automaton if self else None, self._mark)

    def text_stream(self) -> TextStream:
        """For text that comes in pieces."""
        return TextStream(self.stream())

    def head(self, data: bytes) -> bytes:
        """As `data`, for the beginning of something longer: what may be the beginning of a
        secret at the cut goes too."""
        return self.stream().feed(data)

    def beginning(self, text: str) -> str:
        """As `head`, for text."""
        return _decoded(self.head(_encoded(text)))

    def tail(self, data: bytes) -> bytes:
        """As `data`, for the end of something longer; see `head`."""
        if not self:
            return data
        edge = data[: self._backward.longest][::-1]
        state = self._backward.scan(edge, 0, ROOT, lambda *_: None)
        stream = self.stream()
        stream.leave_out(self._backward.depth[state])
        return stream.feed(data) + stream.close()


def _spelt_where_it_is_telling(value: str) -> frozenset[bytes]:
    data = _encoded(value)
    return spellings(value) if LEAST <= len(data) <= MOST else frozenset({data})


class Stream:
    """Bytes in, bytes without secrets out; how they are cut into pieces does not matter.

    It holds back what may be the beginning of a secret, and so less than the longest one
    has in its longest encoding. Without an automaton there are no secrets.
    """

    def __init__(self, automaton: Automaton | None, mark: str = MARK) -> None:
        self._automaton = automaton
        self._mark = mark
        self._state = ROOT
        self._held = b""
        self._places: list[tuple[int, int, str]] = []
        """Where secrets are in what is held: beginning, end, name. One that has been told
        of and that continues begins at -1."""

    def feed(self, data: bytes) -> bytes:
        """What can be told now that `data` has come."""
        if self._automaton is None:
            return data
        buffer = self._held + data
        self._state = self._automaton.scan(buffer, len(self._held), self._state, self._take)
        return self._told(buffer, len(buffer) - self._automaton.depth[self._state])

    def leave_out(self, size: int) -> None:
        """Drop the first `size` bytes that come, and what of a secret begins in them."""
        self._places = [(-1, size, "")]

    def close(self) -> bytes:
        """Return the rest at the end of the stream; another may begin."""
        self._state = ROOT
        return self._told(self._held, len(self._held))

    def _take(self, begin: int, end: int, name: str) -> None:
        """Join a secret that was found with those that it overlaps."""
        places = self._places
        while places and places[-1][1] > begin:
            earlier = places.pop()
            if earlier[0] < begin:
                begin, name = earlier[0], earlier[2]
        places.append((begin, end, name))

    def _told(self, buffer: bytes, settled: int) -> bytes:
        """What comes of `buffer` up to `settled`, from where on a secret may begin; the rest
        is held."""
        told: list[bytes] = []
        place = 0
        kept: list[tuple[int, int, str]] = []
        for begin, end, name in self._places:
            if begin >= settled:
                kept.append((begin - settled, end - settled, name))
                continue
            if begin >= 0:
                told += (buffer[place:begin], self._mark.replace("NAME", name).encode())
            place = end
            if end > settled:
                kept.append((-1, end - settled, name))
        told.append(buffer[place:settled])
        self._places = kept
        self._held = buffer[settled:]
        return b"".join(told)


class TextStream:
    """As `Stream`, for text."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def feed(self, text: str) -> str:
        return _decoded(self._stream.feed(_encoded(text)))

    def close(self) -> str:
        return _decoded(self._stream.close())


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(data: bytes) -> str:
    # A secret begins and ends where characters do, so no character is cut.
    return data.decode("utf-8", "surrogatepass")


NOTHING_SECRET = Redactor()
"""The redactor for when there are no secrets."""
