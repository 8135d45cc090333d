"""A session: one agent, one conversation, one sandbox, any number of runs."""

from __future__ import annotations

import contextlib
import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

from paddock.errors import ConfigError, SessionError
from paddock.runtime.agents.agent import own_copy
from paddock.runtime.approvals.directory_store import DirectoryApprovalStore
from paddock.runtime.approvals.run_approvals import RunApprovals
from paddock.runtime.conversation.directory import SessionDirectory
from paddock.runtime.conversation.journal import Journal
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.traces import DirectoryConversationStore, session_locked
from paddock.runtime.core.approval import check_on_refusal
from paddock.runtime.core.content import read_prompt
from paddock.runtime.core.reach import require_out_of_reach
from paddock.runtime.session.parts import SessionParts
from paddock.runtime.session.resources import SessionResources
from paddock.runtime.session.stream import RunStream, ShownTo
from paddock.runtime.session.work import SessionWork

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.agents.secret_scope import SecretScope
    from paddock.runtime.conversation.results import (
        AgentEvent,
        CompactResult,
        EventCallback,
        RunResult,
    )
    from paddock.runtime.conversation.store import ConversationStore
    from paddock.runtime.core.approval import Decision, OnRefusal
    from paddock.runtime.core.budget import Budget, UsageMeter
    from paddock.runtime.core.cancellation import CancellationToken
    from paddock.runtime.core.content import Prompt
    from paddock.runtime.core.emitter import Envelope, EventSink
    from paddock.runtime.core.events import CompactionTrigger
    from paddock.runtime.core.lazy import LazyResource
    from paddock.runtime.core.model import ModelClient
    from paddock.runtime.session.settings import RunOptions
    from paddock.runtime.tools.registry import ToolRegistry
    from paddock.sandbox import Sandbox

__all__ = ["Session"]


