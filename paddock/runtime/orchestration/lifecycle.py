"""A run from its record in the store to that record's end: begun, or taken up where it was left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock.errors import RunClaimed, SessionError
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import RunStarted
from paddock.runtime.orchestration.drive import Drive, entry_conversation, error_event
from paddock.runtime.orchestration.fields import AgentLimits
from paddock.runtime.orchestration.limits import run_meter

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.orchestration.records import Run, RunStatus
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.spec import AgentSpec

__all__ = ["begin", "take_up"]


async def begin(run: TeamRun, agent: AgentSpec, prompt: str) -> None:
    """Have `agent` answer `prompt`. The stream of `run` has all that happens."""
    beginning = run.team.runs.begin(
        run.run_id,
        thread_id=run.thread_id,
        agent=agent.name,
        prompt=prompt,
        limits=None if run.limits is None else run.limits.model_dump(exclude_none=True),
    )
    try:
        record = await _taken(run, beginning)
    except SessionError as error:
        await run.emit(error_event(str(error), "store"))
        return
    await _live(run, record, agent)


async def take_up(run: TeamRun) -> None:
    """Continue an unfinished run without a worker. Nothing that has a result is
    done again."""
    run.is_resumed = True
    try:
        record = await _taken(run, run.team.runs.claim(run.run_id))
    except RunClaimed as error:
        await run.emit(error_event(str(error), "run_claimed"))
        return
    except SessionError as error:
        await run.emit(error_event(str(error), "not_resumable"))
        return
    agent = run.team.spec.agent(record.agent)
    if agent is None or record.thread_id != run.thread_id:
        known = f"of thread {record.thread_id!r} and agent {record.agent!r}"
        told = f"run {run.run_id!r} is {known}, which this is not"
        await run.emit(error_event(told, "not_resumable"))
        await run.team.runs.end(record, "waiting")
        return
    if run.limits is None and record.limits is not None:
        run.limits = AgentLimits.model_validate(record.limits)
        run.meter = run_meter(run.team.spec, run.limits)
    await _live(run, record, agent)


async def _taken(run: TeamRun, taking: Coroutine[Any, Any, Run]) -> Run:
    """Return the run that this process has now, and may work on."""
    return await acquire(taking, lambda record: run.team.runs.end(record, "cancelled"))


async def _live(run: TeamRun, record: Run, agent: AgentSpec) -> None:
    runs = run.team.runs
    drive = Drive(run, agent, record, begun=_Begun(run, record, agent))
    try:
        async with runs.renewing(record, run.sink.cancel, lambda: run.meter.seconds):
            await drive.drive()
    finally:
        await finish(_end(run, record, agent, drive.outcome))


async def _end(run: TeamRun, record: Run, agent: AgentSpec, outcome: RunStatus) -> None:
    await run.team.runs.end(record, outcome, seconds=run.meter.seconds)
    if outcome == "finished" and not agent.stateful:
        store, key = run.team.store.conversations, entry_conversation(run, agent)
        await asyncio.to_thread(lambda: store.open(key).close(delete=True))


class _Begun(EventSink):
    """Notes that the runs are over which the prompt of a run puts an end to."""

    def __init__(self, run: TeamRun, record: Run, agent: AgentSpec) -> None:
        self._run = run
        self._record = record
        self._agent = agent

    async def show(self, envelope: Envelope) -> None:
        event, is_own = envelope.event, envelope.origin.parent_call_id is None
        begins = isinstance(event, RunStarted) and is_own and not event.resumed
        if begins and self._agent.stateful:
            await self._end_earlier()

    async def _end_earlier(self) -> None:
        """End the runs that waited when this prompt came: they can no longer be continued."""
        team, own = self._run.team, self._record
        for earlier in await team.runs.list(own.thread_id):
            left = earlier.status not in ("running", "finished") and earlier.run_id != own.run_id
            if left and earlier.agent == own.agent:
                await team.runs.supersede(earlier)
                waiting = await team.store.approvals.list(
                    session_id=earlier.run_id, status="pending"
                )
                await team.store.approvals.withdraw([each.request.id for each in waiting])
