"""A model and a tool that do not end by themselves, and how to wait for what others do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.model import ModelRequest, ModelResponse, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.core.model import ModelEvent
    from paddock.runtime.session.session import Session

__all__ = ["PATIENCE", "Hanging", "Stuck", "begins", "call", "until"]

PATIENCE = 60
"""Seconds that something which has to happen may take on a busy machine."""


def call(tool: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": tool, "arguments": arguments}


class Stuck:
    """A model that says a word and then nothing; knows whether its stream was closed."""

    def __init__(self) -> None:
        self.speaking = asyncio.Event()
        self.open = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.open += 1
        try:
            yield TextDelta(text="Well")
            self.speaking.set()
            await asyncio.Event().wait()
            yield ModelResponse(text="never")
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        """Nothing is open."""


class Hanging:
    """A tool that works until it is cancelled."""

    def __init__(self) -> None:
        self.working = asyncio.Event()
        self.ended = False

    async def __call__(self) -> str:
        self.working.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True
        return "never"

    __name__ = "hang"


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE)


def begins(session: Session) -> asyncio.Event:
    """Set when the session's next run has begun."""

    class Observer:
        def on_event(self, event: dict[str, Any]) -> None:
            begun.set()

    begun = asyncio.Event()
    session.state.add_observer(Observer())
    return begun
