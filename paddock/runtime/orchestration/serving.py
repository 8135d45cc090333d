"""Continuing runs whose approvals were answered while no process worked on them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._logs import get_logger
from paddock.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.runtime.orchestration.records import Run
    from paddock.runtime.orchestration.stream import EventStream
    from paddock.runtime.orchestration.team import Team

__all__ = ["ApprovalWorker"]

POLL_INTERVAL = 0.25
"""Seconds between two looks whether the store has changed; a person does not feel it."""

LOOKS = 20
"""Polls until the store is read though it looks unchanged: an approval expires, and a process dies,
without writing anything."""

PAUSE = 5.0
"""Seconds until a run is tried again that still waits after it was continued: another run may use
its thread."""

MOST = 4
"""Runs that one worker continues at a time: each may have a sandbox."""

_log = get_logger(__name__)


@dataclass(kw_only=True)
class _Backlog:
    """The runs that are continued now, and until when others are left alone."""

    going: set[str] = field(default_factory=set)
    paused: dict[str, float] = field(default_factory=dict)

    def is_free(self, run_id: str) -> bool:
        return run_id not in self.going and self.paused.get(run_id, 0.0) <= time.monotonic()


class ApprovalWorker:
    """Continues the runs of `team` by reading the events that `resume` returns."""

    def __init__(self, team: Team, resume: Callable[[Run], EventStream]) -> None:
        self._team = team
        self._resume = resume
        self._backlog = _Backlog()
        self._places = asyncio.Semaphore(MOST)

    async def serve(self) -> None:
        """Do that until this is cancelled."""
        store, seen = self._team.store.store, None
        async with asyncio.TaskGroup() as tasks:
            for polls in itertools.count():
                stamp = await asyncio.to_thread(store.stamp)
                if polls % LOOKS == 0 or stamp is None or stamp != seen:
                    seen = stamp
                    for run in await self._answered():
                        self._backlog.going.add(run.run_id)
                        tasks.create_task(self._continue(run), name=f"run {run.run_id}")
                await asyncio.sleep(POLL_INTERVAL)

    async def _answered(self) -> Sequence[Run]:
        """Return the runs without a worker that have approvals, none of them pending."""
        try:
            approvals = await self._team.store.approvals.list()
            runs = await self._team.runs.list()
        except SessionError as error:
            _log.warning("runs that could be continued could not be listed: %s", error)
            return []
        asked = {each.request.session_id for each in approvals}
        asked -= {each.request.session_id for each in approvals if each.status == "pending"}
        left = [run for run in runs if run.run_id in asked and run.status in ("waiting", "died")]
        return [run for run in left if self._backlog.is_free(run.run_id)]

    async def _continue(self, run: Run) -> None:
        try:
            async with self._places, contextlib.aclosing(self._resume(run)) as events:
                async for _ in events:
                    pass
        except Exception:
            _log.exception("run %s could not be continued", run.run_id)
        finally:
            self._backlog.going.discard(run.run_id)
            self._backlog.paused[run.run_id] = time.monotonic() + PAUSE
