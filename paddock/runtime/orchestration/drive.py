"""One run, from the prompt to its last event."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any, cast

from pydantic.alias_generators import to_snake

from paddock._logs import get_logger
from paddock.errors import BudgetExceeded, PaddockError, SessionError, SessionLocked
from paddock.runtime.conversation.results import RunResult
from paddock.runtime.core.budget import UsageMeter
from paddock.runtime.core.emitter import Origin
from paddock.runtime.core.finish import was_filtered
from paddock.runtime.core.model import Usage
from paddock.runtime.core.size import message_text
from paddock.runtime.orchestration.approvals import ToolApprovalStore
from paddock.runtime.orchestration.limits import agent_budget
from paddock.runtime.orchestration.run import conversation_key
from paddock.runtime.orchestration.runs import ANOTHER_PROMPT
from paddock.runtime.orchestration.summaries import Summaries, usage_fields
from paddock.runtime.orchestration.wire import Wire
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.emitter import EventSink
    from paddock.runtime.core.events import RunStatus
    from paddock.runtime.orchestration.records import Run
    from paddock.runtime.orchestration.records import RunStatus as RunOutcome
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.spec import AgentSpec

__all__ = ["Drive", "entry_conversation", "error_event"]

MAX_DEPTH = 8
"""Agents that work for each other, the first one included. Deeper, it is a circle."""

_FINISHED: dict[RunStatus, str] = {
    "completed": "stop",
    "truncated": "length",
    "max_turns": "length",
    "budget": "length",
}
_log = get_logger(__name__)


class Drive:
    """Runs the agent of one run. `begun` gets the events before the stream does.

    `outcome` is how the run stands when it has ended here.
    """

    def __init__(self, run: TeamRun, agent: AgentSpec, record: Run, *, begun: EventSink) -> None:
        self.outcome: RunOutcome = "cancelled"
        self._run = run
        self._agent = agent
        self._record = record
        self._begun = begun
        self._meter = UsageMeter(agent_budget(agent), parent=run.meter)
        self._summaries = Summaries()

    async def drive(self) -> None:
        """Say in the stream of the run all that happens; the last event is the end of the agent,
        or one error."""
        run, name = self._run, self._agent.name
        bracket = {"type": "tool-agent", "agentName": name, "toolInvocationId": uuid.uuid4().hex}
        await run.emit(bracket | {"state": "call"})
        began = time.monotonic()
        try:
            async with self._session() as session:
                reason = await self._answer(session)
                if reason is None:
                    return
                await self._sum_up(time.monotonic() - began)
                usage = usage_fields(self._summaries.usage)
                self.outcome = "finished"
                await run.emit({"type": "finish", "finishReason": reason, "usage": usage})
                await run.emit(bracket | {"state": "result"})
        except Exception as error:
            if self.outcome == "finished":
                _log.exception("what run %s used could not be closed", run.run_id)
            else:
                await run.emit(_fault(error))

    async def _answer(self, session: Session) -> str | None:
        """Return why the agent has finished; None if it has not, which the stream then says."""
        self.outcome = "failed"
        try:
            result = await self._result(session)
        except asyncio.CancelledError:
            self._interrupt()
            raise
        except SessionLocked:
            self.outcome = "waiting" if self._run.is_resumed else "failed"
            raise
        if result.status in _FINISHED:
            return _FINISHED[result.status]
        if result.status == "error":
            if was_filtered(self._summaries.finish_reason):
                return "content-filter"
            await self._run.emit(error_event(result.reason or "the model failed", "model"))
            return None
        if result.status == "interrupted" and self._has_met_limit():  # while an approval waited
            await self._run.team.store.approvals.withdraw(self._run.asked)
            return "length"
        self._interrupt()
        told = f"the run was cancelled: {result.reason or 'requested'}"
        await self._run.emit(error_event(told, "cancelled"))
        return None

    def _has_met_limit(self) -> bool:
        try:
            self._meter.check()
        except BudgetExceeded:
            return not self._run.sink.token.is_cancelled()
        return False

    def _interrupt(self) -> None:
        """Note that the run was cancelled. One that asks for an approval waits for it."""
        self.outcome = "waiting" if self._run.asked else "cancelled"

    async def _result(self, session: Session) -> RunResult:
        """Have the agent answer the prompt, or continue with it."""
        token, record, max_turns = self._run.sink.token, self._record, self._agent.max_turns
        self._meter.enter(Usage(), turns=0, seconds=record.seconds)
        if self._run.is_resumed:
            state = await session.load()
            if state.task_id == record.run_id:
                if state.status in _FINISHED:  # and it is not recorded yet
                    return await self._said(state)
                turns = state.task_turns
                self._meter.enter(state.task_usage, turns=turns + state.task_turns_below)
                left = None if max_turns is None else max(0, max_turns - turns)
                return await session.resume(token=token, max_turns=left)
            if record.run_id in state.task_ids:
                raise SessionError(ANOTHER_PROMPT)
        return await session.run(record.prompt, token=token, max_turns=max_turns)

    async def _said(self, state: State) -> RunResult:
        """Say the answer again that the agent had ended with."""
        text = message_text(state.messages[-1])
        await self._run.emit({"type": "text", "text": text})
        return RunResult(text=text, status=cast("RunStatus", state.status))

    async def _sum_up(self, seconds: float) -> None:
        if (cost := self._summaries.cost()) is not None:
            await self._run.emit(cost)
        if self._run.team.interpreter(self._agent.name).sums_up:
            await self._run.emit(self._summaries.latency(seconds))

    def _session(self) -> Session:
        run, team, agent = self._run, self._run.team, self._agent
        store = team.store.conversations
        session = Session(
            team.agent(agent.name, run),
            session_id=entry_conversation(run, agent),
            store=store,
            budget=self._meter,
        )
        session.origin = Origin(agent_path=(agent.name,))
        session.task_id = run.run_id
        session.sinks = [self._begun, Wire(run), self._summaries]
        session.deps = run
        session.keeps_open = True
        session.approval_policy = team.policy()
        session.approval_store = ToolApprovalStore(team.store.approvals)
        session.approval_session = run.run_id
        session.approval_wait = True
        session.approval_timeout = team.approval_ttl
        session.max_agent_depth = MAX_DEPTH
        session.auto_compact = team.interpreter(agent.name).steps  # others need the whole prompt
        return session


def entry_conversation(run: TeamRun, agent: AgentSpec) -> str:
    """Return the id of the conversation of the agent that was prompted: that of its thread, or one
    of this run alone."""
    return conversation_key(run.thread_id, agent.name, "" if agent.stateful else run.run_id)


def _fault(error: Exception) -> dict[str, Any]:
    if isinstance(error, SessionLocked):
        return error_event("another run of this agent is active in this thread", "thread_busy")
    if isinstance(error, PaddockError):
        return error_event(str(error), to_snake(type(error).__name__))
    _log.error("a run failed by a fault of ours", exc_info=error)
    return error_event(f"{type(error).__name__}: {error}", "internal")


def error_event(message: str, code: str) -> dict[str, Any]:
    """Return the event that ends a stream whose run failed."""
    return {"type": "error", "error": {"message": message, "code": code}}
