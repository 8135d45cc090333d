"""The life of a batch: takes tasks, makes attempts, decides about failures, ends or gives up."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from paddock._concurrency import cancel, finish
from paddock._logs import get_logger
from paddock.errors import ConfigError, PaddockError
from paddock.runtime.fleet.admission import Admission
from paddock.runtime.fleet.attempts import AttemptRun, Plan
from paddock.runtime.fleet.faults import BatchGaveUp, TaskFailed, fingerprint, is_infrastructure
from paddock.runtime.fleet.frozen import image_digest
from paddock.runtime.fleet.ledger import Attempt
from paddock.runtime.fleet.memory import declared_memory
from paddock.runtime.fleet.model_limit import ModelLimit
from paddock.runtime.fleet.nodes import Nodes, sweep, watch_memory, watch_strays
from paddock.runtime.fleet.results import restored
from paddock.runtime.fleet.task_queue import TaskQueue
from paddock.runtime.fleet.work import as_json
from paddock.runtime.fleet.workers import work_off

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from paddock.runtime.fleet.batch import Batch
    from paddock.runtime.fleet.faults import Fault
    from paddock.runtime.fleet.ledger import Entry, Ledger
    from paddock.runtime.fleet.ordering import Ordering
    from paddock.runtime.fleet.placement import Placement
    from paddock.runtime.fleet.results import TaskResult
    from paddock.runtime.fleet.retries import Retries
    from paddock.runtime.fleet.task_queue import Taken
    from paddock.runtime.fleet.tasks import Task

__all__ = ["Driver"]

STRIKES = 2
"""Times that an engine may go down while a task runs, among others, before it runs alone."""

MOST_KEPT = 20
"""Sandboxes of failed tasks that stay, of one process: each takes memory, and nobody looks at
hundreds."""

_log = get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Ended:
    """How an attempt ended: with a `value`, or failed."""

    run: AttemptRun
    attempt: Attempt
    value: Any = None
    failed: TaskFailed | None = None


class Driver:
    """Works off the tasks of a batch; `show` gets each result when it is accepted."""

    def __init__(
        self,
        batch: Batch,
        plan: Plan,
        *,
        limit: int,
        placement: Placement,
        ordering: Ordering,
        memory: int | None,
        retries: Retries,
        patience: float,
        show: Callable[[TaskResult[Any]], Awaitable[None]],
    ) -> None:
        self._batch = batch
        self._plan = plan
        self._limit = limit
        self._retries = retries
        self._show = show
        self._placement = placement
        self.models = ModelLimit()
        self._services = Admission(patience=patience)
        """Whether the services of models work. Each node has an admission of its own."""
        self._nodes = Nodes(
            self._look_again,
            patience=patience,
            memory=memory,
            each=declared_memory(plan.backend),
        )
        self._queue = TaskQueue(self._pending, ordering, self._nodes, self._services)
        self.cost = 0.0
        """What models have cost in all attempts, in US dollars."""
        self._worked = False
        self._kept = 0
        self._strikes: dict[str, int] = {}
        self._began = time.monotonic()
        self._put_back: dict[str, float] = {}
        """When tasks that wait for another attempt became ready for it."""

    async def run(self) -> None:
        """Work off all tasks. Raises `BatchGaveUp`, and the error of a recipe that cannot work.

        No sandbox is left when this returns, raises or is cancelled, except those that are kept
        on purpose and those of an engine that cannot be reached.
        """
        async with self._placement.open(self._plan, self.models, self._nodes):
            if self._batch.is_resumed:
                self.cost = await self._batch.do(lambda ledger: ledger.cost())
                self._strikes = await self._batch.do(lambda ledger: ledger.strikes())
                await self._sweep()
            watching = [
                asyncio.create_task(watch_memory(self._nodes)),
                asyncio.create_task(watch_strays(self._nodes, self._plan.run_id)),
            ]
            try:
                await work_off(self._queue.take, self._attempt, limit=self._limit)
            except BaseExceptionGroup as group:
                raise _first(group) from None
            finally:
                await cancel(*watching)
                await finish(self._sweep_quietly())

    @property
    def paused(self) -> str | None:
        """Why no task begins; None while tasks do."""
        return self._services.cause or self._nodes.paused()

    @property
    def throttled(self) -> str | None:
        """Which limits hold back the next task or a call of a model; None if none does."""
        reasons = (self._queue.throttled, self.models.reason())
        return "; ".join(each for each in reasons if each) or None

    def _look_again(self) -> None:
        self._queue.look_again()

    async def _sweep(self) -> None:
        spare = {*(await self._batch.do(lambda ledger: ledger.kept())).values()}
        await sweep(self._nodes, self._plan.run_id, spare)

    async def _sweep_quietly(self) -> None:
        try:
            await self._sweep()
        except (PaddockError, OSError) as error:
            _log.warning("sandboxes may be left, which --resume removes: %s", error)

    async def _pending(self, lane: str, after: int, count: int) -> list[tuple[int, Task]]:
        return await self._batch.do(lambda ledger: ledger.pending(lane, after, count))

    async def _attempt(self, taken: Taken) -> None:
        task = taken.task
        if self._is_quarantined(task) and not self._queue.is_alone(task.key):
            for admission in (self._services, taken.node.admission):
                admission.withdraw()  # it is no probe: an earlier process knew what it does
            self._queue.put_back(taken, quarantined=True)
            return
        number = await self._batch.do(lambda ledger: ledger.begin(task.key))
        folder = await self._batch.in_thread(lambda: self._batch.directory.draft(task.key, number))
        run = AttemptRun(
            plan=self._plan,
            task=task,
            number=number,
            folder=folder,
            image=taken.image,
            models=self.models,
            on_made=lambda sandbox: self._made(taken, run, sandbox),
        )
        run.stages["queue"] = run.began - self._put_back.pop(task.key, self._began)
        ended = await self._run(taken, run)
        await self._decide(taken, ended)
        if run.may_be_left and run.kept is None:
            taken.node.leave(task.key, number)

    async def _made(self, taken: Taken, run: AttemptRun, sandbox: str) -> None:
        self._queue.made(taken, time.monotonic() - run.began)
        if not self._worked:
            self._worked = True
            await self._note_image()
        await self._batch.do(lambda ledger: ledger.place(run.task.key, run.number, sandbox))
        if taken.node.admission.paused:
            self._resume(taken.node.admission)

    async def _note_image(self) -> None:
        digest = await image_digest(self._plan.backend, is_made=True)
        if digest is not None:
            await self._batch.note_image(digest)

    async def _run(self, taken: Taken, run: AttemptRun) -> _Ended:
        key, number = run.task.key, run.number
        failed: TaskFailed | None = None
        value, text = None, "null"
        try:
            value = await taken.node.node.run(run)
            text = as_json(value)
        except TaskFailed as error:
            failed = error
        except ConfigError as error:
            failed = TaskFailed("config", str(error))
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                await finish(self._cancelled(run))
                raise
            failed = TaskFailed("cancelled", "it was cancelled from inside")
        attempt = Attempt(
            key=key,
            number=number,
            fault=None if failed is None else failed.fault,
            message="" if failed is None else failed.message,
            result=text,
            details=self._details(run),
        )
        return _Ended(run=run, attempt=attempt, value=value, failed=failed)

    async def _cancelled(self, run: AttemptRun) -> None:
        attempt = Attempt(
            key=run.task.key,
            number=run.number,
            message="the batch was stopped",
            details=self._details(run),
        )
        await self._batch.do(lambda ledger: ledger.give_back(attempt, state="cancelled"))
        await self._batch.in_thread(lambda: shutil.rmtree(run.folder, ignore_errors=True))

    def _details(self, run: AttemptRun) -> dict[str, Any]:
        self.cost += run.cost
        return {"stages": run.stages, "artifacts": run.hashes, "cost": run.cost}

    # ------------------------------------------------------------------ decisions

    async def _decide(self, taken: Taken, ended: _Ended) -> None:
        failed = ended.failed
        if failed is None or not is_infrastructure(failed.fault):
            await self._decide_own(taken, ended)
        else:
            await self._decide_infrastructure(taken, ended, failed)

    async def _decide_own(self, taken: Taken, ended: _Ended) -> None:
        """The infrastructure worked, or the recipe cannot."""
        failed = ended.failed
        if failed is not None and failed.fault in ("config", "image") and not self._worked:
            await self._give_back(ended, counted=False)
            raise failed.__cause__ or failed
        for admission in (self._services, taken.node.admission):
            if failed is None or failed.fault not in ("config", "image"):
                self._resume(admission)
            admission.withdraw()
        if failed is not None and await self._may_retry(taken.task, failed.fault):
            await self._give_back(ended, counted=True)
            self._wait_again(taken)
            return
        await self._accept(taken, ended)

    async def _decide_infrastructure(self, taken: Taken, ended: _Ended, failed: TaskFailed) -> None:
        node, key = taken.node, taken.task.key
        down = failed.fault == "infra.lost" and (node.is_lost or not await node.node.answers())
        if down:
            self._strikes[key] = self._strikes.get(key, 0) + 1
            ended.attempt = replace(ended.attempt, details={**ended.attempt.details, "down": True})
            if self._queue.is_alone(key):
                ended.attempt = _as_poison(ended.attempt)
                await self._accept(taken, ended)
                return
        if await self._is_outage(taken, ended, failed, down=down):
            await self._give_back(ended, counted=False)
            why = self._hopeless(time.monotonic())
            if why is not None:
                raise BatchGaveUp(f"{failed} ({why})")
        elif await self._may_retry(taken.task, failed.fault):
            await self._give_back(ended, counted=True)
        else:
            await self._accept(taken, ended)
            return
        self._wait_again(taken)

    async def _is_outage(
        self, taken: Taken, ended: _Ended, failed: TaskFailed, *, down: bool
    ) -> bool:
        """Return whether a failure is part of an outage; then those before it use no try."""
        node = taken.node
        if node.is_lost:
            self._services.withdraw()
            return True
        admission, other = node.admission, self._services
        if failed.fault == "infra.model":
            admission, other = other, admission
        other.withdraw()
        outage = admission.on_failed(
            fingerprint(failed),
            (taken.task.key, ended.run.number),
            time.monotonic(),
            alone=failed.fault == "infra.provision",
            down=down,
        )
        if outage and (streak := admission.take_streak()):
            _log.warning("paused: %s: %s", node.node.name, failed)
            await self._batch.do(lambda ledger: ledger.uncount(streak))
        return outage

    def _hopeless(self, now: float) -> str | None:
        """Return why no further task can run; None if one may."""
        if self._services.hopeless(now):
            return f"for {now - self._services.since:.0f} s"
        return self._nodes.hopeless(now)

    async def _may_retry(self, task: Task, fault: Fault) -> bool:
        most, faults = self._retries.of(fault)
        if not most:
            return False
        return await self._batch.do(lambda ledger: ledger.tries(task.key, faults)) < most

    def _wait_again(self, taken: Taken) -> None:
        self._put_back[taken.task.key] = time.monotonic()
        self._queue.put_back(taken, quarantined=self._is_quarantined(taken.task))

    def _is_quarantined(self, task: Task) -> bool:
        return self._strikes.get(task.key, 0) >= STRIKES

    def _resume(self, admission: Admission) -> None:
        if admission.on_good():
            _log.warning("continues: the infrastructure works again")
        self._look_again()

    # ----------------------------------------------------------------- the ledger

    async def _give_back(self, ended: _Ended, *, counted: bool) -> None:
        await ended.run.forget()
        await self._publish(ended)
        await self._batch.do(lambda ledger: ledger.give_back(ended.attempt, counted=counted))

    async def _accept(self, taken: Taken, ended: _Ended) -> None:
        await self._keep(ended)
        await self._publish(ended)
        entry = await self._batch.do(lambda ledger: _accepted(ledger, ended.attempt))
        self._queue.done(taken)
        if entry is None:
            await ended.run.forget()
            return
        attempt = entry.attempt
        await self._batch.publish(entry)
        result = restored(entry, self._folder(attempt))
        await self._show(replace(result, result=ended.value, error=ended.failed, earlier=False))

    async def _keep(self, ended: _Ended) -> None:
        """Note the sandbox that stays, unless there are many."""
        if ended.run.kept is None:
            return
        if self._kept >= MOST_KEPT:
            await ended.run.forget()
            return
        self._kept += 1
        details = {**ended.attempt.details, "kept": ended.run.kept}
        ended.attempt = replace(ended.attempt, details=details)

    async def _publish(self, ended: _Ended) -> None:
        """Give the files of an attempt their place, before the ledger names them."""
        attempt, draft = ended.attempt, ended.run.folder
        told = {
            "key": attempt.key,
            "attempt": attempt.number,
            "fault": attempt.fault,
            "message": attempt.message,
            "result": json.loads(attempt.result),
            **attempt.details,
        }

        def publish() -> None:
            (draft / "result.json").write_text(json.dumps(told, indent=2) + "\n")
            self._batch.directory.publish(draft, attempt.key, attempt.number)

        await finish(self._batch.in_thread(publish))

    def _folder(self, attempt: Attempt) -> Path:
        return self._batch.directory.folder(attempt.key, attempt.number)


def _accepted(ledger: Ledger, attempt: Attempt) -> Entry | None:
    """Finish the task with this attempt; return what the ledger says then, None if it is late."""
    return ledger.accepted(attempt.key) if ledger.finish(attempt) else None


def _as_poison(attempt: Attempt) -> Attempt:
    message = f"the engine goes down when it runs: {attempt.message}"
    return replace(attempt, fault="poison", message=message, result="null")


def _first(error: BaseException) -> BaseException:
    """Return the first error of nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
