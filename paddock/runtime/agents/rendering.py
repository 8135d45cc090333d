"""Render a Jinja2 template that may be hostile, or only wrong.

Jinja's sandbox keeps a template from reaching Python. This one also bounds what a template
takes: every value has a largest size, every operation is charged by the size of what it works
on, and only filters and methods are offered whose cost follows from those sizes. The bounds
are counts, so a template renders everywhere or nowhere. Values are text, never templates.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, KeysView, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes, pass_context
from jinja2.filters import FILTERS
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MAX_OUTPUT", "render"]

MAX_OUTPUT: Final = 1024 * 1024
"""Characters of a rendered text, and of each value: no model takes a longer prompt."""
MAX_WORK: Final = 20_000_000
"""Characters and values that all operations together may work on: seconds at worst."""
OPERATION: Final = 100
"""What an operation costs beside what it works on; it bounds the passes of empty loops."""
ELEMENT: Final = 8
"""What an element of a collection counts for, which takes longer than a character."""
MAX_GROWTH: Final = 16 * MAX_OUTPUT
"""A value's size times that of a filter's argument: what `replace` or `join` can make of them."""
MAX_ARGUMENT: Final = 100_000
"""The largest number for a filter or method: a width, a count or a precision."""
MAX_BITS: Final = 4096
"""Bits of a number; arithmetic with longer ones takes more than time in proportion."""
MAX_PROBLEM: Final = 500
"""Characters of an error, which may quote a value."""
MAX_TOKENS: Final = 20_000
"""Words and signs of a template outside its text: compiling them takes less than a second."""

_FILTERS: Final = (
    "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e",
    "escape", "filesizeformat", "first", "float", "forceescape", "groupby", "indent", "int",
    "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "slice", "sort",
    "string", "title", "tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount",
)  # fmt: skip
_SHRINKING: Final = frozenset({"d", "default", "truncate"})
"""Filters of which the result is no longer than the longest of what they are given."""
_ATTRIBUTES: Final = frozenset({
    "capitalize", "casefold", "count", "endswith", "find", "get", "grouper", "index", "isalnum",
    "isalpha", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "isupper", "items",
    "join", "keys", "list", "lower", "lstrip", "partition", "removeprefix", "removesuffix",
    "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "upper", "values",
})  # fmt: skip
"""Of text, numbers and collections. Others pad, format or convert without bound."""
_COLLECTIONS: Final = (list, tuple, AbstractSet, Mapping, KeysView, ValuesView)
_DATA: Final = (str, bytes, int, float, complex, *_COLLECTIONS)


def render(body: str, values: Mapping[str, str], *, source: str, first_line: int = 1) -> str:
    """Return the text of the template `body`, which begins on `first_line` of `source`.

    Raise `ConfigError` with the line for a template that is not valid, that uses what it is
    not given or may not have, or that takes too much.
    """
    line = 0
    try:
        return _render(body, values)
    except TemplateSyntaxError as error:
        problem, line = error.message or "not valid", error.lineno
    except RecursionError:
        problem = "it is nested too deeply"
    except Exception as error:  # whatever an expression of a template raises
        problem, line = f"{error}" or type(error).__name__, _line_of(error)
    place = f", line {line + first_line - 1}" if line else ""
    raise ConfigError(f"{source}{place}: {problem[:MAX_PROBLEM]}")


def _render(body: str, values: Mapping[str, str]) -> str:
    environment = _Bounded()
    if any(True for _ in itertools.islice(environment.lex(body), MAX_TOKENS, None)):
        raise _TooMuch(f"the template has more than {MAX_TOKENS} words and signs")
    template = environment.parse(body)
    _refuse_hidden_names(template)
    text, size = [], 0
    for piece in environment.from_string(_Charging().visit(template)).generate(values):
        size += len(piece)
        if size > MAX_OUTPUT:
            raise _TooMuch(f"the text is longer than {MAX_OUTPUT} characters")
        text.append(piece)
    return "".join(text)


class _TooMuch(Exception):
    """A bound would be exceeded."""


class _OpaqueNamespace(Namespace):
    """Not shown by its values, which may hold it."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Bounded(ImmutableSandboxedEnvironment):
    """An environment for one template, which it charges for what it does."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
            optimized=False,
            finalize=pass_context(lambda _, value: self.charge(value)),
        )
        self._work = 0
        # The other globals are objects with methods and modules behind.
        self.globals = {
            "dict": dict,
            "namespace": _OpaqueNamespace,
            "range": self.globals["range"],
        }
        self.filters = {name: self._bounded(name, FILTERS[name]) for name in _FILTERS}
        self.filters["sum"] = self._bounded("sum", _sum)
        self.filters[_CHARGE] = pass_context(lambda _, value: self.charge(value))
        self.tests = {name: self._bounded("default", test) for name, test in TESTS.items()}

    def charge(self, value: Any) -> Any:
        """Count `value` as worked on, and return it."""
        size = _size(value)
        self._work += size + OPERATION
        if size > MAX_OUTPUT:
            raise _TooMuch(f"a value is larger than {MAX_OUTPUT} characters")
        if self._work > MAX_WORK:
            raise _TooMuch("it takes too much work, and was stopped")
        return value

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        known = not isinstance(obj, _DATA) or attr in _ATTRIBUTES
        return known and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Leave `str.format` to `is_safe_attribute`, which refuses it: its widths are unbounded."""

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        data = getattr(obj, "__self__", None)
        if isinstance(data, _DATA):
            self._check_growth(data, (*args, *kwargs.values()))
        for each in (*args, *kwargs.values()):
            self.charge(each)
        return self.charge(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.charge(left)
        self.charge(right)
        texts = [each for each in (left, right) if not isinstance(each, int | float)]
        if operator == "%" and texts:
            raise _TooMuch("% is for numbers; put texts together with ~")
        if operator == "*" and texts:
            self._check_growth(texts[0], [right if texts[0] is left else left])
        if operator == "**" and isinstance(left, int) and left.bit_length() * right > MAX_BITS:
            raise _TooMuch("a number is too large")
        return self.charge(super().call_binop(context, operator, left, right))

    def _bounded(self, name: str, function: Any) -> Callable[..., Any]:
        """Wrap a filter or test so that it is charged, and refused if it may grow too large."""
        skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            given = (*args[skipped:], *kwargs.values())
            for each in given:
                self.charge(each)
            if name not in _SHRINKING:
                self._check_growth(given[0], given[1:])
            result = function(*args, **kwargs)
            if isinstance(result, Iterator):
                result = [self.charge(each) for each in result]
            return self.charge(result)

        return bounded

    def _check_growth(self, value: Any, arguments: Iterable[Any]) -> None:
        for each in arguments:
            number = abs(each) if isinstance(each, int | float) else 0
            if number > MAX_ARGUMENT or _size(value) * max(_size(each), number) > MAX_GROWTH:
                raise _TooMuch("the result may be too large")


def _sum(numbers: Iterable[Any]) -> Any:
    """Not from a start that the template gives: a sum of lists copies each many times."""
    return sum(numbers)


def _size(value: Any) -> int:
    """Return the characters and values in `value`, each as often as it occurs, or too many."""
    if isinstance(value, str | bytes | range):
        return len(value)
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise _TooMuch("a number is too large")
        return value.bit_length() // 8
    if not isinstance(value, _COLLECTIONS):
        return 1
    total = 1
    for each in (
        itertools.chain.from_iterable(value.items()) if isinstance(value, Mapping) else value
    ):
        total += 1 + _size(each)
        if total > MAX_OUTPUT:
            break
    return total


_CHARGE: Final = "charge for"
"""The filter around what Jinja lets no environment intercept; no template can name it."""


class _Charging(NodeTransformer):
    """Puts a charge around what makes, compares or repeats values without the environment."""

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        node = self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.TemplateData():  # which would be written without the environment
                return _like(node, nodes.Const, node.data)
            case nodes.For():
                once = _charged(_like(node, nodes.Const, 1))
                node.body.insert(0, _like(node, nodes.ExprStmt, once))
                if node.test is not None:
                    node.test = _like(node, nodes.And, once, node.test)
            case nodes.Concat():
                return _filtered(_charged(_like(node, nodes.List, node.nodes)), "join")
            case nodes.Compare() | nodes.Operand():
                node.expr = _charged(node.expr)
            case nodes.Getitem():
                node.node = _charged(node.node)  # a slice copies
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _charged(node)
        return node


def _like(node: nodes.Node, kind: Callable[..., Any], *fields: Any) -> Any:
    """Return a new node that stands where `node` stands."""
    return kind(*fields, lineno=node.lineno, environment=node.environment)


def _charged(node: nodes.Expr) -> nodes.Expr:
    return _filtered(node, _CHARGE)


def _filtered(node: nodes.Expr, name: str) -> nodes.Expr:
    filtered: nodes.Expr = _like(node, nodes.Filter, node, name, [], [], None, None)
    return filtered


def _refuse_hidden_names(template: nodes.Template) -> None:
    """Raise for a name, attribute or text in an expression with ``__``."""
    for node in template.find_all(nodes.Node):
        if isinstance(node, nodes.TemplateData):
            continue
        for _, value in node.iter_fields():
            values = value if isinstance(value, list) else [value]
            if any(isinstance(each, str) and "__" in each for each in values):
                raise TemplateSyntaxError("names with __ are not for templates", node.lineno)


def _line_of(error: BaseException) -> int:
    """Return the line of the template on which `error` was raised, or 0."""
    line, frame = 0, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
