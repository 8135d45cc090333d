"""Many sandboxes at once: `Fleet`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from typing import TYPE_CHECKING, Any, Literal

from paddock._concurrency import AsyncResource, cancel
from paddock.backends.base import Backend
from paddock.errors import ConfigError
from paddock.runtime.core.reach import require_out_of_reach
from paddock.runtime.fleet.attempts import ARTIFACT_LIMIT, Plan
from paddock.runtime.fleet.batch import Batch, Opening
from paddock.runtime.fleet.drive import Driver
from paddock.runtime.fleet.exports import BatchReport, write_exports
from paddock.runtime.fleet.frozen import freeze, image_digest
from paddock.runtime.fleet.ordering import Ordering
from paddock.runtime.fleet.placement import Engines
from paddock.runtime.fleet.results import restored
from paddock.runtime.fleet.retries import Retries
from paddock.runtime.fleet.run_directory import RunDirectory
from paddock.runtime.fleet.work import as_work

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from paddock.runtime.fleet.placement import Placement
    from paddock.runtime.fleet.results import TaskResult

__all__ = ["BatchReport", "Fleet", "FleetProgress"]

PATIENCE = 600.0
"""Seconds that a batch waits for its infrastructure by default: an engine or a node restarts, and
a service recovers, within some minutes."""


class Fleet(AsyncResource):
    """Runs one batch: a sandbox of `backend` for each task, at most `limit` at once::

        async with Fleet(backend, out="runs/a", limit=64) as fleet:
            async for result in fleet.map(solve, tasks):
                print(result.key, result.status)

    Everything is kept in the directory `out`, which has to be its user's alone and out of reach
    of the sandboxes. Without it, nothing is left afterwards. A task runs at least once, and one
    result of it is accepted; with `resume` a batch whose process ended continues, and what is
    finished does not run again, except what `rerun` names. See `docs/fleet.md`.

    - `backend`: the recipe of the sandboxes; several that differ in nothing but in the engine
      are used together, as is a recipe that names several (`DockerBackend(host=[...])`).
    - `placement`: where attempts run, such as `RayPlacement`; by default in this process.
    - `ordering`: which tasks begin first, how many of a group run at once, on which image.
    - `memory`: bytes for all sandboxes of a node together, of which each takes what the recipe
      declares (`Resources.memory`), or else what they are seen to use. By default it is what a node
      has available.
    - `timeout`: seconds for all that an attempt does, of which `verify_share` is kept for `verify`.
    - `artifacts`: paths below the working directory that are copied out of each sandbox. A task
      with more than `artifact_limit` bytes of them fails; 4 GiB by default.
    - `verify`: work as in `map`, in a fresh sandbox that has the artifacts and nothing else; a
      task whose verification fails, or returns False, is failed.
    - `keep`: ``"failed"`` lets the sandboxes of failed tasks stay, twenty at most; see
      `docs/fleet.md`.
    - `retries`: how often a task begins again, by whose fault it failed.
    - `give_up_after`: seconds after which an outage ends the batch, with `BatchGaveUp`.
    """

    def __init__(
        self,
        backend: Backend | Sequence[Backend],
        *,
        out: str | os.PathLike[str] | None = None,
        limit: int = 8,
        placement: Placement | None = None,
        ordering: Ordering | None = None,
        memory: int | None = None,
        timeout: float | None = None,
        artifacts: Sequence[str] = (),
        artifact_limit: int | None = None,
        verify: object = None,
        verify_share: float = 0.2,
        keep: Literal["failed"] | None = None,
        retries: Retries | None = None,
        give_up_after: float = PATIENCE,
        resume: bool = False,
        rerun: Sequence[str] = (),
        rerun_changed: bool = False,
        repeat: int = 1,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if limit < 1:
            raise ConfigError("limit has to be at least 1")
        if isinstance(artifacts, str) or isinstance(rerun, str):
            raise ConfigError("artifacts and rerun take a list, not one string")
        if out is None and resume:
            raise ConfigError("a batch is resumed in its directory; give out")
        self._opening = Opening(
            resume=resume, rerun=tuple(rerun), rerun_changed=rerun_changed, repeat=repeat
        )
        self._out = out
        self._limit = limit
        self._memory = memory
        self._ordering = Ordering() if ordering is None else ordering
        backends = (backend,) if isinstance(backend, Backend) else tuple(backend)
        engines = tuple(engine for each in backends for engine in each.engines())
        self._placement = Engines(engines) if placement is None else placement
        _require_alike(backends, placement, self._ordering)
        if keep is not None:
            _require_keeping(backends, placement, keep)
        self._retries = Retries() if retries is None else retries
        self._patience = give_up_after
        self._extra = {} if extra is None else extra
        self._settings: dict[str, Any] = {
            "backend": _together(backends),
            "verify": None if verify is None else as_work(verify),
            "artifacts": tuple(artifacts),
            "artifact_limit": ARTIFACT_LIMIT if artifact_limit is None else artifact_limit,
            "timeout": timeout,
            "verify_share": verify_share,
            "keep": keep is not None,
        }
        self._stack = contextlib.AsyncExitStack()
        self._batch: Batch | None = None
        self._driver: Driver | None = None
        self._driving: asyncio.Task[None] | None = None

    @property
    def notes(self) -> Sequence[str]:
        """What to know about how the batch was opened, such as what was lost."""
        return () if self._batch is None else tuple(self._batch.notes)

    @property
    def is_open(self) -> bool:
        """Whether there is a batch that has begun."""
        return self._driver is not None and not self.closed

    async def report(self, *, fail_under: float = 1.0, gave_up: str | None = None) -> BatchReport:
        """Write summary.json, junit.xml and report.html, and return how the batch stands."""
        batch = self._opened()
        return await batch.do(
            lambda ledger: write_exports(
                ledger, batch.directory, fail_under=fail_under, gave_up=gave_up
            )
        )

    def _opened(self) -> Batch:
        if self._batch is None or not self.is_open:
            raise ConfigError("the fleet has no batch that is open; call map")
        return self._batch

    async def progress(self) -> FleetProgress:
        """Return how far the batch is."""
        counts = await self._opened().do(lambda ledger: ledger.counts())
        driver = self._driver
        if driver is None:
            return FleetProgress(counts=counts)
        return FleetProgress(
            counts=counts,
            cost=driver.cost,
            paused=driver.paused,
            throttled=driver.throttled,
        )

    async def map(
        self, work: object, tasks: Iterable[object] | None = None
    ) -> AsyncIterator[TaskResult[Any]]:
        """Do `work` for each of `tasks`, and yield each result when it is accepted.

        `work` is a function ``async def solve(sandbox, task)``, an `Agent`, whose prompt is the
        task, or a command, in which ``{input}`` stands for the task. `tasks` are any JSON values;
        those that a batch to resume has need not be given again. What is finished already comes
        first.

        Raises `BatchGaveUp` when the infrastructure does not come back or nothing can be written
        any more, and the error of a recipe that makes no sandbox at all. Leaving the loop early
        cancels what runs; close the iterator (`aclose`) or the fleet to await that.
        """
        if self._batch is not None:
            raise ConfigError("a fleet runs one batch; make another fleet")
        batch = self._batch = Batch(RunDirectory(self._place()))
        plan = Plan(run_id="", work=as_work(work), **self._settings)
        _require_apart(batch, plan.backend)
        digest = await image_digest(plan.backend, is_made=False)
        configuration = {**freeze(plan, digest), "image_of_task": self._ordering.image}
        await batch.open(self._opening, configuration, tasks, self._extra, self._ordering)
        self._stack.push_async_callback(batch.aclose)
        async for entry in batch.finished():
            yield restored(entry, batch.directory.folder(entry.task.key, entry.attempt.number))
        async for result in self._drive(batch, dataclasses.replace(plan, run_id=batch.run_id)):
            yield result

    async def _drive(self, batch: Batch, plan: Plan) -> AsyncIterator[TaskResult[Any]]:
        shown: asyncio.Queue[TaskResult[Any] | None] = asyncio.Queue(self._limit)
        driver = self._driver = Driver(
            batch,
            plan,
            limit=self._limit,
            placement=self._placement,
            ordering=self._ordering,
            memory=self._memory,
            retries=self._retries,
            patience=self._patience,
            show=shown.put,
        )

        async def drive() -> None:
            try:
                await driver.run()
            except asyncio.CancelledError:
                while not shown.empty():  # the ledger has them
                    shown.get_nowait()
                shown.put_nowait(None)
                raise
            except Exception:
                await shown.put(None)
                raise
            await shown.put(None)

        driving = self._driving = asyncio.create_task(drive())
        try:
            while (result := await shown.get()) is not None:
                yield result
            await driving
        finally:
            await cancel(driving)

    def _place(self) -> str | os.PathLike[str]:
        if self._out is not None:
            return self._out
        folder = tempfile.TemporaryDirectory(prefix="paddock-fleet-", ignore_cleanup_errors=True)
        self._stack.callback(folder.cleanup)
        return folder.name

    async def _close(self) -> None:
        if self._driving is not None:
            await cancel(self._driving)
        await self._stack.aclose()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetProgress:
    """How far a batch is. `counts` are tasks: pending, running, completed, and failed by fault.

    `cost` is what models have cost in attempts that ended, failed ones too, in US dollars.
    While `paused`, it says why no task begins; `throttled` which limit holds back the next one.
    """

    counts: Mapping[str, int]
    cost: float = 0.0
    paused: str | None = None
    throttled: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    backend: Backend
    given_working_dir: str | None


def _require_alike(
    backends: tuple[Backend, ...], placement: Placement | None, ordering: Ordering
) -> None:
    if not backends:
        raise ConfigError("give a backend")
    if placement is not None and len(backends) > 1:
        raise ConfigError("a placement has its own engines; give one backend")
    if len({_but_host(each) for each in backends}) > 1:
        raise ConfigError("the backends of a batch may differ in their host and in nothing else")
    if ordering.image is not None and not hasattr(backends[0], "image"):
        raise ConfigError(f"tasks choose an image, and sandboxes of {backends[0].name} have none")


def _require_keeping(backends: tuple[Backend, ...], placement: Placement | None, keep: str) -> None:
    backend = backends[0]
    if keep != "failed":
        raise ConfigError(f"keep={keep!r}: give 'failed' or None")
    if placement is not None:
        raise ConfigError("keep: sandboxes stay only on engines that this process uses")
    if not hasattr(backend, "lease"):
        raise ConfigError(f"keep: sandboxes of {backend.name} end with the process that made them")
    if len(backends) > 1 and any(getattr(each, "host", None) is None for each in backends):
        raise ConfigError("keep: give each engine its host, so that attach finds it again")


def _together(backends: tuple[Backend, ...]) -> Backend:
    """Return one recipe for all of these that are told apart by their hosts."""
    hosts = [getattr(engine, "host", None) for each in backends for engine in each.engines()]
    if len(backends) == 1 or None in hosts:
        return backends[0]
    anywhere: dict[str, Any] = {"host": hosts}
    return dataclasses.replace(backends[0], **anywhere)


def _but_host(backend: Backend) -> str:
    anywhere: dict[str, Any] = {"host": None} if hasattr(backend, "host") else {}
    return repr(dataclasses.replace(backend, **anywhere))


def _require_apart(batch: Batch, backend: Backend) -> None:
    placed = _Placed(backend=backend, given_working_dir=backend.working_dir)
    require_out_of_reach(batch.directory.path, placed, what="the directory of the batch")
