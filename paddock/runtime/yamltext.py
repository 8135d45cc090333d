"""Reading and writing the YAML that people keep beside their code.

A file is one document of plain data: mappings with text for keys, lists, text, numbers,
true, false and null. Scalars mean what YAML 1.2 says they do: ``no`` and ``off`` are text,
``010`` is ten, ``1e3`` is a thousand, a date is text. There are no tags but those of these
types, no merge keys and no cycles, and what aliases unfold to is bounded, in number and in
depth. Every error is a `ConfigError` with the line. Knows nothing of what the data mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["MAX_BYTES", "Document", "KeyPath", "decode", "dump_yaml", "read_yaml"]

MAX_BYTES = 1024 * 1024
"""Of a file that is read: people write less."""
MAX_DEPTH = 64
"""Of lists and mappings in each other; a person cannot follow a tenth of it."""
MAX_NODES = 100_000
"""Values in a document, those that an alias repeats counted each time."""
MAX_DIGITS = 1000
"""Of a number; longer ones take time that grows with the square of their length."""

UNKNOWN_TAG = "a tag that is not read here; quote a text that begins with !"
"""It does not tell the tag, which may be a password that was not quoted."""

KeyPath = tuple[str, ...]
"""Where a value is, as the keys that lead to it; in a pattern ``*`` is any key."""

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_TAG = "tag:yaml.org,2002:"
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events, much faster


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's data, and the line on which each key of its outermost mapping stands."""

    data: Any
    lines: Mapping[str, int]


