"""A run from its record in the store to that record's end: begun, or taken up where it was left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.errors import RunClaimed, SessionError
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import RunStarted
from paddock.runtime.orchestration.drive import Drive, error_event

if TYPE_CHECKING:
    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.orchestration.records import Run
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.spec import AgentSpec

__all__ = ["begin", "take_up"]


async def begin(run: TeamRun, agent: AgentSpec, prompt: str) -> None:
    """Have `agent` answer `prompt`. The stream of `run` has all that happens."""
    try:
        record = await run.team.runs.begin(
            run.run_id, thread_id=run.thread_id, agent=agent.name, prompt=prompt
        )
    except SessionError as error:
        await run.emit(error_event(str(error), "store"))
        return
    await _live(run, record, agent)


async def take_up(run: TeamRun) -> None:
    """Continue a run that waits or whose process has died. Nothing that has a result is done
    again."""
    try:
        record = await run.team.runs.claim(run.run_id)
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
    await _live(run, record, agent)


async def _live(run: TeamRun, record: Run, agent: AgentSpec) -> None:
    runs = run.team.runs
    drive = Drive(run, agent, record, begun=_Begun(run, record, agent))
    try:
        async with runs.renewed(record):
            await drive.drive()
    finally:
        await finish(runs.end(record, drive.outcome))


class _Begun(EventSink):
    """Notes that a run has begun, and that the runs are over which its prompt puts an end to."""

    def __init__(self, run: TeamRun, record: Run, agent: AgentSpec) -> None:
        self._run = run
        self._record = record
        self._agent = agent

    async def show(self, envelope: Envelope) -> None:
        if isinstance(envelope.event, RunStarted) and envelope.origin.parent_call_id is None:
            await self._run.team.runs.note_begun(self._record)
            if self._agent.stateful and not envelope.event.resumed:
                await self._end_earlier()

    async def _end_earlier(self) -> None:
        """End the runs that waited when this prompt came: nobody can continue them any more."""
        team, own = self._run.team, self._record
        for earlier in await team.runs.list(own.thread_id):
            left = earlier.status in ("waiting", "died") and earlier.run_id != own.run_id
            if left and earlier.agent == own.agent:
                await team.runs.supersede(earlier)
                waiting = await team.store.approvals.list(
                    session_id=earlier.run_id, status="pending"
                )
                await team.store.approvals.withdraw([each.request.id for each in waiting])
