"""How an agent's model is asked, and what it costs: the part of `AgentConfig` that is about that.

Values are checked here, and sent to the service as they are: which of them a model takes, only
its service knows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from paddock.errors import ConfigError
from paddock.runtime.core.model import Price

__all__ = ["OPTION_TYPES", "ModelOptions"]

OPTION_TYPES: Mapping[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "max_tokens": (int,),
    "seed": (int,),
    "stop": (str, list),
    "tool_choice": (str, Mapping),
    "parallel_tool_calls": (bool,),
    "timeout": (int, float),
    "idle_timeout": (int, float),
    "extra_body": (Mapping,),
    "extra_headers": (Mapping,),
    "prices": (Mapping,),
}
"""The keys of a file, and the types of their values there."""

_SENT = (
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "stop",
    "tool_choice",
    "parallel_tool_calls",
)
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "max_tokens": (1, 1e9),
    "seed": (-(2**63), 2**63 - 1),
    "timeout": (0.001, 86_400),
    "idle_timeout": (0.001, 86_400),
}
_OURS = frozenset({"model", "messages", "input", "tools", "stream", "system"})
"""Fields of a request that the conversation decides."""


def _seconds(name: str) -> Any:
    return field(default_factory=lambda: _from_environment(name))


def _from_environment(name: str) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r} is not a number of seconds") from None


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """See `AgentConfig`. None leaves a value to the service. Raises `ConfigError`."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    timeout: float | None = _seconds("PADDOCK_TIMEOUT")
    idle_timeout: float | None = _seconds("PADDOCK_IDLE_TIMEOUT")
    extra_body: Mapping[str, Any] | None = None
    extra_headers: Mapping[str, str] | None = field(default=None, repr=False)
    prices: Mapping[str, Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            _check_number(name, getattr(self, name), OPTION_TYPES[name], least, most)
        _check_stop(self.stop)
        if self.parallel_tool_calls not in (None, True, False):
            raise ConfigError(f"parallel_tool_calls: {self.parallel_tool_calls!r} is no boolean")
        choice: object = self.tool_choice
        if choice == "" or not isinstance(choice, str | Mapping | None):
            raise ConfigError("tool_choice: give auto, none, required or the name of a tool")
        _check_mapping("extra_body", self.extra_body)
        if taken := sorted(_OURS & set(self.extra_body or ())):
            raise ConfigError(f"extra_body: {', '.join(taken)} cannot be changed")
        _check_mapping("extra_headers", self.extra_headers)
        for name, value in (self.extra_headers or {}).items():
            _check_header(name, value)
        _check_mapping("prices", self.prices)
        for model, given in (self.prices or {}).items():
            _check_price(given, f"prices.{model}")

    @property
    def sent(self) -> dict[str, Any]:
        """The options that are set, by their names in chat completions."""
        values = {name: getattr(self, name) for name in _SENT}
        return {name: value for name, value in values.items() if value is not None}

    def price_of(self, model: str) -> Price | None:
        """What `model` costs, if `prices` has it."""
        given = (self.prices or {}).get(model)
        return None if given is None else Price(**given)


def _check_number(
    name: str, value: object, types: tuple[type, ...], least: float, most: float
) -> None:
    if value is None:
        return
    good = isinstance(value, types) and not isinstance(value, bool)
    if not good or not least <= value <= most:  # type: ignore[operator]
        kind = "number" if float in types else "whole number"
        raise ConfigError(f"{name}: {value!r} is not a {kind} from {least:g} to {most:g}")


def _check_stop(stop: object) -> None:
    if stop is None or (isinstance(stop, str) and stop):
        return
    if not isinstance(stop, list | tuple) or not all(isinstance(e, str) and e for e in stop):
        raise ConfigError("stop: give a text, or a list of texts, that ends the answer")


def _check_mapping(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{name}: give a mapping of names")


def _check_header(name: str, value: object) -> None:
    text = isinstance(value, str) and value.isprintable() and value.isascii()
    if not text or not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"extra_headers.{name}: not a header's name and value")


def _check_price(given: object, place: str) -> None:
    names = [each.name for each in fields(Price)]
    if not isinstance(given, Mapping) or not {"input", "output"} <= set(given) <= set(names):
        raise ConfigError(f"{place}: give input and output, and of {', '.join(names)} only")
    for name, value in given.items():
        _check_number(f"{place}.{name}", value, (int, float), 0, 1e9)
