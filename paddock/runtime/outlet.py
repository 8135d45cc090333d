"""Where a run's events go. Knows neither what makes them nor who looks."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from paddock.runtime.core.redacted import redacted
from paddock.runtime.results import AgentEvent, agent_event

if TYPE_CHECKING:
    from paddock.runtime.conversation.journal import Journal
    from paddock.runtime.core.events import Event

__all__ = ["EventCallback", "Outlet", "RunOutlet"]

EventCallback = Callable[[AgentEvent], Awaitable[None] | None]
"""Shown each event of a run as it happens; a slow one slows the run."""


class Outlet(Protocol):
    """Where events go. `record` keeps one, `show` shows it; `emit` does both, in this order."""

    def record(self, event: Event) -> None: ...

    async def show(self, event: Event) -> None: ...

    async def emit(self, event: Event) -> None: ...

    async def sync(self) -> None:
        """Return when what was recorded would survive the machine."""
        ...


class RunOutlet:
    """Events go to the journal first, then, as the SDK shows them, to the callback."""

    def __init__(self, journal: Journal, on_event: EventCallback | None) -> None:
        self._journal = journal
        self._on_event = on_event
        self.events: list[AgentEvent] = []

    def record(self, event: Event) -> None:
        self._journal.record(event)

    async def show(self, event: Event) -> None:
        shown = agent_event(redacted(event, self._journal.redactor))
        if shown is None:
            return
        self.events.append(shown)
        if self._on_event is not None:
            waiting = self._on_event(shown)
            if inspect.isawaitable(waiting):
                await waiting

    async def emit(self, event: Event) -> None:
        self._journal.record(event)
        await self.show(event)

    async def sync(self) -> None:
        await self._journal.sync()
