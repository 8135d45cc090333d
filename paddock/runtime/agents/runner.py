"""Running agents for the tools of a run, at any depth. Knows no session: its host opens them.

What they use is counted by the run's meter and kept in the run's own trace, call by call, so
nothing of it is lost when either ends early.
"""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from paddock.errors import ConfigError, SandboxLost
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.approvals.policies import AskAlso, AskByTools
from paddock.runtime.conversation.results import RunResult, run_usage
from paddock.runtime.conversation.state import State
from paddock.runtime.core.calling import call
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import ChildModelFinished, ModelFinished
from paddock.runtime.core.subagent import AgentReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from paddock.runtime.core.approval import ApprovalCallback, Decision
    from paddock.runtime.core.emitter import Emitter, Envelope, Origin
    from paddock.runtime.core.model import Message
    from paddock.runtime.core.rules import Rules
    from paddock.runtime.core.subagent import AgentTask
    from paddock.runtime.core.tool import ToolCatalog

__all__ = ["AgentHost", "AgentRunner", "SubAgent", "SubSession", "conversation"]


class SubSession(Protocol):
    """The session of an agent that works for another one."""

    @property
    def id(self) -> str: ...

    @property
    def state(self) -> State: ...

    async def run(self, prompt: str) -> RunResult: ...


@dataclass(frozen=True, kw_only=True)
class SubAgent:
    """An agent that is about to work for another one, and what its session begins with."""

    task: AgentTask
    agent: Agent
    state: State
    origin: Origin
    sinks: Sequence[EventSink]
    oversight: Callable[[Rules], Rules]


class AgentHost(Protocol):
    """The session whose run calls agents."""

    @property
    def agent(self) -> Agent:
        """The agent that calls."""
        ...

    @property
    def messages(self) -> Sequence[Message]: ...

    def rules(self) -> Rules:
        """Return the rules for tool calls now; they may change during a run."""
        ...

    def open(self, sub: SubAgent) -> AbstractAsyncContextManager[SubSession]:
        """Open a session for `sub`, which is closed, with its own sandbox, at the block's end."""
        ...


@dataclass(frozen=True, kw_only=True)
class AgentRunner:
    """Runs agents for one run of `host`, whose events go to `out`.

    The callback of `host` is asked by one agent at a time: a person reads one question at a
    time. At most `max_depth` agents work for each other, one below the other.
    """

    host: AgentHost
    out: Emitter
    max_depth: int
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run_agent(self, task: AgentTask) -> AgentReport:
        """See `RunAgent.run_agent`."""
        started = time.monotonic()
        async with self.host.open(await self._prepare(task)) as session:
            result = await _run(session, task)
        return AgentReport(
            session_id=session.id,
            status=result.status,
            text=result.text,
            usage=result.usage,
            duration=time.monotonic() - started,
            reason=result.reason,
            interruptions=result.interruptions,
        )

    def require_depth(self) -> None:
        """Raise `ConfigError` if no agent may work for the calling one."""
        depth = len(self.out.origin.agent_path)
        if depth >= self.max_depth:
            raise ConfigError(
                f"agents may work for each other at most {self.max_depth} levels deep "
                f"(max_agent_depth), and {depth} are in use: do this part of the work yourself"
            )

    async def _prepare(self, task: AgentTask) -> SubAgent:
        return SubAgent(
            task=task,
            agent=await asyncio.to_thread(self._agent, task),
            state=_state(conversation(self.host.messages) if task.full_context else []),
            origin=self.out.origin.below(task.tool_name, task.call_id),
            sinks=[_RunAbove(self.out, task.call_id)],
            oversight=_Oversight(task, self.host.rules, self._asking),
        )

    def _agent(self, task: AgentTask) -> Agent:
        """Return the agent of `task`. Blocks."""
        changes: dict[str, Any] = {}
        if task.system_prompt is not None:
            changes["system_prompt"] = task.system_prompt
        match task.agent:
            case None:
                agent = self.host.agent
                changes["response_format"] = None  # that is for the last answer of the caller
            case Agent() as agent:
                pass
            case AgentConfig() as config:
                agent = Agent(config)
            case other:
                raise ConfigError(f"an agent is an Agent or an AgentConfig, not {other!r}")
        changed = replace(agent.config, **changes) if changes else None
        return agent.copy(config=changed, registry=agent.registry.without(task.without))


class _Oversight:
    """The rules for the calls of an agent that does `task`, by those for the one above at that
    moment. An agent of its own definition has its own tools, and is approved automatically only
    if the one above is too."""

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
        own = replace(own, callback=callback, policy=above.policy)
        if task.agent is not None:
            auto_approve = own.auto_approve and above.auto_approve
            policy = above.policy and AskAlso(AskByTools(own.registry), above.policy)
            return replace(own, auto_approve=auto_approve, policy=policy)
        return replace(own, registry=self._lend(above.registry), auto_approve=above.auto_approve)

    def _lend(self, registry: ToolCatalog) -> ToolCatalog:
        if self._lent is None or self._lent[0] is not registry:
            self._lent = registry, registry.without(self._task.without)
        return self._lent[1]


@dataclass(frozen=True)
class _InTurn:
    """Asks `callback` when no other agent is asking it."""

    callback: ApprovalCallback
    asking: asyncio.Lock

    async def __call__(self, name: str, arguments: dict[str, Any]) -> bool | Decision:
        async with self.asking:
            return await call(self.callback, name, arguments)


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


async def _run(session: SubSession, task: AgentTask) -> RunResult:
    try:
        return await session.run(task.instruction)
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
