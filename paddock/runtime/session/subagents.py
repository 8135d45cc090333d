"""Running agents for the tools of a run, at any depth.

What they use is counted by the run's meter and kept in the run's own trace, call by call, so
nothing of it is lost when either ends early. Their conversations are kept where the run's is, so
that a call which is resumed continues them.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from paddock.errors import ConfigError, PaddockError, SandboxLost
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.approvals.policy_override import PolicyOverride
from paddock.runtime.conversation.results import RunResult, run_usage
from paddock.runtime.conversation.state import State
from paddock.runtime.core.budget import Budget, UsageMeter
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import ApprovalRequested, ChildModelFinished, ModelFinished
from paddock.runtime.core.reach import require_out_of_reach
from paddock.runtime.core.size import message_text
from paddock.runtime.core.subagent import AgentReport
from paddock.runtime.core.tool import RunAborted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from paddock.runtime.conversation.store import ConversationStore
    from paddock.runtime.core.emitter import Emitter, Envelope
    from paddock.runtime.core.events import RunStatus
    from paddock.runtime.core.model import Message
    from paddock.runtime.core.subagent import AgentTask
    from paddock.runtime.session.parts import SessionParts
    from paddock.runtime.session.session import Session

__all__ = ["AgentRunner", "conversation"]

_ENDED = frozenset({"completed", "truncated", "max_turns", "budget"})
"""How an agent may have ended that is not to be continued."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What an agent does for one call: a `task`, of the id `task_id`, in a conversation that is
    kept as `key` in `store`. `known` is how far an earlier run got with it."""

    task: AgentTask
    task_id: str
    key: str
    store: ConversationStore | None
    known: State | None

    @property
    def turns_left(self) -> int | None:
        """How many turns may follow those that are known."""
        if self.known is None or self.task.max_turns is None:
            return self.task.max_turns
        return max(0, self.task.max_turns - self.known.task_turns)

    def meter(self, above: UsageMeter) -> UsageMeter:
        """Return what counts the agent. What it has used is counted by `above` already."""
        meter = UsageMeter(self.task.budget or Budget())
        if (known := self.known) is not None:
            meter.enter(known.task_usage, turns=known.task_turns + known.task_turns_below)
        meter.parent = above
        return meter

    def begin(self, messages: Sequence[Message]) -> State:
        """Return what the agent begins with, if its caller has `messages`."""
        if self.known is not None:
            return self.known
        state = State()
        if self.task.full_context and self.task.conversation is None:
            state.replay([{"type": "message", **each} for each in conversation(messages)])
        return state


@dataclass(frozen=True, kw_only=True)
class AgentRunner:
    """Runs agents for one run of a session, whose events go to `out`; the `RunAgent` of its tools.

    `meter` counts what the run uses, and `endpoint` is that of its model. The session's callback
    is asked by one agent at a time: a person reads one question at a time.
    """

    parts: SessionParts
    meter: UsageMeter
    out: Emitter
    endpoint: object
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _begun: Counter[str] = field(default_factory=Counter)
    """How many agents each call has run."""

    async def run_agent(self, task: AgentTask) -> AgentReport:
        """See `RunAgent.run_agent`."""
        self._require_depth()
        started = time.monotonic()
        work = await self._work(task)
        if work.known is not None and work.known.status in _ENDED:
            return _ended(work.key, work.known)
        try:
            async with await self._open(work) as session:
                result = await _run(session, work)
        except PaddockError as error:
            if task.shares_sandbox:  # what one could not make, no other here can
                raise RunAborted(error) from error
            raise
        return AgentReport(
            session_id=session.id,
            status=result.status,
            text=result.text,
            usage=result.usage,
            duration=time.monotonic() - started,
            reason=result.reason,
            interruptions=result.interruptions,
        )

    def _require_depth(self) -> None:
        """Raise `ConfigError` if no agent may work for the calling one."""
        depth, most = len(self.out.origin.agent_path), self.parts.settings.max_agent_depth
        if depth >= most:
            raise ConfigError(
                f"agents may work for each other at most {most} levels deep (max_agent_depth), "
                f"and {depth} are in use: do this part of the work yourself"
            )

    async def _work(self, task: AgentTask) -> _Work:
        """Return the next work for the call of `task`, as far as it is known."""
        journal, number = self.parts.journal, self._begun[task.call_id]
        self._begun[task.call_id] += 1
        task_id = _digest(journal.identity, task.call_id, number)
        store, key = self._conversations, task.conversation
        if key is None:
            store, key = journal.store and journal.store.below(journal.key), task_id
        known = None
        if task.is_resumed and store is not None:
            known = await asyncio.to_thread(store.read, key)
            if known is not None and known.task_id != task_id:
                known = None  # the agent had not begun
        return _Work(task=task, task_id=task_id, key=key, store=store, known=known)

    @property
    def _conversations(self) -> ConversationStore | None:
        """Where conversations are kept that tasks name."""
        return self.parts.settings.conversations or self.parts.journal.store

    async def _open(self, work: _Work) -> Session:
        """Return the session of the agent that does `work`, which begins with what the calling
        session lends it."""
        task, parts = work.task, self.parts
        agent = await asyncio.to_thread(self._agent, task)
        if parts.directory is not None:
            place = parts.directory.path
            require_out_of_reach(place, agent.config, what="the session directory")
        session = parts.open_session(
            agent,
            session_id=None if work.store is None else work.key,
            state=work.begin(parts.state.messages),
            store=work.store,
            client=await parts.resources.connect() if agent.endpoint == self.endpoint else None,
            budget=work.meter(self.meter),
            secrets=parts.resources.secrets.lent_to(
                agent, whole=task.agent is None, shared=task.shares_sandbox
            ),
            sandbox=parts.resources.sandbox if task.shares_sandbox else None,
        )
        self._set(session, work)
        return session

    def _set(self, session: Session, work: _Work) -> None:
        """Set what a session for `work` has of the calling one."""
        task, parts, settings = work.task, self.parts, self.parts.settings
        session.origin = self.out.origin.below(task.name or task.tool_name, task.call_id)
        session.above = _RunAbove(self.out, task.call_id, parts.approvals.below)
        session.task_id = work.task_id
        session.conversations = self._conversations
        session.keeps_open = settings.keeps_open
        if work.known is None and task.conversation is None:
            session.start_anew()
        session.policy_override = PolicyOverride(task, parts.rules, self._asking)
        if settings.approval_wait:  # otherwise a waiting run could not be resumed
            session.approval_store = settings.approval_store
            session.approval_session = parts.approvals.session_id
            session.approval_wait = True
        session.approval_timeout = settings.approval_timeout
        session.on_refusal = parts.approvals.on_refusal
        session.cancel_check = task.cancel_check
        session.deps = parts.deps
        session.auto_compact = settings.auto_compact
        session.context_window = settings.context_window
        session.on_provision = settings.on_provision
        session.max_agent_depth = settings.max_agent_depth
        if task.agent is None and task.system_prompt is None:
            given = settings.system_prompt
            session.system_prompt = parts.agent().system_prompt if given is None else given

    def _agent(self, task: AgentTask) -> Agent:
        """Return the agent of `task`. Blocks."""
        changes: dict[str, Any] = {}
        if task.system_prompt is not None:
            changes["system_prompt"] = task.system_prompt
        match task.agent:
            case None:
                agent = self.parts.agent()
                changes["response_format"] = None  # that is for the last answer of the caller
                changes["mcp_servers"] = ()  # it is lent the caller's tools
            case Agent() as agent:
                pass
            case AgentConfig() as config:
                agent = Agent(config)
            case other:
                raise ConfigError(f"an agent is an Agent or an AgentConfig, not {other!r}")
        changed = replace(agent.config, **changes) if changes else None
        return agent.copy(config=changed, registry=agent.registry.without(task.without))


@dataclass(frozen=True)
class _RunAbove(EventSink):
    """Passes on to the sinks above what an agent does and those below it, and keeps there what
    their model calls used. What waits for an approval is added to `below`."""

    out: Emitter
    call_id: str
    below: set[str]
    _passing: dict[int, Envelope] = field(default_factory=dict)
    """What was kept above and is not shown there yet, by its number below."""

    def keep(self, envelope: Envelope) -> None:
        self._passing[envelope.seq] = self.out.keep_below(envelope)
        if isinstance(envelope.event, ApprovalRequested) and envelope.event.note is not None:
            self.below.add(envelope.event.approval_id)
        if len(envelope.origin.agent_path) > len(self.out.origin.agent_path) + 1:
            return  # the agent tells by an event of its own what those below it used
        match envelope.event:
            case ModelFinished(model=model, usage=usage):
                session_id = envelope.session_id
            case ChildModelFinished(model=model, usage=usage, session_id=session_id):
                pass
            case _:
                return
        self.out.keep(
            ChildModelFinished(
                call_id=self.call_id, session_id=session_id, model=model, usage=usage
            )
        )

    async def show(self, envelope: Envelope) -> None:
        await self.out.show(self._passing.pop(envelope.seq, envelope))

    def around(self, envelope: Envelope) -> AbstractContextManager[object]:
        return self.out.around(envelope)

    async def sync(self) -> None:
        await self.out.sync()


async def _run(session: Session, work: _Work) -> RunResult:
    try:
        if work.known is None:
            return await session.run(work.task.instruction, max_turns=work.task.max_turns)
        return await session.resume(max_turns=work.turns_left)
    except SandboxLost as error:
        if work.task.shares_sandbox:
            raise
        total = session.state.total  # the run above works in another sandbox, and continues
        usage = run_usage(total, total, session.state.estimate_tokens())
        return RunResult(status="error", reason=str(error), usage=usage)


def conversation(messages: Sequence[Message]) -> list[Message]:
    """Return a deep copy of `messages` as far as they are answered.

    The last turn's calls are open, or have results that others of it still lack: of that turn
    only its text is kept. What is left can be continued.
    """
    kept = list(messages)
    last = max((n for n, each in enumerate(kept) if each["role"] == "assistant"), default=0)
    if kept and kept[last].get("tool_calls"):
        text = kept[last].get("content")
        kept[last:] = [{"role": "assistant", "content": text}] if text else []
    return copy.deepcopy(kept)


def _ended(session_id: str, state: State) -> AgentReport:
    """Return the report about an agent that had ended when its caller's run did."""
    last = state.messages[-1]
    return AgentReport(
        session_id=session_id,
        status=cast("RunStatus", state.status),
        text=message_text(last) if last["role"] == "assistant" else "",
        usage=run_usage(state.total, state.total, state.estimate_tokens()),
        duration=0.0,
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
