"""Calling a function as a tool, and types of arguments and results."""

from __future__ import annotations

import enum
from collections.abc import Callable  # noqa: TC003 - annotations of tools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from paddock.runtime.core.context import RunContext
from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.tools.registry import ToolRegistry

if TYPE_CHECKING:
    import datetime as dt


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    number: int = 1


@dataclass
class Parcel:
    to: Address
    weight: float
    sent: dt.date | None = None


async def call(
    handler: Callable[..., Any], /, *, context: RunContext[Any] | None = None, **arguments: Any
) -> ToolOutput:
    registry = ToolRegistry()
    registry.register(handler)
    (name,) = registry
    given = RunContext(deps=None) if context is None else context
    return await registry.dispatch(ToolInvocation("1", name, arguments, given))
