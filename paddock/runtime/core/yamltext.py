"""Read and write the YAML files that people keep beside their code.

A file is one document of plain data: mappings with text keys, lists, text, numbers, true,
false and null. Scalars follow the core schema of YAML 1.2: ``no`` and ``off`` are text,
``010`` is ten, ``1e3`` is a thousand, a date is text. Other tags, merge keys and duplicate
keys are errors, and the number and depth of values are bounded after aliases are expanded.
Every error is a `ConfigError` with the line.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml
from yaml.composer import Composer
from yaml.resolver import Resolver

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["MAX_BYTES", "Document", "KeyPath", "decode", "dump_yaml", "read_text", "read_yaml"]

MAX_BYTES: Final = 1024 * 1024
"""The largest file that is read; people write less."""
MAX_DEPTH: Final = 64
"""The deepest nesting of lists and mappings; people cannot follow a tenth of it."""
MAX_NODES: Final = 100_000
"""The most values in a document, counting what an alias repeats each time."""
MAX_DIGITS: Final = 1000
"""The longest number; converting one takes time that grows with the square of its length."""

_QUOTED = re.compile(r" '[^']{2,}'")

UNKNOWN_TAG: Final = "a tag that is not read here; quote a text that begins with !"
"""It does not show the tag, which may be a password that was not quoted."""

KeyPath = tuple[str, ...]
"""The keys that lead to a value; in a pattern ``*`` matches any key."""

_TAG = "tag:yaml.org,2002:"
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_INT = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_SCALARS: Final[Mapping[str, tuple[re.Pattern[str], Callable[[str], object]]]] = {
    f"{_TAG}{name}": (re.compile(rf"(?:{pattern})\Z"), convert)
    for name, pattern, convert in (
        ("null", "~|null|Null|NULL|", lambda _: None),
        ("bool", "true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
        ("int", _INT, lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))),
        ("float", _FLOAT, lambda text: float(re.sub(r"\.(?=[infaINFA])", "", text))),
    )
}
"""By tag: what a scalar of the core schema looks like, and its value. `int` goes before `float`."""


def read_text(path: Path) -> str:
    """Return the text of the file at `path`; see `decode`."""
    with path.open("rb") as file:
        return decode(file.read(MAX_BYTES + 1), source=str(path))


def decode(data: bytes, *, source: str) -> str:
    """Return the text of a file; raise `ConfigError` unless it is UTF-8 of a bearable size."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{source} is larger than {MAX_BYTES} bytes")
    if data.startswith(_BOMS):
        raise ConfigError(f"{source} begins with a byte order mark; save it as UTF-8 without one")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}, line {line}: this is not UTF-8") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's data, and the line of each key of its outermost mapping."""

    data: Any
    lines: Mapping[str, int]


def read_yaml(
    text: str, *, source: str, texts: Sequence[KeyPath] = (), first_line: int = 1
) -> Document:
    """Read `text`, which begins on `first_line` of `source`.

    Where a path matches one of `texts`, return a scalar other than null as it is written.
    """
    try:
        loader = _Loader(text, texts)
        root = loader.get_single_node()
        data = None if root is None else loader.value(root, ())
    except _Refused as refused:
        raise ConfigError(f"{source}, line {refused.line + first_line}: {refused}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + first_line}" if mark else ""
        raise ConfigError(f"{source}{place}: not valid YAML: {_problem(error)}") from None
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    keys = root.value if isinstance(root, yaml.MappingNode) else ()
    return Document(
        data=data, lines={key.value: key.start_mark.line + first_line for key, _ in keys}
    )


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without the words of the file, which may be a password."""
    problem = str(error.problem)
    if "undefined alias" in problem:
        return "an alias (*) of nothing; put quotes around a text that begins with *"
    return _QUOTED.sub("", problem)


class _Refused(Exception):
    """Valid YAML that is not read here; `line` begins with 0."""

    def __init__(self, where: Any, problem: str) -> None:
        super().__init__(problem)
        self.line: int = where.start_mark.line


class _Loader(Composer, Resolver):
    """PyYAML's composer with the tags of YAML 1.2, on libyaml's parser where there is one.

    Values are counted as they are composed, and again as aliases are expanded.
    """

    def __init__(self, text: str, texts: Sequence[KeyPath]) -> None:
        Composer.__init__(self)
        Resolver.__init__(self)
        parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self.check_event, self.peek_event = parser.check_event, parser.peek_event
        self.get_event = parser.get_event
        self._texts = texts
        self._composed, self._expanded, self._depth = itertools.count(1), itertools.count(1), 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        _check_size(self.peek_event(), next(self._composed), self._depth)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the data of `node`. A cycle of aliases is nested too deep."""
        _check_size(node, next(self._expanded), len(path))
        match node:
            case yaml.SequenceNode(tag=tag) if tag == f"{_TAG}seq":
                return [self.value(each, (*path, "")) for each in node.value]
            case yaml.MappingNode(tag=tag) if tag == f"{_TAG}map":
                return self._mapping(node, path)
            case yaml.ScalarNode():
                return self._scalar(node, path)
        raise _Refused(node, UNKNOWN_TAG)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, each in node.value:
            name = _key(key)
            if name in values:
                raise _Refused(key, f"{name!r} is given twice")
            values[name] = self.value(each, (*path, name))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text, tag = node.value, node.tag
        if tag == f"{_TAG}str":
            return text
        pattern, convert = _SCALARS.get(tag, (None, None))
        if pattern is None or convert is None or not pattern.match(text):
            raise _Refused(node, UNKNOWN_TAG)
        if tag != f"{_TAG}null" and any(_matches(each, path) for each in self._texts):
            return text
        if len(text) > MAX_DIGITS:
            raise _Refused(node, f"a number with more than {MAX_DIGITS} digits")
        return convert(text)


def _check_size(where: Any, nodes: int, depth: int) -> None:
    if nodes > MAX_NODES:
        raise _Refused(where, f"more than {MAX_NODES} values, counting what aliases (*) repeat")
    if depth > MAX_DEPTH:
        raise _Refused(where, f"nested more than {MAX_DEPTH} deep, counting aliases (*)")


def _key(node: yaml.Node) -> str:
    """Return a key as it is written."""
    if not isinstance(node, yaml.ScalarNode):
        raise _Refused(node, "a key has to be text")
    if node.value == "<<" and not node.style:
        raise _Refused(node, "merge keys (<<) are not read; write the keys out")
    return str(node.value)


def _matches(pattern: KeyPath, path: KeyPath) -> bool:
    return len(pattern) == len(path) and all(
        wanted in ("*", key) for wanted, key in zip(pattern, path, strict=True)
    )


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
_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1
for _tag, (_pattern, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)
    _Dumper.add_implicit_resolver(_tag, _pattern, None)


def dump_yaml(document: Mapping[str, Any]) -> str:
    """Write plain data as YAML that `read_yaml` reads back, in its order."""
    text = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    assert isinstance(text, str)
    return text
