"""A session: one agent, one conversation, one sandbox, any number of runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
import uuid
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from paddock._concurrency import finish
from paddock.errors import SessionError
from paddock.runtime.cancellation import CancellationToken, CancelScope
from paddock.runtime.compaction import compact
from paddock.runtime.directory import SessionDirectory
from paddock.runtime.journal import Journal
from paddock.runtime.keeper import Keeper
from paddock.runtime.loop import AgentLoop
from paddock.runtime.models.base import ModelRequest
from paddock.runtime.results import CompactResult, RunResult
from paddock.runtime.run import NOT_APPROVED, Run, RunOutlet
from paddock.runtime.state import State
from paddock.runtime.text import clean_text

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Generator, Iterator
    from types import TracebackType

    from paddock.backends.base import Progress, ProgressCallback
    from paddock.runtime.agent import Agent
    from paddock.runtime.approvals import ApprovalCallback
    from paddock.runtime.events import CompactionTrigger
    from paddock.runtime.loop import BudgetGate, Outlet
    from paddock.runtime.models.base import ModelClient
    from paddock.runtime.run import EventCallback
    from paddock.runtime.tools.registry import ToolRegistry
    from paddock.sandbox import Sandbox

__all__ = ["Session"]

LOOK_INTERVAL = 0.1
"""Seconds between two looks for the cancel file while a model streams: looking for it at
each piece of text would cost more than showing the text."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Tools:
    """What the tools of one run borrow: the session's sandbox."""

    keeper: Keeper[Sandbox]
    failure: Exception | None = None

    async def sandbox(self) -> Sandbox:
        try:
            return await self.keeper.get()
        except Exception as error:
            self.failure = error
            raise


class _Ending:
    """May be awaited, for the end of the run that was cancelled, or not."""

    def __init__(self, run: Run | None) -> None:
        self._run = run

    def __await__(self) -> Generator[object, None, None]:
        if self._run is not None:
            yield from self._run.ended.wait().__await__()


