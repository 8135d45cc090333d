"""Requests of other processes to a run: to end, to wait, or to read a message.

They make them by files in the session's directory.
Knows no agent and no model.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.runtime.core.events import MessageAdded
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.conversation.directory import SessionDirectory
    from paddock.runtime.core.emitter import Emitter

__all__ = ["Control"]

LOOK_INTERVAL = 0.1
"""Seconds between two looks for the cancel file while a model streams: looking for it at
each piece of text would cost more than showing the text."""

PAUSE_INTERVAL = 0.5
"""Seconds between two looks at the file that pauses a session."""


@dataclass(kw_only=True)
class Control:
    """Reads the requests to one run."""

    directory: SessionDirectory | None
    _next_look: float = 0.0

    @property
    def poll(self) -> Callable[[], str | None] | None:
        """A function that returns why the run is to be cancelled, or None; None without a
        directory."""
        return None if self.directory is None else self._poll

    async def before_call(self, out: Emitter, check: Callable[[], Awaitable[None]]) -> None:
        """Wait while the session is paused, then emit the waiting messages as the user's.

        `check` is awaited while the run waits. A message is removed after it was recorded: a
        process that dies in between leaves it to be taken once more.
        """
        if self.directory is None:
            return
        paused = self.directory.paused()
        while paused:
            await asyncio.sleep(PAUSE_INTERVAL)
            paused = self.directory.paused()
            self._next_look = 0.0  # a cancellation ends the pause too, and comes before its end
            await check()
        with self.directory.directives() as texts:
            for text in texts:
                message = {"role": "user", "content": clean_text(text)}
                await out.emit(MessageAdded(message=message))

    def _poll(self) -> str | None:
        if self.directory is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_INTERVAL
            if self.directory.cancel_requested():
                return "requested"
        return None