def decode(data: bytes, *, source: str) -> str:
    """The text of a file that a person wrote; `ConfigError` unless it is plain UTF-8."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{source} is larger than {MAX_BYTES} bytes")
    if data.startswith(_BOMS):
        raise ConfigError(f"{source} begins with a byte order mark; save it as UTF-8 without one")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}, line {line}: this is not UTF-8") from error


def read_yaml(
    text: str, *, source: str, texts: Sequence[KeyPath] = (), first_line: int = 1
) -> Document:
    """Read `text`, which begins on `first_line` of `source`.

    Where a path matches one of `texts`, a scalar but null is taken as it is written, as text.
    """
    try:
        events = iter(yaml.parse(text, Loader=_PARSER))
        return _Reader(events, source=source, texts=texts, first_line=first_line).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + first_line}" if mark else ""
        raise ConfigError(f"{source}{place}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise ConfigError(f"{source}: not valid YAML: {error}") from error


@dataclass(slots=True)
class _Anchored:
    value: Any
    nodes: int
    """How many values it unfolds to."""
    height: int
    """How many levels of values are below it."""


@dataclass(slots=True)
class _Reader:
    """Makes values of a parser's events, and counts what they cost before it pays."""

    events: Iterator[Event]
    source: str
    texts: Sequence[KeyPath]
    first_line: int
    nodes: int = 0
    deepest: int = 0
    """How deep the deepest value is of those that were read since it was set back."""
    lines: dict[str, int] = field(default_factory=dict)
    anchors: dict[str, _Anchored | None] = field(default_factory=dict)
    """None for one whose value is still being read."""

    def document(self) -> Document:
        data, found = None, False
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                if found:
                    self.refuse(event, "one document is enough")
                data, found = self.value(next(self.events), ()), True
        return Document(data=data, lines=self.lines)

    def value(self, event: Event, path: KeyPath) -> Any:
        self.count(event, 1)
        if isinstance(event, AliasEvent):
            return self.alias(event, path)
        assert isinstance(event, NodeEvent)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        nodes, deepest = self.nodes, self.deepest
        self.deepest = len(path)
        value = self.fresh(event, path)
        if event.anchor is not None:
            height = self.deepest - len(path)
            self.anchors[event.anchor] = _Anchored(value, self.nodes - nodes, height)
        self.deepest = max(deepest, self.deepest)
        return value

    def fresh(self, event: NodeEvent, path: KeyPath) -> Any:
        self.check_depth(event, len(path))
        if isinstance(event, ScalarEvent):
            return self.scalar(event, path)
        if isinstance(event, SequenceStartEvent):
            self.check_tag(event, "seq")
            return self.list(path)
        assert isinstance(event, MappingStartEvent)
        self.check_tag(event, "map")
        return self.mapping(path)

    def alias(self, event: AliasEvent, path: KeyPath) -> Any:
        if event.anchor not in self.anchors:
            self.refuse(event, "an alias of what is not there; quote a text that begins with *")
        anchored = self.anchors[event.anchor]
        if anchored is None:
            self.refuse(event, "an alias of what it is itself a part of")
        self.count(event, anchored.nodes)
        self.check_depth(event, len(path) + anchored.height)
        return anchored.value

    def list(self, path: KeyPath) -> list[Any]:
        values = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            values.append(self.value(event, (*path, "")))
        return values

    def mapping(self, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self.key(event)
            if key in values:
                self.refuse(event, f"{key!r} is given twice")
            if not path:
                self.lines[key] = self.line(event)
            values[key] = self.value(next(self.events), (*path, key))
        return values

    def key(self, event: Event) -> str:
        """Keys are text, as they are written."""
        if not isinstance(event, ScalarEvent) or event.tag not in (None, "!", f"{_TAG}str"):
            self.refuse(event, "a key has to be text")
        if event.value == "<<" and event.implicit[0]:
            self.refuse(event, "merge keys (<<) are not read; write the keys out")
        return event.value

    def scalar(self, event: ScalarEvent, path: KeyPath) -> Any:
        text, plain = event.value, event.implicit[0]
        if event.tag not in (None, "!"):
            return self.tagged(event)
        if not plain:
            return text
        if _WORDS.get(text, text) is not None and any(_matches(t, path) for t in self.texts):
            return text
        if len(text) > MAX_DIGITS and (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
            self.refuse(event, f"a number with more than {MAX_DIGITS} digits")
        return _resolved(text)

    def tagged(self, event: ScalarEvent) -> Any:
        """``!!str 1`` and its like: what the text is without the tag has to be of that type."""
        if event.tag == f"{_TAG}str":
            return event.value
        text = event.value
        value = _resolved(text) if len(text) <= MAX_DIGITS else text
        if event.tag == f"{_TAG}float" and type(value) is int and _FLOAT.fullmatch(text):
            value = float(text)
        name = "null" if value is None else type(value).__name__
        if event.tag != f"{_TAG}{name}":
            self.refuse(event, UNKNOWN_TAG)
        return value

    def check_tag(self, event: SequenceStartEvent | MappingStartEvent, name: str) -> None:
        if event.tag not in (None, "!", f"{_TAG}{name}"):
            self.refuse(event, UNKNOWN_TAG)

    def count(self, event: Event, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.refuse(event, f"more than {MAX_NODES} values, with what aliases (*) repeat")

    def check_depth(self, event: Event, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.refuse(event, f"nested more than {MAX_DEPTH} deep")
        self.deepest = max(self.deepest, depth)

    def line(self, event: Event) -> int:
        return (event.start_mark.line if event.start_mark else 0) + self.first_line

    def refuse(self, event: Event, problem: str) -> NoReturn:
        raise ConfigError(f"{self.source}, line {self.line(event)}: {problem}")


def _matches(pattern: KeyPath, path: KeyPath) -> bool:
    return len(pattern) == len(path) and all(
        wanted in ("*", key) for wanted, key in zip(pattern, path, strict=True)
    )


def _resolved(text: str) -> Any:
    """What a plain scalar means in YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and text.strip() else None
    if any(mark in text for mark in "\x85\u2028\u2029\r\t"):  # which YAML folds or forbids
        style = '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern in (("int", _INT), ("float", _FLOAT), ("float", _SPECIAL)):
    _Dumper.add_implicit_resolver(
        f"{_TAG}{_tag}", re.compile(f"^(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


def dump_yaml(document: Mapping[str, Any]) -> str:
    """Plain data as YAML that `read_yaml` reads back, in the order it has."""
    text = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    assert isinstance(text, str)
    return text
