"""A prompt that runs in the background: its status, cancelling it, waiting for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from paddock.errors import SessionError
from paddock.runtime.core.inside import is_awaited_by

if TYPE_CHECKING:
    from paddock.runtime.conversation.results import RunResult
    from paddock.runtime.core.cancellation import CancellationToken
    from paddock.runtime.core.content import Prompt
    from paddock.runtime.core.events import RunStatus
    from paddock.runtime.service.runtime import AgentRuntime

__all__ = ["AgentHandle"]


@dataclass(kw_only=True, eq=False)
class AgentHandle:
    """A prompt that was dispatched. `token` is the one that it was dispatched with, which
    others may share; `cancel` cancels this run alone."""

    runtime: AgentRuntime
    prompt: Prompt
    task: asyncio.Task[RunResult]
    token: CancellationToken | None = None
    _own: CancellationToken | None = field(default=None, repr=False)

    def done(self) -> bool:
        return self.task.done()

    @property
    def status(self) -> RunStatus | Literal["running"]:
        """``running``, or how it ended: as `RunResult.status`, ``error`` after an exception."""
        if not self.task.done():
            return "running"
        if self.task.cancelled():
            return "cancelled"
        if self.task.exception() is not None:
            return "error"
        return self.task.result().status

    def cancel(self, reason: str = "requested") -> None:
        """Ask the run to stop; `wait` returns its result. Only the first reason is kept.

        May be called from any thread. A handle that was made without a token cancels its
        task, and `wait` raises `asyncio.CancelledError`.
        """
        token = self._own or self.token
        if self.done() or (token is not None and token.is_cancelled()):
            return
        if self.runtime.observability is not None:
            self.runtime.observability.note(cancel_source="programmatic", cancel_reason=reason)
        if token is not None:
            token.cancel(reason)
        else:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel, reason)

    async def wait(self) -> RunResult:
        """The result; raises what the run raised. A wait that is cancelled leaves the run be.

        Raises `SessionError` in a callback or a tool of the run itself.
        """
        if is_awaited_by(self.task):
            raise SessionError("a run cannot wait for its own end: the caller is part of it")
        return await asyncio.shield(self.task)
