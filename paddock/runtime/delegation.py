"""Running agents for the tools of a run: as sessions that its own session lends what it has.

What they use up is counted by the run's meter and kept in the run's own trace, call by
call, so nothing of it is lost when either ends early.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from paddock.errors import SandboxLost
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation.state import State
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import ChildModelFinished, ModelFinished
from paddock.runtime.core.subagent import AgentReport
from paddock.runtime.reach import require_out_of_reach
from paddock.runtime.results import RunResult, run_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.runtime.conversation.state import StateObserver
    from paddock.runtime.core.approval import ApprovalCallback
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.emitter import Emitter, Envelope
    from paddock.runtime.core.model import Message
    from paddock.runtime.core.rules import Rules
    from paddock.runtime.core.subagent import AgentTask
    from paddock.runtime.core.tool import ToolCatalog
    from paddock.runtime.loop_spec import SessionParts
    from paddock.runtime.session import Session

__all__ = ["Delegation", "FamilyObserver", "conversation"]


@runtime_checkable
class FamilyObserver(Protocol):
    """An observer of a state that is to hear of the agents that work for its session, too."""

    def observe_child(self, child: Session) -> StateObserver:
        """Who observes `child`, which has not run yet, until it has ended."""
        ...


@dataclass(frozen=True, kw_only=True)
class Delegation:
    """Of one run of the session that `parent` is put together for.

    `parent`'s callback is asked by one agent at a time: a person reads one question at a
    time. `open_session` makes a session.
    """

    parent: SessionParts
    open_session: type[Session]
    meter: UsageMeter
    out: Emitter
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, task: AgentTask) -> AgentReport:
        """See `RunAgent.run_agent`."""
        started = time.monotonic()
        async with await self._session(task) as child:
            for observer in self.parent.state.observers:
                if isinstance(observer, FamilyObserver):
                    child.state.add_observer(observer.observe_child(child))
            result = await _run(child, task)
        return AgentReport(
            session_id=child.id,
            status=result.status,
            text=result.text,
            usage=result.usage,
            duration=time.monotonic() - started,
            reason=result.reason,
            interruptions=result.interruptions,
        )

    async def _session(self, task: AgentTask) -> Session:
        parent, settings = self.parent, self.parent.settings
        agent = await asyncio.to_thread(self._agent, task)
        if parent.directory is not None:
            place = parent.directory.path
            require_out_of_reach(place, agent.config, what="the session directory")
        history = conversation(parent.state.messages) if task.full_context else []
        child = self.open_session(
            agent,
            state=_state(history),
            client=await parent.connect() if self._same_model(agent) else None,
            budget=self.meter,
            secrets=parent.secrecy.lent_to(
                agent, whole=task.agent is None, shared=task.shares_sandbox
            ),
            sandbox=parent.sandbox if task.shares_sandbox else None,
        )
        child.origin = self.out.origin.below(task.tool_name, task.call_id)
        child.sinks = [_RunAbove(self.out, task.call_id)]
        child.oversight = _Oversight(task, parent.rules, self._asking)
        child.cancel_check = task.cancel_check
        child.auto_compact = settings.auto_compact
        child.context_window = settings.context_window
        child.on_provision = settings.on_provision
        if task.system_prompt is None:
            given = settings.system_prompt
            child.system_prompt = parent.agent().system_prompt if given is None else given
        return child

    def _agent(self, task: AgentTask) -> Agent:
        """The agent of `task`, without the tools that run agents. Blocks."""
        parent = self.parent.agent()
        if task.agent is not None:
            assert isinstance(task.agent, AgentConfig)
            agent = Agent(task.agent)
            return agent.copy(registry=agent.registry.without_agents())
        changes: dict[str, Any] = {"response_format": None}  # that is for the last answer
        if task.system_prompt is not None:
            changes["system_prompt"] = task.system_prompt
        config = replace(parent.config, **changes)
        return parent.copy(config=config, registry=parent.registry.without_agents())

    def _same_model(self, agent: Agent) -> bool:
        return self.parent.agent().endpoint == agent.endpoint


class _Oversight:
    """What holds for the calls of an agent that does `task`: at each, by what holds then for
    the one above. An agent of its own configuration has its own tools, and is approved
    automatically only if the one above is too."""

    def __init__(self, task: AgentTask, above: Callable[[], Rules], asking: asyncio.Lock) -> None:
        self._task = task
        self._above = above
        self._asking = asking
        self._lent: tuple[ToolCatalog, ToolCatalog] | None = None

    def __call__(self, own: Rules) -> Rules:
        task, above = self._task, self._above()
        callback = task.approval_callback
        if callback is None and above.callback is not None:
            callback = _InTurn(above.callback, self._asking)
        own = replace(own, callback=callback)
        if task.agent is not None:
            return replace(own, auto_approve=own.auto_approve and above.auto_approve)
        return replace(own, registry=self._lend(above.registry), auto_approve=above.auto_approve)

    def _lend(self, registry: ToolCatalog) -> ToolCatalog:
        if self._lent is None or self._lent[0] is not registry:
            self._lent = registry, registry.without_agents()
        return self._lent[1]


@dataclass(frozen=True)
class _InTurn:
    """Asks `callback`, when it is asked by nobody else."""

    callback: ApprovalCallback
    asking: asyncio.Lock

    async def __call__(self, name: str, arguments: dict[str, Any]) -> bool:
        async with self.asking:
            answer = self.callback(name, arguments)
            return await answer if inspect.isawaitable(answer) else answer


@dataclass(frozen=True)
class _RunAbove(EventSink):
    """Keeps in the trace above what an agent's model calls took, as they end, and shows there
    what it does."""

    out: Emitter
    call_id: str

    def keep(self, envelope: Envelope) -> None:
        event = envelope.event
        if isinstance(event, ModelFinished):
            self.out.keep(
                ChildModelFinished(
                    call_id=self.call_id,
                    session_id=envelope.session_id,
                    model=event.model,
                    usage=event.usage,
                )
            )

    async def show(self, envelope: Envelope) -> None:
        await self.out.pass_on(envelope)


async def _run(child: Session, task: AgentTask) -> RunResult:
    try:
        return await child.run(task.instruction)
    except SandboxLost as error:
        if task.shares_sandbox:
            raise
        total = child.state.total  # the run above works in another sandbox, and goes on
        usage = run_usage(total, total, child.state.estimate_tokens())
        return RunResult(status="error", reason=str(error), usage=usage)


def conversation(messages: Sequence[Message]) -> list[Message]:
    """A deep copy of `messages` as far as they are answered.

    The last turn's calls are open, or have results that others of it still lack: of that
    turn only its text is kept. What is left may be gone on with.
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
