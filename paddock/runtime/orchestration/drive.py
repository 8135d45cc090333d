"""One run, from the prompt to its last event."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from paddock._logs import get_logger
from paddock.errors import PaddockError, SessionLocked
from paddock.runtime.core.budget import UsageMeter
from paddock.runtime.core.emitter import Origin
from paddock.runtime.core.finish import was_filtered
from paddock.runtime.orchestration.approvals import ToolApprovalStore
from paddock.runtime.orchestration.limits import agent_budget
from paddock.runtime.orchestration.summaries import Summaries, usage_fields
from paddock.runtime.orchestration.wire import Wire
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from paddock.runtime.conversation.results import RunResult
    from paddock.runtime.core.events import RunStatus
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.spec import AgentSpec

__all__ = ["drive", "error_event"]

MAX_DEPTH = 8
"""Agents that work for each other, the first one included. Deeper, it is a circle."""

_FINISHED: dict[RunStatus, str] = {
    "completed": "stop",
    "truncated": "length",
    "max_turns": "length",
    "budget": "length",
}
_log = get_logger(__name__)


async def drive(run: TeamRun, agent: AgentSpec, prompt: str) -> None:
    """Have `agent` answer `prompt`, and say in the stream of `run` all that happens.

    The last event is the end of the agent, or one error.
    """
    bracket = {"type": "tool-agent", "agentName": agent.name, "toolInvocationId": uuid.uuid4().hex}
    await run.emit(bracket | {"state": "call"})
    began, summaries, is_finished = time.monotonic(), Summaries(), False
    try:
        async with _session(run, agent, summaries) as session:
            with _kept(session, run, agent):
                result = await session.run(
                    prompt, token=run.outlet.token, max_turns=agent.max_turns
                )
            reason = _FINISHED.get(result.status)
            if result.status == "error" and was_filtered(summaries.finish_reason):
                reason = "content-filter"
            if reason is None:
                await run.emit(_failed(result))
                return
            await _sum_up(run, agent, summaries, time.monotonic() - began)
            usage = usage_fields(summaries.usage)
            await run.emit({"type": "finish", "finishReason": reason, "usage": usage})
            is_finished = True
            await run.emit(bracket | {"state": "result"})
    except Exception as error:
        if is_finished:
            _log.exception("what run %s used could not be closed", run.run_id)
        else:
            await run.emit(_fault(error))


async def _sum_up(run: TeamRun, agent: AgentSpec, summaries: Summaries, seconds: float) -> None:
    if (cost := summaries.cost()) is not None:
        await run.emit(cost)
    if run.team.interpreter(agent.name).sums_up:
        await run.emit(summaries.latency(seconds))


def _session(run: TeamRun, agent: AgentSpec, summaries: Summaries) -> Session:
    team = run.team
    store = team.store.conversations if agent.stateful else None
    session = Session(
        team.agent(agent.name, run),
        session_id=_key(run, agent),
        store=store,
        budget=UsageMeter(agent_budget(agent), parent=run.meter),
    )
    session.origin = Origin(agent_path=(agent.name,))
    session.sinks = [Wire(run), summaries]
    session.deps = run
    session.approval_policy = team.policy()
    session.approval_store = ToolApprovalStore(team.store.approvals)
    session.approval_session = run.run_id
    session.approval_wait = True
    session.approval_timeout = team.approval_ttl
    session.max_agent_depth = MAX_DEPTH
    return session


def _kept(session: Session, run: TeamRun, agent: AgentSpec) -> AbstractContextManager[Any]:
    """Keep what an agent without a memory does as long as its run can be continued."""
    if agent.stateful:
        return contextlib.nullcontext()
    return session.kept_in(run.team.store.conversations, session.id)


def _key(run: TeamRun, agent: AgentSpec) -> str:
    """Return the id of the agent's conversation."""
    parts = (
        [run.thread_id, agent.name] if agent.stateful else [run.thread_id, agent.name, run.run_id]
    )
    return "/".join(quote(part, safe="") for part in parts)


def _failed(result: RunResult) -> dict[str, Any]:
    if result.status == "error":
        return error_event(result.reason or "the model failed", "model")
    return error_event(f"the run was cancelled: {result.reason or 'requested'}", "cancelled")


def _fault(error: Exception) -> dict[str, Any]:
    if isinstance(error, SessionLocked):
        return error_event("another run of this agent goes on in this thread", "thread_busy")
    if isinstance(error, PaddockError):
        return error_event(str(error), type(error).__name__)
    _log.error("a run failed by a fault of ours", exc_info=error)
    return error_event(f"{type(error).__name__}: {error}", "internal")


def error_event(message: str, code: str) -> dict[str, Any]:
    """Return the event that ends a stream whose run failed."""
    return {"type": "error", "error": {"message": message, "code": code}}
