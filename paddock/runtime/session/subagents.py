"""Running agents for the tools of a run, at any depth.

What they use is counted by the run's meter and kept in the run's own trace, call by call, so
nothing of it is lost when either ends early.
"""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, PaddockError, SandboxLost
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.approvals.oversight import Oversight
from paddock.runtime.conversation.results import RunResult, run_usage
from paddock.runtime.conversation.state import State
from paddock.runtime.core.budget import Budget, UsageMeter
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import ChildModelFinished, ModelFinished
from paddock.runtime.core.reach import require_out_of_reach
from paddock.runtime.core.subagent import AgentReport
from paddock.runtime.core.tool import RunAborted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from paddock.runtime.core.emitter import Emitter, Envelope
    from paddock.runtime.core.model import Message
    from paddock.runtime.core.subagent import AgentTask
    from paddock.runtime.session.parts import SessionParts
    from paddock.runtime.session.session import Session

__all__ = ["AgentRunner", "conversation"]


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

    async def run_agent(self, task: AgentTask) -> AgentReport:
        """See `RunAgent.run_agent`."""
        self._require_depth()
        started = time.monotonic()
        try:
            async with await self._open(task) as session:
                result = await _run(session, task)
        except PaddockError as error:
            if task.shares_sandbox:  # what one could not make, nobody here can
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

    async def _open(self, task: AgentTask) -> Session:
        """Return the session of the agent that does `task`, which begins with what the calling
        session lends it."""
        parts, settings = self.parts, self.parts.settings
        agent = await asyncio.to_thread(self._agent, task)
        if parts.directory is not None:
            place = parts.directory.path
            require_out_of_reach(place, agent.config, what="the session directory")
        session = parts.open_session(
            agent,
            state=_state(conversation(parts.state.messages) if task.full_context else []),
            client=await parts.resources.connect() if agent.endpoint == self.endpoint else None,
            budget=UsageMeter(task.budget or Budget(), parent=self.meter),
            secrets=parts.resources.secrets.lent_to(
                agent, whole=task.agent is None, shared=task.shares_sandbox
            ),
            sandbox=parts.resources.sandbox if task.shares_sandbox else None,
        )
        session.origin = self.out.origin.below(task.name or task.tool_name, task.call_id)
        session.sinks = [_RunAbove(self.out, task.call_id)]
        session.oversight = Oversight(task, parts.rules, self._asking)
        if settings.approval_wait:  # without, nobody could resume what waits
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
        return session

    def _agent(self, task: AgentTask) -> Agent:
        """Return the agent of `task`. Blocks."""
        changes: dict[str, Any] = {}
        if task.system_prompt is not None:
            changes["system_prompt"] = task.system_prompt
        match task.agent:
            case None:
                agent = self.parts.agent()
                changes["response_format"] = None  # that is for the last answer of the caller
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
    their model calls used."""

    out: Emitter
    call_id: str
    _passing: dict[int, Envelope] = field(default_factory=dict)
    """What was kept above and is not shown there yet, by its number below."""

    def keep(self, envelope: Envelope) -> None:
        self._passing[envelope.seq] = self.out.keep_below(envelope)
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


async def _run(session: Session, task: AgentTask) -> RunResult:
    try:
        return await session.run(task.instruction, max_turns=task.max_turns)
    except SandboxLost as error:
        if task.shares_sandbox:
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


def _state(history: Sequence[Message]) -> State:
    state = State()
    state.replay([{"type": "message", **message} for message in history])
    return state