class Session:
    """Runs prompts with an `Agent`, in a sandbox that is made when it is first needed.

    Use it as ``async with``, which takes the sandbox down; without that it goes with
    the session object or with the event loop, whichever is first. With `session_dir`
    everything is written to ``trace.jsonl`` there. `client` stays the caller's to close.

    Attributes may be set between runs:

    `approval_callback`
        Asked when a call needs approval. Without one, `AgentConfig.auto_approve`
        approves, and otherwise the run ends as ``interrupted``.
    `cancel_check`
        Polled; True cancels the run.
    `auto_compact`, `context_window`
        Whether the history is summarised when it fills most of so many tokens.
    `budget_gate`
        Given the last input tokens after each turn with tools; a text that it returns
        is told to the agent.
    `on_provision`
        Told each step of making the sandbox, on the event loop. There is no `ready`
        after a step that fails.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        session_id: str | None = None,
        state: State | None = None,
        session_dir: str | os.PathLike[str] | None = None,
        client: ModelClient | None = None,
    ) -> None:
        self._agent = agent
        self._state = State() if state is None else state
        self._state.session_id = session_id or self._state.session_id or uuid.uuid4().hex[:8]
        self.directory = None if session_dir is None else SessionDirectory(session_dir)
        self._journal = Journal(self._state, self.directory)
        self._given_client = client
        self._client = Keeper(agent.connect, name="model client")
        provision = functools.partial(agent.provision, on_progress=_teller(self))
        self._sandbox: Keeper[Sandbox] = Keeper(provision, name="sandbox")
        for keeper in (self._client, self._sandbox):
            # Only a word to the task that owns the thing; that one closes it.
            weakref.finalize(self, keeper.release).atexit = False
        self._run: Run | None = None
        self._busy = False
        self._next_look = 0.0
        self.approval_callback: ApprovalCallback | None = None
        self.cancel_check: Callable[[], bool] | None = None
        self.auto_compact = True
        self.context_window: int | None = None
        self.budget_gate: BudgetGate | None = None
        self.on_provision: ProgressCallback | None = None

    @property
    def id(self) -> str:
        return self._state.session_id or ""

    @property
    def agent(self) -> Agent:
        return self._agent

    @property
    def state(self) -> State:
        return self._state

    @property
    def registry(self) -> ToolRegistry:
        return self._agent.registry

    async def run(
        self,
        prompt: str,
        *,
        max_turns: int | None = None,
        on_event: EventCallback | None = None,
        token: CancellationToken | None = None,
    ) -> RunResult:
        """Run `prompt` until the agent has answered it.

        `max_turns` bounds the model calls. A model that fails is an ``error`` event and
        status; a sandbox that cannot be made, a trace that cannot be written and a
        callback that fails are exceptions. Cancelled by `cancel()`, by `token` or by
        `cancel_check`, it returns a result; cancelled as a task it raises. Either way
        the tools and the model's stream have ended, every tool call has a result in
        the history, and the trace has the run's end.

        Raises `SessionError` while another run is going on, and `SessionLocked` when
        another process writes this session.
        """
        with self._open():
            self._note_start(prompt)
            run = self._run = self._new_run(on_event)
            forget = _linked(token, run.token)
            status = "error"
            try:
                result = await run.execute(clean_text(prompt), max_turns)
                status = result.status
            except asyncio.CancelledError:
                status = "cancelled"
                raise
            finally:
                forget()
                self._run = None
                run.ended.set()
                self._note_end(status)
            return result

    def cancel(self, reason: str = "requested") -> Awaitable[None]:
        """Cancel the run that is going on; nothing happens if there is none.

        What is returned may be awaited, until the run has ended, or dropped.
        """
        run = self._run
        if run is None or run.closing:
            return _Ending(None)
        if self.directory is not None:
            self.directory.request_cancel()
        run.token.cancel(reason)
        return _Ending(run)

    def recover(self) -> None:
        """Bring the state up to what the trace says, and close a run whose process died.

        Each run begins with this. Raises `SessionLocked` and `TraceError`.
        """
        with self._open():
            pass

    async def compact(
        self, custom_instructions: str = "", trigger: CompactionTrigger = "manual"
    ) -> CompactResult:
        """Replace the history by a summary that the model writes; see `AgentConfig.model`.

        Cancelled or failed, the history stays as it was. Raises `ModelError`, and
        `SessionError` if there is nothing to summarise or a run is going on.
        """
        with self._open():
            if not self._state.messages:
                raise SessionError("there is nothing to compact")
            self._journal.settle(started=NOT_APPROVED, waiting=NOT_APPROVED)
            loop = await self._make_loop(RunOutlet(self._journal, None), _go_on, _at_once)
            done = await compact(loop, instructions=custom_instructions, trigger=trigger)
            await self._journal.sync()
        return CompactResult(
            summary=done.summary,
            tokens_before=done.tokens_before,
            tokens_after=done.tokens_after,
            trigger=done.trigger,
        )

    async def get_sandbox(self) -> Sandbox:
        """The session's sandbox, made now if it is not there. It lasts until `close()`."""
        return await self._sandbox.get()

    def renew_sandbox(self) -> None:
        """Take the sandbox down, if there is one; the next tool call gets a new one."""
        self._sandbox.renew()

    async def close(self) -> None:
        """Cancel a run that is going on, and take the sandbox down.

        Idempotent; runs to its end if cancelled. A later `run` makes a new sandbox.
        """
        await finish(self._close())

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def _close(self) -> None:
        await self.cancel("the session was closed")
        try:
            await self._sandbox.aclose()
        finally:
            await self._client.aclose()

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        if self._busy:
            raise SessionError(f"session {self.id} is busy with another run")
        self._busy = True
        try:
            with self._journal.writing():
                yield
        finally:
            self._busy = False

    def _new_run(self, on_event: EventCallback | None) -> Run:
        token = CancellationToken()
        polled = self.cancel_check is not None or self.directory is not None
        return Run(
            journal=self._journal,
            outlet=RunOutlet(self._journal, on_event),
            token=token,
            scope=CancelScope(token, poll=self._poll if polled else None),
            make_loop=self._make_loop,
            directory=self.directory,
            context_window=self.context_window if self.auto_compact else None,
        )

    async def _make_loop(
        self, out: Outlet, check: Callable[[], None], before_turn: Callable[[], Awaitable[None]]
    ) -> AgentLoop:
        config = self._agent.config
        return AgentLoop(
            state=self._state,
            client=self._given_client or await self._client.get(),
            request=ModelRequest(
                model=config.model,
                messages=[{"role": "system", "content": self._agent.system_prompt}],
                response_format=config.response_format,
                reasoning_effort=config.reasoning_effort,
                service_tier=config.service_tier,
            ),
            registry=self.registry,
            context=_Tools(keeper=self._sandbox),
            out=out,
            check=check,
            before_turn=before_turn,
            approval_callback=self.approval_callback,
            auto_approve=config.auto_approve,
            budget_gate=self.budget_gate,
        )

    def _poll(self) -> str | None:
        if self.cancel_check is not None and self.cancel_check():
            return "cancel_check"
        if self.directory is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_INTERVAL
            if self.directory.cancel_requested():
                return "requested"
        return None

    def _note_start(self, prompt: str) -> None:
        if self.directory is None:
            return
        self.directory.clear_cancel()
        self.directory.claim(self.id, prompt)

    def _note_end(self, status: str) -> None:
        """The trace has the truth; a note that cannot be written does not undo a run."""
        if self.directory is None:
            return
        try:
            self.directory.clear_cancel()
            self.directory.update_meta(status=status)
        except OSError:
            _log.exception("the end of session %s could not be noted", self.id)


def _teller(session: Session) -> ProgressCallback:
    """Tells `session.on_provision`, without holding the session, which its sandbox would
    then keep from being forgotten."""
    known = weakref.ref(session)

    def tell(progress: Progress) -> None:
        owner = known()
        if owner is not None and owner.on_provision is not None:
            owner.on_provision(progress)

    return tell


def _linked(outer: CancellationToken | None, inner: CancellationToken) -> Callable[[], None]:
    """Let `outer`, which others may share, cancel `inner`; what is returned undoes it."""
    if outer is None:
        return _go_on
    return outer.on_cancel(lambda: inner.cancel(outer.reason or "requested"))


def _go_on() -> None:
    """Nothing is to be done, or to be stopped."""


async def _at_once() -> None:
    """Nothing is awaited before a turn."""
