"""What a server asks a person in the middle of a call, by MCP's elicitation.

A server is not trusted: it may ask when no call runs, ask without end, and send any form. Whoever
approves the agent's calls is shown the server's name and its words, and answers or declines.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.errors import MissingDependency
from paddock.runtime.core.approval import Question
from paddock.runtime.core.pausing import ANSWER_TIMEOUT
from paddock.runtime.core.tasks import OwnedTasks
from paddock.runtime.core.text import clean_text
from paddock.runtime.tools.arguments import ArgumentError, fit_arguments, object_schema

try:
    import mcp_types as types
except ImportError as error:
    raise MissingDependency(error.name or "mcp", "mcp") from error

if TYPE_CHECKING:
    from paddock.runtime.core.context import RunContext
    from paddock.runtime.core.pausing import PausableTimeout

__all__ = ["Ask", "RunningCalls", "ask_user"]

NAME = "mcp_elicitation"
"""What a question is called where calls are approved. It is the name of no tool, so that nothing
that approves a tool by its name answers it."""

MAX_QUESTIONS = 10
"""Of one call; a server that asks more often asks without end."""

MAX_MESSAGE = 4000
"""Characters of a question that are shown."""

MAX_FIELDS = 50
"""Of a form: a person fills it in."""

MAX_NAME = 200
"""Characters of the name of a field; one of a longer name is left out."""

MAX_CHOICES = 100
"""Of one field."""

_TYPES = frozenset({"string", "number", "integer", "boolean", "array"})
_TEXTS = frozenset({"title", "description", "const"})
_LISTS = frozenset({"enum", "enumNames", "oneOf", "anyOf"})

_log = get_logger(__name__)

Ask = Callable[["types.ElicitRequestFormParams"], Awaitable["types.ElicitResult"]]


def _declined() -> types.ElicitResult:
    return types.ElicitResult(action="decline")


class RunningCalls:
    """The calls that run on one connection: a server may ask only for one of them.

    Where its question does not say for which, it is taken to be for the one that began last.
    """

    def __init__(self) -> None:
        self._calls: list[_RunningCall] = []

    @contextlib.asynccontextmanager
    async def during(self, ask: Ask, clock: PausableTimeout) -> AsyncIterator[None]:
        """Let the server ask by `ask` during the block. What it asks then ends with the block."""
        call = _RunningCall(ask, clock)
        self._calls.append(call)
        token = _own_call.set(call)
        try:
            yield
        finally:
            _own_call.reset(token)
            self._calls.remove(call)
            await call.end()

    async def answer(
        self, context: object, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        """Answer a request of the server; decline it if no call runs that it could be for."""
        if not self._calls or not isinstance(params, types.ElicitRequestFormParams):
            return _declined()
        call = _own_call.get()  # known where the question came as a call's result
        return await (call or self._calls[-1]).answer(params)


class _RunningCall:
    def __init__(self, ask: Ask, clock: PausableTimeout) -> None:
        self._questions = OwnedTasks()
        self._ask = ask
        self._clock = clock
        self._asked = 0
        self._turn = asyncio.Lock()

    async def answer(self, params: types.ElicitRequestFormParams) -> types.ElicitResult:
        self._asked += 1
        if self._asked > MAX_QUESTIONS:
            return _declined()
        answer = self._answer(params)
        return await self._questions.run(answer, name="question of an MCP server") or _declined()

    async def end(self) -> None:
        """Withdraw what is asked now."""
        await self._questions.aclose()

    async def _answer(self, params: types.ElicitRequestFormParams) -> types.ElicitResult:
        with self._clock.paused():
            try:
                async with self._turn, asyncio.timeout(ANSWER_TIMEOUT):
                    return await self._ask(params)
            except Exception as error:
                _log.warning(
                    "the question of an MCP server was declined: %s", str(error) or "no answer"
                )
                return _declined()


_own_call: contextvars.ContextVar[_RunningCall | None] = contextvars.ContextVar(
    "call", default=None
)


async def ask_user(
    context: RunContext[Any], server: str, tool: str, params: types.ElicitRequestFormParams
) -> types.ElicitResult:
    """Ask the approver of this run's calls. Decline if no one can be asked, and for an
    answer that does not fit the form."""
    form = _fit_form(params.requested_schema)
    defaults = {n: each["default"] for n, each in form["properties"].items() if "default" in each}
    text = {"type": "string"}
    args = {
        "server": server,
        "tool": tool,
        "message": clean_text(params.message[:MAX_MESSAGE]),
        "answer": defaults,
    }
    names = list(args)
    parameters = object_schema(required=names, server=text, tool=text, message=text, answer=form)
    decision = await context.ask(Question(name=NAME, args=args, parameters=parameters))
    if decision is None or not decision.runs:
        return _declined()
    answer = {**args, **(decision.partial or {})}["answer"]
    try:
        return types.ElicitResult(action="accept", content=fit_arguments(form, answer))
    except (ArgumentError, ValueError) as error:
        _log.warning("the answer to %s does not fit its form, and is declined: %s", server, error)
        return _declined()


def _fit_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form that `schema` describes: fields of plain values, by their names."""
    found = schema.get("properties")
    fields = found if isinstance(found, dict) else {}
    properties = {
        clean_text(str(name)): _fit_field(field)
        for name, field in list(fields.items())[:MAX_FIELDS]
        if isinstance(field, dict) and len(name) <= MAX_NAME
    }
    found = schema.get("required")
    required = found if isinstance(found, list) else []
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name in required],
        "additionalProperties": False,
    }


def _fit_field(field: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person needs of a field, and what an answer is checked against."""
    fitted: dict[str, Any] = {}
    for word, value in field.items():
        if word in _TEXTS and isinstance(value, str):
            fitted[word] = clean_text(value[:MAX_MESSAGE])
        elif word == "type" and isinstance(value, str) and value in _TYPES:
            fitted[word] = value
        elif word in _LISTS and isinstance(value, list):
            fitted[word] = [_fit_choice(each) for each in value[:MAX_CHOICES]]
        elif word == "items" and isinstance(value, dict):
            fitted[word] = _fit_field(value)
        elif word == "default" and _is_plain(value):
            fitted[word] = value
    return fitted


def _is_plain(value: object) -> bool:
    """Whether `value` may be in an answer, and is short enough to be shown."""
    if isinstance(value, list):
        return len(value) <= MAX_CHOICES and all(map(_is_short, value))
    return isinstance(value, bool | int | float) or _is_short(value)


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_MESSAGE


def _fit_choice(choice: object) -> object:
    if isinstance(choice, dict):
        return {word: choice[word] for word in _TEXTS if isinstance(choice.get(word), str)}
    return clean_text(str(choice)[:MAX_MESSAGE])