class Session(SessionWork):
    """Runs prompts with an `Agent`, in a sandbox that is made when it is first needed.

    Use it with ``async with``, which takes the sandbox down; otherwise the sandbox ends with the
    session object or with the event loop, whichever comes first. With `session_dir`, everything
    is written to ``trace.jsonl`` there; only its user, and no sandbox, may be able to write to
    that directory (`ConfigError`). With `store`, the conversation is kept there instead, under
    the session's id, and an existing one is continued. The caller closes `client` and `sandbox`
    if they are given. `secrets` are added to the agent's, for all runs; see `Backend.secrets`.

    `SessionSettings` has what may be changed between runs.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        session_id: str | None = None,
        state: State | None = None,
        session_dir: str | os.PathLike[str] | None = None,
        store: ConversationStore | None = None,
        client: ModelClient | None = None,
        budget: Budget | UsageMeter | None = None,
        secrets: Mapping[str, str] | SecretScope | None = None,
        sandbox: LazyResource[Sandbox] | None = None,
    ) -> None:
        super().__init__()
        self._agent = own_copy(agent)
        self._state = State() if state is None else state
        self._state.session_id = session_id or self._state.session_id or uuid.uuid4().hex[:8]
        if store is not None and session_dir is not None:
            raise ConfigError("a session is kept in session_dir or in a store, not in both")
        key = self.id
        if session_dir is not None:
            self.directory = SessionDirectory(session_dir)
            self.approval_store = DirectoryApprovalStore(session_dir)
        _require_apart(agent, self.directory, store)
        if self.directory is not None:
            where = self.directory.path
            store, key = DirectoryConversationStore(where.parent), where.name
        self._journal = Journal(self._state, store, key)
        self._resources = SessionResources(
            self, self._agent, client=client, sandbox=sandbox, secrets=secrets
        )
        self.budget = budget

    @property
    def agent(self) -> Agent:
        return self._agent

    @property
    def state(self) -> State:
        """The conversation. Blocks while a long trace is read the first time; see `load`."""
        if self._is_behind and not self._busy:
            self.recover()
        return self._state

    @property
    def registry(self) -> ToolRegistry:
        return self._agent.registry

    async def run(
        self,
        prompt: Prompt,
        *,
        on_event: EventCallback | None = None,
        token: CancellationToken | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run `prompt` until the agent has answered it: a text, or a list of texts and images.

        `on_event` gets its events; see `RunOptions` for `options`. A model that fails is an
        ``error`` event and status; a sandbox that cannot be made, a trace that cannot be written
        and a callback that fails raise exceptions. Cancelled by `cancel()`, by `token` or by
        `cancel_check`, it returns a result; cancelled as a task it raises. Either way the tools
        and the model's stream have ended, every tool call has a result in the history, and the
        trace has the run's end.

        Raises `SessionError` while another run is active, `SessionLocked` while another
        process writes this session, and `ConfigError` for an invalid prompt.
        """
        text, content = read_prompt(prompt)
        async with self._running(text, on_event, token, **options) as run:
            return await run.execute(text, content)

    async def resume(
        self,
        decisions: Mapping[str, bool | Decision] = MappingProxyType({}),
        *,
        on_event: EventCallback | None = None,
        token: CancellationToken | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Continue a run that was interrupted, also one of another process.

        `decisions` approve or refuse calls in `RunResult.interruptions` (after a restart:
        ``state.pending_approvals``), by their ids. A decision is valid once, for these exact
        arguments, under the same profile and kind of backend. Calls without a decision stay
        open, and the run is interrupted again; no call of a turn runs before all its calls are
        decided. The first refusal ends the turn as a refusal of the callback does: the calls
        before it run, those after it do not.

        If the run ends early, for whatever reason, waiting calls keep waiting, and it is
        ``interrupted``; nothing changes until the model is ready.

        A run that ended without an answer while no call waits, such as one that failed, is
        continued without decisions: the model is asked again, and no call that has a result runs
        again.

        The rest is as with `run`. Raises `SessionError`, with nothing changed, for a decision
        about a call that does not wait, and if there is nothing to continue.
        """
        async with self._running("", on_event, token, **options) as run:
            return await run.resume(decisions)

    def stream(
        self,
        prompt: Prompt,
        *,
        token: CancellationToken | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[AgentEvent]:
        """Run a prompt and iterate over its events::

            async with session.stream("Look around.") as events:
                async for event in events:
                    print(event.type)
            print(events.result.status)

        Leaving the block early cancels the run.
        """
        return RunStream(
            lambda show, inner: self.run(prompt, on_event=show, token=inner, **options), token
        )

    def stream_events(
        self,
        prompt: Prompt,
        *,
        token: CancellationToken | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[Envelope]:
        """`stream`, with typed events in envelopes, including those of sub-agents.

        Distinguish them by ``match envelope.event``.
        """
        return RunStream(
            lambda show, inner: self.run(prompt, token=inner, **_with_sink(options, ShownTo(show))),
            token,
        )

    def start_anew(self) -> None:
        """Let the next run remove the stored conversation with this session's id."""
        self._journal.starts_anew = True

    def recover(self, *, later: bool = False) -> None:
        """Rebuild the state from the trace, and close a run whose process died. Blocks.

        Each run begins with this. With `later` it happens when `state` is first used, in `load`
        or in the next run. Raises `SessionLocked` and `TraceError`.
        """
        if later and self.directory is not None:
            if self.directory.locked():
                raise session_locked(self.id, self.directory)
            self._is_behind = True
            return
        with self._claimed(), self._journal.writing(self._emitter()):
            self._is_behind = False

    async def load(self) -> State:
        """`recover` without blocking the event loop; return the state.

        Raises `SessionError` while a run is active, `SessionLocked` and `TraceError`.
        """
        with self._claimed():
            await self._journal.catch_up()
            async with self._journal.holding(self._emitter(), _ignore):
                self._is_behind = False
        return self._state

    async def compact(
        self, custom_instructions: str = "", trigger: CompactionTrigger = "manual"
    ) -> CompactResult:
        """Replace the history by a summary that the model writes; see `AgentConfig.model`.

        If it is cancelled or fails, the history does not change. Raises `ModelError`,
        `BudgetExceeded` when the session's budget is used up, and `SessionError` if there is
        nothing to summarise, a run is active, or calls wait for an approval, and when it is
        cancelled as a run is: by `cancel()`, `close()` or `cancel_check`.
        """
        with self._claimed():
            await self._journal.catch_up()
            parts = self._parts()
            work = self._work = parts.new_compaction(self._emitter(), self.open_meter(None))
            try:
                result = await work.execute(custom_instructions, trigger)
                self._is_behind = False
                return result
            finally:
                self._work = None
                work.ended.set()

    async def get_sandbox(self) -> Sandbox:
        """Return the session's sandbox; make it if need be. It lasts until `close()`."""
        return await self._resources.get_sandbox()

    @contextlib.contextmanager
    def kept_in(self, store: ConversationStore, key: str) -> Iterator[None]:
        """While the block runs, keep the conversation in `store` under the id `key`, until a run
        of it is completed.

        A stored conversation is continued. Raises `SessionError` for a session that is busy,
        that is stored elsewhere, or that has another conversation.
        """
        if self._busy or self._journal.store is not None:
            why = "busy with another run" if self._busy else "kept somewhere else already"
            raise SessionError(f"session {self.id} is {why}")
        _require_apart(self._agent, None, store)
        before, state = self._journal, self._state
        self._journal = Journal(state, store, key, of_a_run=True)
        try:
            yield
        finally:
            self._journal, state.trace_end = before, 0

    def use(self, agent: Agent) -> None:
        """Continue the conversation as a copy of `agent`; other sessions keep theirs.

        Its tools and its approval rules apply from the next call on, even in an active run, whose
        trace records the change. Its model, system prompt and sandbox apply from the next run
        on. Raises `ConfigError`, with nothing changed, if its sandboxes could write the
        session's directory.
        """
        mine = own_copy(agent)
        _require_apart(mine, self.directory, self._journal.store)
        before, self._agent = self._agent, mine
        self._resources.use(before, self._agent)
        self._renew_stale()

    def renew_sandbox(self) -> None:
        """Take the sandbox down, if there is one; the next tool call gets a new one.

        An active run keeps its sandbox to its end; the next run gets the new one.
        """
        self._resources.give_up_sandbox()
        self._renew_stale()

    def _parts(self, on_refusal: OnRefusal | None = None, deps: Any = None) -> SessionParts:
        return SessionParts(
            agent=lambda: self._agent,
            journal=self._journal,
            settings=self,
            resources=self._resources,
            directory=self.directory,
            deps=self.deps if deps is None else deps,
            approvals=RunApprovals(
                store=self.approval_store,
                session_id=self.approval_session or self.id,
                wait=self.approval_wait,
                timeout=self.approval_timeout,
                on_refusal=check_on_refusal(
                    on_refusal or self.on_refusal or self._agent.config.on_refusal
                ),
            ),
            open_session=Session,
        )


def _require_apart(
    agent: Agent, directory: SessionDirectory | None, store: ConversationStore | None
) -> None:
    """Raise `ConfigError` if the agent's sandboxes could write where the session is kept."""
    if directory is not None:
        require_out_of_reach(directory.path, agent.config, what="the session directory")
    elif store is not None and store.path is not None:
        require_out_of_reach(
            store.path, agent.config, what="the store", advice="choose a file elsewhere"
        )


def _with_sink(options: RunOptions, sink: EventSink) -> RunOptions:
    return {**options, "sinks": [*options.get("sinks", ()), sink]}


def _ignore(_: str) -> None:
    """Ignore a cancellation: nothing is active."""
