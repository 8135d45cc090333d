"""Runs in a store: begun, claimed by the process that works on them, and continued by another."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paddock.errors import RunClaimed, SessionError
from paddock.runtime.core.claims import Claim, renewing
from paddock.runtime.orchestration.records import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from paddock.runtime.orchestration.records import RunStatus
    from paddock.runtime.orchestration.store import Collection

__all__ = ["ANOTHER_PROMPT", "Runs", "RuntimeRun"]

ANOTHER_PROMPT = "another prompt came in its thread since"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRun:
    """A run of a runtime, as it was when it was looked at.

    `status` is ``running``, ``waiting`` (for an approval, and no process works on it), ``died``
    (its process did), ``cancelled``, ``failed``, ``finished``, or ``superseded`` (another prompt
    came in its thread). Runs that are waiting, died, cancelled or failed can be continued:
    ``runtime.query(None, run.thread_id, resume=run)``. Times are in UTC.
    """

    run_id: str
    thread_id: str
    agent: str
    prompt: str
    status: RunStatus
    started_at: dt.datetime
    updated_at: dt.datetime

    @classmethod
    def of(cls, run: Run) -> RuntimeRun:
        return cls(
            run_id=run.run_id,
            thread_id=run.thread_id,
            agent=run.agent,
            prompt=run.prompt,
            status=run.status,
            started_at=run.started_at,
            updated_at=run.updated_at,
        )


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of one tenant."""

    kept: Collection[Run]

    async def list(self, thread_id: str | None = None) -> Sequence[Run]:
        """Return the runs of a thread, or of all, oldest first."""
        return await self.kept.list(thread_id)

    async def begin(
        self,
        run_id: str,
        *,
        thread_id: str,
        agent: str,
        prompt: str,
        limits: Mapping[str, Any] | None = None,
    ) -> Run:
        """Note a new run, which this process works on."""
        now = dt.datetime.now(dt.UTC)
        run = Run(
            run_id=run_id,
            thread_id=thread_id,
            agent=agent,
            prompt=prompt,
            started_at=now,
            updated_at=now,
            claim=Claim.take(),
            limits=limits,
        )
        await self.kept.change(run.run_id, lambda _: run, group=thread_id)
        return run

    async def claim(self, run_id: str) -> Run:
        """Take a run that no process works on and that has not finished, to continue it here.

        Raises `RunClaimed` if a process works on it, and `SessionError` if there is none of this
        id or it has ended.
        """
        claim = Claim.take()

        def take(run: Run | None) -> Run:
            if run is None:
                raise SessionError(f"there is no run {run_id!r}")
            if run.status == "running" and run.claim is not None:
                raise RunClaimed(run_id, seconds=run.claim.left)
            if run.status in ("finished", "superseded"):
                why = "it is finished" if run.status == "finished" else ANOTHER_PROMPT
                raise SessionError(f"run {run_id!r} cannot be continued: {why}")
            return replace(run, state="running", claim=claim, updated_at=dt.datetime.now(dt.UTC))

        run = await self.kept.change(run_id, take)
        assert run is not None, "it was there"
        return run

    async def supersede(self, run: Run) -> None:
        """Note that a run without a worker can no longer be continued."""

        def supersede(known: Run | None) -> Run | None:
            if known is None or known.status in ("running", "finished"):
                return known
            return replace(known, state="superseded", claim=None)

        await self.kept.change(run.run_id, supersede)

    async def end(self, run: Run, state: RunStatus, *, seconds: float = 0.0) -> None:
        """Note how a run of this process ended, unless another one has taken it.

        `seconds` is for how long processes have worked on it.
        """

        def end(known: Run | None) -> Run | None:
            if known is None or not _same(known, run):
                return known
            now, spent = dt.datetime.now(dt.UTC), max(seconds, known.seconds)
            return replace(known, state=state, claim=None, updated_at=now, seconds=spent)

        await self.kept.change(run.run_id, end)

    def renewing(
        self, run: Run, lost: Callable[[str], object], spent: Callable[[], float]
    ) -> AbstractAsyncContextManager[None]:
        """Renew the claim of a run while the block works on it, and note the seconds `spent`.

        `lost` is called with the reason when another process has taken the run meanwhile.
        """

        def renewed(known: Run | None) -> Run | None:
            if known is None or known.claim is None or not _same(known, run):
                return known
            return replace(known, claim=known.claim.renewed(), seconds=spent())

        async def renew() -> bool:
            known = await self.kept.change(run.run_id, renewed)
            is_ours = known is not None and _same(known, run)
            if not is_ours:
                lost("another process works on this run")
            return is_ours

        return renewing(renew, name=f"claim of run {run.run_id}")


def _same(known: Run, run: Run) -> bool:
    """Whether the claim is still this process's."""
    held, own = known.claim, run.claim
    return held is not None and own is not None and held.token == own.token
