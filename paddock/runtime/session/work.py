"""The work of a session: one run or compaction at a time, from its beginning to its end."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import SessionError
from paddock.runtime.conversation.directory import noted
from paddock.runtime.conversation.results import AgentEvents
from paddock.runtime.core.emitter import Emitter
from paddock.runtime.core.ending import Ending
from paddock.runtime.core.inside import is_inside, part_of
from paddock.runtime.core.reach import require_out_of_reach
from paddock.runtime.session.settings import SessionSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence

    from paddock.redaction import Redactor
    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.conversation.directory import SessionDirectory
    from paddock.runtime.conversation.journal import Journal
    from paddock.runtime.conversation.results import EventCallback
    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.approval import OnRefusal
    from paddock.runtime.core.budget import Budget
    from paddock.runtime.core.cancellation import CancellationToken
    from paddock.runtime.core.emitter import EventSink
    from paddock.runtime.core.ending import Undertaking
    from paddock.runtime.session.parts import SessionParts
    from paddock.runtime.session.resources import SessionResources
    from paddock.runtime.session.run import Run

__all__ = ["SessionWork"]

CLOSED = "the session was closed"

_log = get_logger(__name__)


class SessionWork(SessionSettings, ABC):
    """A session as far as its runs begin, are cancelled and end. Closing it ends all."""

    directory: SessionDirectory | None = None
    _agent: Agent
    _state: State
    _journal: Journal
    _resources: SessionResources
    _work: Undertaking | None = None
    _busy = False
    _ends_with_run = False
    _is_behind = False

    @property
    def id(self) -> str:
        return self._state.session_id or ""

    @property
    def redactor(self) -> Redactor:
        """Knows all secrets that the session was given, those of earlier runs included."""
        return self._resources.secrets.redactor

    @property
    def out(self) -> Emitter | None:
        """Where the events of the active run go; None while there is none."""
        return None if self._work is None else self._work.out

    def cancel(self, reason: str = "requested") -> Awaitable[None]:
        """Cancel the active run or compaction; do nothing if there is none.

        What is returned may be awaited, until the run has ended, or dropped. A run that is
        ending already is not cancelled, but may be waited for. Awaited in a callback or a tool
        of the run itself, it is an `asyncio.CancelledError` there, which has to be let through;
        in a callback that is shown the end, it returns at once.
        """
        work = self._work
        if work is not None and not work.closing:
            work.token.cancel(reason)
            self._tell_others_of_cancel()
        return Ending(work)

    async def close(self) -> None:
        """Cancel a run that is going on, and take the sandbox down.

        Idempotent; runs to its end if cancelled. A later `run` makes a new sandbox. In a
        callback or a tool of the run itself it is as `cancel` there, and the session is closed
        when the run has ended, before `run` returns.
        """
        work = self._work
        if work is None or not self.is_inside_run:
            await finish(self._close())
            return
        self._ends_with_run = True
        await self.cancel(CLOSED)  # the run may wait for us, so it has to be able to cancel this
        if work.ended.is_set():
            await finish(self._close())

    @property
    def is_inside_run(self) -> bool:
        """Whether the caller is part of the run that is going on, as its callbacks and tools
        are, and what they have begun."""
        return self._work is not None and is_inside(self._work.task)

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def _close(self) -> None:
        try:
            await self.cancel(CLOSED)
        finally:
            await self._resources.aclose()

    def _tell_others_of_cancel(self) -> None:
        if self.directory is not None:
            try:
                self.directory.request_cancel()
            except OSError:
                _log.exception("the cancellation of session %s could not be noted", self.id)

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """One run or compaction at a time. Raises `SessionError`."""
        if self._busy:
            raise SessionError(f"session {self.id} is busy with another run")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._renew_stale()

    @contextlib.asynccontextmanager
    async def _running(
        self,
        prompt: str,
        on_event: EventCallback | None,
        token: CancellationToken | None,
        *,
        max_turns: int | None = None,
        budget: Budget | None = None,
        secrets: Mapping[str, str] | None = None,
        sinks: Sequence[EventSink] = (),
        on_refusal: OnRefusal | None = None,
        deps: Any = None,
    ) -> AsyncIterator[Run]:
        """A run that can be cancelled while the block runs, and is noted in the directory."""
        with self._claimed(), self._resources.secrets.keeping(secrets or {}):
            meter = self.open_meter(budget)
            shown = AgentEvents(on_event, origin=self.origin)
            out = self._emitter([shown, *sinks])
            run = self._work = self._parts(on_refusal, deps).new_run(out, shown, meter, max_turns)
            forget = run.token.follow(token)
            try:
                await self._journal.catch_up()  # `close` has a run to wait for already
                await self._check_approval_store()
                async with self._journal.holding(run.out, run.token.cancel):
                    self._is_behind = False
                    with (
                        noted(self.directory, self._state, prompt=self.redactor.text(prompt)),
                        part_of(run.task),
                    ):
                        yield run
            finally:
                forget()
                self._work = None
                run.ended.set()
                if self._ends_with_run:
                    self._ends_with_run = False
                    await finish(self._close())

    async def _check_approval_store(self) -> None:
        """Raise `ConfigError` for a file of approvals that the sandbox could write."""
        path = getattr(self.approval_store, "path", None)
        own = None if self.directory is None else self.directory.path
        if path is not None and path.parent != own:
            await asyncio.to_thread(
                require_out_of_reach,
                path,
                self._agent.config,
                what="the approval store",
                advice="choose a file elsewhere",
            )

    def _emitter(self, sinks: Sequence[EventSink] = ()) -> Emitter:
        self._journal.keeps_open = self.keeps_open and self._journal.store is not None
        above = () if self.above is None else (self.above,)
        return Emitter(
            [*above, self._journal, *self._attached, *self.sinks, *sinks],
            session_id=self.id,
            origin=self.origin,
            redactor=self.redactor,
        )

    @abstractmethod
    def _parts(self, on_refusal: OnRefusal | None = None, deps: Any = None) -> SessionParts:
        """What a run works with."""

    def _renew_stale(self) -> None:
        if not self._busy:
            self._resources.renew_stale()
