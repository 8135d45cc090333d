"""A model's tool calls, made fit for history and for dispatch. Knows no tool.

What a model sends may be anything: text that is no JSON, ids that are empty or come
twice. History has to be valid for the next request whatever it was, so what cannot be
kept is replaced there, and told to the model in the call's result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.jsontext import read_json
from paddock.runtime.core.model import ToolCall
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from paddock.runtime.core.approval import Decision

__all__ = ["OpenCall", "PreparedCall", "parse_arguments", "prepare_calls", "reopened"]

MAX_ARGUMENTS = 4 * 1024 * 1024
"""Characters of arguments: far more than any model writes in one answer."""

MAX_NESTING = 64
SHOWN_ARGUMENTS = 300
"""Characters of unreadable arguments that the model gets to see again."""

CUT_OFF = (
    "Not run: your answer met the limit of its length in the middle of this call, so its "
    "arguments are incomplete. Call again with less: for example, write a long file in parts."
)

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A tool call without a result. It may have had an effect only if it was `started`; then it is
    entered again only if it is `resumable`.

    Where an approval was asked for, or given, `digest` is what for, `approval_id` its name in
    the store, and `decision` the answer, None while it is waited for.
    """

    id: str
    name: str
    arguments: str
    started: bool = False
    resumable: bool = False
    digest: str | None = None
    approval_id: str = ""
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCall:
    """One call. With a `problem` it is not to be run: that is its result.

    `arguments` are those that it runs with, `raw` those that the model gave. `note` is for the
    model, before the result: what the approver of the call said or changed. One that is
    `resumed` had begun in an earlier run.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    raw: str
    problem: str | None = None
    note: str = ""
    resumed: bool = False

    def as_sent(self) -> ToolCall:
        """The call as history keeps it."""
        return ToolCall(id=self.id, name=self.name, arguments=self.raw)


def prepare_calls(
    calls: Sequence[ToolCall], used: Callable[[str], bool], *, cut: bool = False
) -> list[PreparedCall]:
    """`calls` with ids that are unique; `used` tells which ids the session had before.

    If the answer was `cut` at the limit of its length, a last call that is not whole is not run.

    An empty id gets a name of its own, and an id from an earlier answer a new ending.
    Of calls that share an id in one answer only the first is run.
    """
    taken: set[str] = set()
    prepared = []
    for number, call in enumerate(calls, 1):
        wanted = clean_text(call.id) or f"call_{number}"
        name = _NOT_IN_NAME.sub("_", call.name)[:_MAX_NAME] or "unnamed"
        call_id = _unique(wanted, lambda other: other in taken or used(other))
        taken.add(call_id)
        arguments, problem = parse_arguments(call.arguments)
        if call.id and sum(call.id == other.id for other in calls[:number]) > 1:
            problem = f"Not run: another call of this answer has the same id, {call.id!r}."
        elif cut and number == len(calls) and (problem or not call.arguments.strip()):
            problem = CUT_OFF
        raw = "{}" if problem and not arguments else clean_text(call.arguments)
        prepared.append(
            PreparedCall(
                id=call_id, name=name, arguments=arguments, raw=raw or "{}", problem=problem
            )
        )
    return prepared


def reopened(calls: Iterable[OpenCall]) -> list[PreparedCall]:
    """Calls of an earlier run without a result yet, to continue with. Their ids are kept."""
    prepared = []
    for call in calls:
        arguments, problem = parse_arguments(call.arguments)
        prepared.append(
            PreparedCall(
                id=call.id,
                name=call.name,
                arguments=arguments,
                raw=call.arguments,
                problem=problem,
                resumed=call.started,
            )
        )
    return prepared


def _unique(wanted: str, taken: Callable[[str], bool]) -> str:
    candidate, number = wanted, 2
    while taken(candidate):
        candidate = f"{wanted}-{number}"
        number += 1
    return candidate


def parse_arguments(text: str) -> tuple[dict[str, Any], str | None]:
    """The arguments in a call's JSON text, or none and what is wrong with it."""
    if not text.strip():
        return {}, None  # what some providers send for a tool without arguments
    try:
        if len(text) > MAX_ARGUMENTS:
            raise ValueError(f"they are longer than {MAX_ARGUMENTS} characters")
        value = read_json(text)
        if not isinstance(value, dict):
            raise ValueError("they are not an object")
        if text.count("{") + text.count("[") > MAX_NESTING and _depth(value) > MAX_NESTING:
            raise ValueError(f"they are nested deeper than {MAX_NESTING} levels")
    except (ValueError, RecursionError) as error:
        shown = clean_text(text[:SHOWN_ARGUMENTS]) + ("..." if len(text) > SHOWN_ARGUMENTS else "")
        return {}, f"Invalid arguments: {error}. They were: {shown}"
    return value, None


def _depth(value: object) -> int:
    deepest = 0
    todo = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, dict | list):
            deepest = max(deepest, depth)
            inner = item.values() if isinstance(item, dict) else item
            todo.extend((child, depth + 1) for child in inner)
    return deepest
