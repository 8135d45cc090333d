"""A model that says what a script says. Needs no network and no key.

A script is a list of turns, one for each answer of the model, in a file or in Python::

    - text: I run the tests first.
      tool_calls:
        - name: bash
          arguments: {command: python -m pytest -q}
    - expect: 1 failed
      tool_calls:
        - {name: read, arguments: {path: calc.py}}
    - text: Done.

The model keeps no state: which turn comes is the number of answers already in the
request, so one script serves any number of conversations at once, and a resumed
conversation continues where it stopped.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.errors import ModelError
from paddock.runtime.core.model import (
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    TextDelta,
    ToolCall,
)
from paddock.runtime.models._content import text_of
from paddock.runtime.models.script import ScriptedCall, ScriptedTurn, parse_turn, read_turns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Script", "ScriptedCall", "ScriptedModel", "ScriptedTurn", "pieces", "response_of"]

Script = Sequence[ScriptedTurn | Mapping[str, Any] | Callable[[ModelRequest], Any]]
"""Turns, the same as mappings, or functions from the request to a turn or a mapping."""


class ScriptedModel:
    """A `ModelClient` that replays `turns`. `name` stands for the script in errors.

    Mappings are checked at once; `ConfigError` names the turn and the field.
    """

    def __init__(self, turns: Script, *, name: str = "script") -> None:
        self._name = name
        self._turns: list[ScriptedTurn | Callable[[ModelRequest], Any]] = [
            turn if callable(turn) else _as_turn(turn, f"{name}: turn {number}")
            for number, turn in enumerate(turns, 1)
        ]

    @classmethod
    def from_file(cls, path: str | Path) -> ScriptedModel:
        """Read a YAML or JSON file: a list of turns, or a mapping with that list as `turns`.

        Raises `ConfigError` that names the file and the place in it.
        """
        return cls(read_turns(Path(path)), name=str(path))

    def turn(self, request: ModelRequest) -> ScriptedTurn:
        """The turn that answers `request`, with an id for each of its calls.

        Raises `ModelError` when the script has no turn left, or when the conversation is
        not where the turn expects it to be.
        """
        index = sum(message.get("role") == "assistant" for message in request.messages)
        place = f"{self._name}: turn {index + 1}"
        if index >= len(self._turns):
            raise ModelError(f"{place} was asked for, and the script has {len(self._turns)}")
        entry = self._turns[index]
        turn = entry if isinstance(entry, ScriptedTurn) else _as_turn(entry(request), place)
        _check_expectations(turn, request.messages, place)
        calls = [
            replace(call, id=call.id or f"call_{index + 1}_{number}")
            for number, call in enumerate(turn.tool_calls, 1)
        ]
        return replace(turn, tool_calls=calls)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Yield the turn's text word by word, then the whole answer."""
        turn = self.turn(request)
        await asyncio.sleep(turn.delay)
        if turn.error is not None:
            raise _as_model_error(turn.error, turn.status)
        for piece in pieces(turn.text):
            yield TextDelta(text=piece)
        yield response_of(turn)

    async def aclose(self) -> None:
        """Nothing is open."""


def pieces(text: str) -> list[str]:
    """`text` cut after each run of white space."""
    return re.findall(r"\s*\S+\s*|\s+", text)


def response_of(turn: ScriptedTurn) -> ModelResponse:
    """The whole answer that `turn`, as `ScriptedModel.turn` gave it, stands for."""
    return ModelResponse(
        text=turn.text,
        tool_calls=tuple(
            ToolCall(id=call.id or "", name=call.name, arguments=_json_text(call.arguments))
            for call in turn.tool_calls
        ),
        usage=turn.usage,
        finish_reason=turn.finish_reason or ("tool_calls" if turn.tool_calls else "stop"),
        is_priced=True,  # at what the script says, or nothing
    )


def _as_turn(content: object, place: str) -> ScriptedTurn:
    return content if isinstance(content, ScriptedTurn) else parse_turn(content, place)


def _as_model_error(error: str, status: int | None) -> ModelError:
    """What a service's client raises; without a status, the error is raised unchanged."""
    if status is None:
        return ModelError(error)
    return ModelError(f"API error {status} (after retries): {error}", status=status)


def _json_text(arguments: Mapping[str, Any] | str) -> str:
    # `default`: YAML has dates, JSON has none.
    return arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)


def _check_expectations(turn: ScriptedTurn, messages: Sequence[Message], place: str) -> None:
    if turn.expect is None and turn.expect_regex is None:
        return
    told = _text_since_last_answer(messages)
    if turn.expect is not None and turn.expect not in told:
        raise ModelError(f"{place} expects {turn.expect!r}, and was told:\n{told}")
    if turn.expect_regex is not None and not re.search(turn.expect_regex, told):
        raise ModelError(f"{place} expects a match of {turn.expect_regex!r}, and was told:\n{told}")


def _text_since_last_answer(messages: Sequence[Message]) -> str:
    texts: list[str] = []
    for message in reversed(messages):
        if message.get("role") == "assistant":
            break
        texts.append(text_of(message.get("content")))
    return "\n".join(reversed(texts))
