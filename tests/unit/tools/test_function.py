"""Functions as tools: what the model is offered, and what the function gets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import sys
from collections.abc import Callable, Iterator  # noqa: TC003 - annotations of tools
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import pytest
from pydantic import BaseModel, Field

from paddock.errors import ConfigError
from paddock.runtime.core.context import RunContext
from paddock.runtime.core.tool import RunAborted, ToolInvocation
from paddock.runtime.tools.function import FunctionTool, tool
from paddock.runtime.tools.registry import ToolRegistry
from tests.unit.tools.calling import Address, Colour, Parcel, call

if TYPE_CHECKING:
    from fractions import Fraction


@dataclasses.dataclass
class Shop:
    prices: dict[str, str]


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    return dict(tool(function).parameters)


def test_the_schema_comes_from_the_annotations_and_the_texts_from_the_docstring() -> None:
    @tool
    def search(
        query: str,
        limit: int = 10,
        order: Literal["new", "old"] = "new",
        colour: Colour | None = None,
        within: Annotated[float, Field(gt=0, description="Kilometres.")] = 1.5,
    ) -> str:
        """Search for things.

        All of them.

        Args:
            query: What to look for,
                in any language.
            within: Is described already.

        Returns:
            One line for each.
        """
        return query

    assert search.to_spec()["function"] == {
        "name": "search",
        "description": "Search for things.\n\nAll of them.\n\nReturns: One line for each.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What to look for,\nin any language."},
                "limit": {"type": "integer", "default": 10},
                "order": {"type": "string", "enum": ["new", "old"], "default": "new"},
                "colour": {
                    "anyOf": [{"$ref": "#/$defs/Colour"}, {"type": "null"}],
                    "default": None,
                },
                "within": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "description": "Kilometres.",
                    "default": 1.5,
                },
            },
            "required": ["query"],
            "additionalProperties": False,
            "$defs": {"Colour": {"enum": ["red", "blue"], "title": "Colour", "type": "string"}},
        },
    }
    assert search("x") == "x", "it can still be called"


@pytest.mark.parametrize(
    "text",
    [
        "Ask.\n\n    Args:\n        a: The first.\n        b (int): The second.",
        "Ask.\n\n    Parameters\n    ----------\n    a : str\n        The first.\n"
        "    b : int\n        The second.",
        "Ask.\n\n    :param a: The first.\n    :param int b: The second.",
    ],
    ids=["google", "numpy", "rest"],
)
def test_docstrings_of_each_style_describe_the_parameters(text: str) -> None:
    def ask(a: str, b: int) -> None: ...

    ask.__doc__ = text
    handler = tool(ask)
    assert handler.description == "Ask."
    described = {name: each["description"] for name, each in schema(ask)["properties"].items()}
    assert described == {"a": "The first.", "b": "The second."}


async def test_arguments_arrive_as_values_of_the_parameters_types() -> None:
    got: list[Any] = []

    @tool
    def take(
        parcel: Parcel,
        colours: set[Colour],
        price: Decimal,
        where: tuple[int, int],
        address: Address,
        schema: int,
        _private: str,
        note: str | None = "none",
    ) -> None:
        got.extend((parcel, colours, price, where, address, schema, _private, note))

    output = await call(
        take,
        parcel={"to": {"street": "Main"}, "weight": "2.5", "sent": "2026-11-30"},
        colours=["red"],
        price="1.10",
        where=[1, 2],
        address='{"street": "Side", "number": "7"}',
        schema="5",
        _private="x",
        note=None,
    )
    assert output.success, output.content
    main, side = Address(street="Main"), Address(street="Side", number=7)
    day = dt.date(2026, 11, 30)
    assert got == [
        Parcel(main, 2.5, day), {Colour.RED}, Decimal("1.10"), (1, 2), side, 5, "x", None
    ]  # fmt: skip


async def test_null_for_what_has_a_default_and_takes_no_null_counts_as_absent() -> None:
    def take(limit: int = 3, tags: list[str] = [], extra: int = Field(4, gt=1)) -> str:  # noqa: B006
        return f"{limit} {tags} {extra}"

    assert (await call(take, limit=None, tags=None)).content == "3 [] 4"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "missing required argument 'parcel'"),
        ({"parcel": {"weight": 1, "to": {}}}, "missing required argument 'parcel.to.street'"),
        (
            {"parcel": {"weight": "heavy", "to": {"street": "x"}}},
            "argument 'parcel.weight': Input should be a valid number, unable to parse string as "
            'a number, not "heavy"',
        ),
        ({"parcel": 5}, "argument 'parcel': Input should be"),
        ({"other": 1}, "unknown argument 'other' (known: parcel)"),
        ({"parcel": "{"}, "argument 'parcel': Input should be"),
    ],
)
async def test_the_model_is_told_what_does_not_fit_and_the_function_is_not_called(
    arguments: dict[str, Any], problem: str
) -> None:
    def take(parcel: Parcel) -> None:
        raise AssertionError("called")

    output = await call(take, **arguments)
    assert not output.success
    assert problem in output.content
    assert output.metadata == {"error": "ArgumentError"}


class NoSchema:
    """A class that pydantic knows nothing of."""


def positional(a: int, /) -> None: ...
def several(*names: str) -> None: ...
def anything(**options: str) -> None: ...
def unsaid(a, b: int) -> None: ...  # type: ignore[no-untyped-def]
def strange(ok: int, what: NoSchema) -> None: ...
def called(ok: int, what: Callable[[], int]) -> None: ...
def hidden(what: Fraction) -> None: ...
def late(a: int, ctx: RunContext[None]) -> None: ...
def generates(a: int) -> Iterator[int]:
    yield a


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (positional, "'positional': parameter 'a' is positional-only"),
        (several, "'several': parameter 'names' takes any number of values"),
        (anything, "'anything': parameter 'options' takes any names"),
        (unsaid, "'unsaid': parameter 'a' has no annotation"),
        (strange, "'strange': parameter 'what' has no JSON schema: Unable to generate.*NoSchema"),
        (called, "'called': parameter 'what' has no JSON schema"),
        (hidden, "'hidden': parameter 'what': its annotation 'Fraction' cannot be evaluated"),
        (late, "'late': parameter 'ctx': only the first parameter can be a RunContext"),
        (generates, "'generates' is a generator function"),
        (lambda: "x", "'<lambda>' needs another name"),
        (print, "'print'"),
        (Address, "Address is a class; give an instance of it as a tool"),
        (5, "a tool is a function or a ToolHandler, not 5"),
    ],
)
def test_what_has_no_schema_is_refused_where_it_is_defined(function: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ToolRegistry().register(function)


async def test_types_of_the_function_around_are_known() -> None:
    class Inner(BaseModel):
        number: int

    @dataclasses.dataclass
    class Outer:
        inner: Inner
        more: list[Inner]

    class Counter:
        @tool
        def add(self, outer: Outer) -> int:
            return outer.inner.number + sum(each.number for each in outer.more)

    given = {"inner": {"number": 1}, "more": [{"number": 2}]}
    assert (await call(Counter().add, outer=given)).content == "3"

    def undecorated(outer: Outer) -> int:
        return outer.inner.number

    assert (await call(undecorated, outer=given)).content == "1"


async def test_the_context_is_passed_and_not_in_the_schema() -> None:
    @tool
    async def price(ctx: RunContext[Shop], fruit: str) -> str:
        return ctx.deps.prices[fruit]

    assert list(price.parameters["properties"]) == ["fruit"]
    context = RunContext(deps=Shop({"pear": "0.55"}))
    assert (await call(price, context=context, fruit="pear")).content == "0.55"
    with pytest.raises(RunAborted, match=r"needs deps of type Shop, not NoneType: give them to"):
        await price.handle(ToolInvocation("1", "price", {"fruit": "pear"}, RunContext(deps=None)))


class Priced(Protocol):
    prices: dict[str, str]


async def test_dependencies_of_types_that_cannot_be_checked_are_passed_as_they_are() -> None:
    @tool
    def first(ctx: RunContext[Any]) -> str:
        return str(ctx.deps.prices["pear"])

    @tool
    def second(ctx: RunContext[Priced]) -> str:
        return ctx.deps.prices["pear"]

    context = RunContext(deps=Shop({"pear": "0.55"}))
    for each in (first, second):
        assert (await call(each, context=context)).content == "0.55"


async def test_dependencies_may_be_imported_for_type_checkers_only() -> None:
    @tool
    def half(ctx: RunContext[Fraction], of: int) -> str:
        return str(ctx.deps)

    assert list(half.parameters["properties"]) == ["of"]
    assert (await call(half, context=RunContext(deps="any"), of=1)).content == "any"


class Warehouse:
    def __init__(self, stock: int) -> None:
        self.stock = stock

    @tool
    def take(self, count: int) -> int:
        """Take some out."""
        self.stock -= count
        return self.stock

    @tool(name="refill", requires_approval=True)
    async def fill(self, ctx: RunContext[None], count: int) -> str:
        return f"{ctx.call_id}: {self.stock + count}"

    @staticmethod
    @tool
    def unit(of: str) -> str:
        return f"kg of {of}"

    @tool
    @classmethod
    def kind(cls, of: str) -> str:
        return f"{cls.__name__} of {of}"

    def plain(self, count: int) -> int:
        return self.stock * count

    def __call__(self, count: int) -> int:
        """Count."""
        return count


async def test_methods_are_tools_of_their_instance() -> None:
    one, two = Warehouse(10), Warehouse(20)
    assert (await call(one.take, count=3)).content == "7"
    assert (await call(two.take, count=3)).content == "17"
    assert one.take(1) == 6
    context = RunContext(deps=None, call_id="c")
    assert (await call(two.fill, context=context, count=1)).content == "c: 18"
    assert (two.fill.name, two.fill.requires_approval) == ("refill", True)
    assert (await call(one.unit, of="tea")).content == "kg of tea"
    assert (await call(one.kind, of="tea")).content == "Warehouse of tea"
    assert (await call(Warehouse.kind, of="tea")).content == "Warehouse of tea"
    assert (await call(one.plain, count=2)).content == "12"
    with pytest.raises(ConfigError, match="'take' is a method: give that of an instance"):
        ToolRegistry([Warehouse.take])


async def test_whatever_can_be_called_is_a_tool() -> None:
    counter = tool(Warehouse(1), name="count")
    assert counter.description == "Count."
    assert (await call(counter, count=5)).content == "5"

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    fixed = tool(functools.partial(add, b=1))
    assert (fixed.name, fixed.description) == ("add", "Add.")
    assert list(fixed.parameters["properties"]) == ["a"]
    assert (await call(fixed, a=1)).content == "2"

    @functools.wraps(add)
    def wrapped(*args: Any, **kwargs: Any) -> int:
        return add(*args, **kwargs) * 10

    assert (await call(wrapped, a=1, b=2)).content == "30"


def test_a_tool_is_no_function_to_make_a_tool_of() -> None:
    with pytest.raises(ConfigError, match="'take' is a tool already"):
        tool(Warehouse.take)
    assert isinstance(Warehouse.take, FunctionTool)


def test_a_default_that_json_lacks_is_not_in_the_schema_and_counts() -> None:
    def wait(timeout: float = float("inf"), where: object = sys.stdout) -> None: ...

    assert schema(wait)["properties"] == {"timeout": {"type": "number"}, "where": {}}
