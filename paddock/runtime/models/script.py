"""Scripts for a model: turns, and the files that people write them in.

Knows nothing of requests; `paddock.runtime.models.scripted` plays what is read here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads the annotations
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from paddock.errors import ConfigError
from paddock.runtime.core.model import Usage
from paddock.runtime.core.yamltext import decode, read_yaml

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ScriptedCall", "ScriptedTurn", "parse_turn", "read_turns"]


@dataclass(frozen=True, kw_only=True)
class ScriptedCall:
    """A tool call. `arguments` given as text go out as they are, valid JSON or not."""

    name: str
    arguments: Mapping[str, Any] | str = "{}"
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScriptedTurn:
    """One answer of the model.

    `expect` (a substring) and `expect_regex` are looked for in what came since the last
    answer: the tool results, or the user's message. When they are not there, the turn
    fails with a `ModelError` instead of playing on beside the facts.

    `thinking` comes before the text where the protocol has a place for it, Anthropic's.
    `delay` is in seconds, before the first piece of text. A turn with an `error` fails
    with that message, and with `status` as its HTTP status.
    """

    text: str = ""
    tool_calls: Sequence[ScriptedCall] = ()
    usage: Usage = field(default_factory=Usage)
    delay: float = 0.0
    expect: str | None = None
    expect_regex: str | None = None
    error: str | None = None
    status: int | None = None
    finish_reason: str | None = None
    thinking: str = ""


def read_turns(path: Path) -> list[ScriptedTurn]:
    """The turns in a YAML or JSON file: a list, or a mapping with that list as `turns`.

    Raises `ConfigError` that names the file and the place in it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror or error}; give a YAML or JSON file with a list of turns"
        ) from error
    content = _read_json(data, path) if path.suffix == ".json" else _read_yaml(data, path)
    turns = content.get("turns") if isinstance(content, dict) else content
    if not isinstance(turns, list):
        raise ConfigError(f"{path}: a script is a list of turns, or a mapping with it as `turns`")
    return [parse_turn(turn, f"{path}: turn {number}") for number, turn in enumerate(turns, 1)]


def _read_yaml(data: bytes, path: Path) -> Any:
    return read_yaml(decode(data, source=str(path)), source=str(path)).data


def _read_json(data: bytes, path: Path) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_turn(content: object, place: str) -> ScriptedTurn:
    """A turn from a mapping. `place` begins each line of a `ConfigError`."""
    try:
        (turn,) = _adapter().validate_python([content])
    except ValidationError as error:
        faults = [
            f"{place}{_location(fault['loc'][1:])}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        ]
        raise ConfigError("\n".join(faults)) from error
    try:
        re.compile(turn.expect_regex or "")
    except re.error as error:
        raise ConfigError(f"{place}, expect_regex: {error}") from error
    return turn


@cache
def _adapter() -> TypeAdapter[list[ScriptedTurn]]:
    # The config reaches the dataclasses only through a type that has none of its own: a list.
    return TypeAdapter(list[ScriptedTurn], config=ConfigDict(extra="forbid"))


def _location(parts: Sequence[int | str]) -> str:
    """``("tool_calls", 0, "name")`` as ``, tool_calls[0].name``."""
    steps = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return f", {steps.removeprefix('.')}" if steps else ""
