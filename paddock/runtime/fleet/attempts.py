"""One attempt of a task: a fresh sandbox, the work, its artifacts, and their verification."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import ConfigError, PaddockError, SandboxError
from paddock.runtime.core.gate import MODEL_GATE
from paddock.runtime.fleet.disk import cannot_write, has_room, is_full
from paddock.runtime.fleet.faults import BatchGaveUp, TaskFailed, classify
from paddock.runtime.fleet.metering import AgentMeter
from paddock.runtime.fleet.work import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from paddock.backends.base import Backend, Progress
    from paddock.runtime.core.gate import ModelGate
    from paddock.runtime.fleet.faults import Stage
    from paddock.runtime.fleet.tasks import Task
    from paddock.runtime.fleet.work import Work
    from paddock.sandbox import Sandbox

__all__ = ["ARTIFACT_LIMIT", "RUN_LABEL", "AttemptRun", "Plan", "attempt_of"]

RUN_LABEL, TASK_LABEL, ATTEMPT_LABEL = "paddock.batch", "paddock.task", "paddock.attempt"

ARTIFACTS = "artifacts"

ARTIFACT_LIMIT = 4 * 2**30
"""Bytes: more than a model's weights of a usual size, and less than a disk has."""

_log = get_logger(__name__)


def attempt_of(labels: Mapping[str, str]) -> tuple[str, int]:
    """Return the key and the number of the attempt for which a sandbox with `labels` was made."""
    return labels[TASK_LABEL], int(labels[ATTEMPT_LABEL].partition(" ")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done for each task of the batch `run_id`.

    `artifact_limit` is in bytes, for all artifacts of an attempt, and for a tree's archive.
    `timeout` is in seconds, for everything from the sandbox's creation on; with `verify`, the
    share `verify_share` of it is kept for the verification. With `keep` the sandbox of an attempt
    that failed stays, without a lease.
    """

    run_id: str
    backend: Backend
    work: Work
    verify: Work | None = None
    artifacts: Sequence[str] = ()
    artifact_limit: int = ARTIFACT_LIMIT
    timeout: float | None = None
    verify_share: float = 0.2
    keep: bool = False

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigError(f"timeout={self.timeout!r}: give seconds above 0")
        if not 0 < self.verify_share < 1:
            raise ConfigError(f"verify_share={self.verify_share!r}: give a share between 0 and 1")
        if self.artifact_limit < 1:
            raise ConfigError(f"artifact_limit={self.artifact_limit!r}: give at least 1 byte")
        for path in self.artifacts:
            named = PurePosixPath(path)
            if named.is_absolute() or not named.parts or ".." in named.parts:
                raise ConfigError(f"artifact {path!r}: give a path below the working directory")


@dataclass(slots=True, kw_only=True)
class AttemptRun:
    """Attempt `number` of `task`, which writes its files into `folder`.

    `image` is that of its sandboxes, instead of the recipe's. `on_made` is called with the id of
    a sandbox when it is ready. Calls of models wait for their turn at `models`.
    """

    plan: Plan
    task: Task
    number: int
    folder: Path
    image: str | None = None
    models: ModelGate
    on_made: Callable[[str], Awaitable[None]]

    stage: Stage = "create"
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by what they were spent on: a `Stage`, or an agent's ``model`` and ``tools``, which
    are not part of ``run`` then. All that is done for the verification is ``verify``."""
    cost: float = 0.0
    """Of models, in US dollars."""
    hashes: dict[str, str] = field(default_factory=dict)
    kept: str | None = None
    """The id of the sandbox of the work, if that stays."""
    may_be_left: bool = False
    """Whether a sandbox may be left: its creation failed, perhaps without an answer, or its
    removal did."""
    began: float = field(default_factory=time.monotonic)
    _spending: str = "create"
    _since: float = field(default_factory=time.monotonic)
    _verifying: bool = False
    _lost: bool = False
    _collected: int = 0
    """Bytes of artifacts that have come."""

    async def run(self) -> Any:
        """Do the work and have it verified; return what it returned. Raise `TaskFailed`.

        All sandboxes are gone when this returns, raises or is cancelled, but for one that is
        `kept` after a failure.
        """
        failed = False
        try:
            async with asyncio.timeout(self._left()):
                result = await self._work()
            if self.plan.verify is not None:
                self._verifying = True
                async with asyncio.timeout(self._left()):
                    await self._verify(self.plan.verify)
        except BatchGaveUp:  # what was asked to note the sandbox
            raise
        except Exception as error:
            failed = True
            await self._require_room(error)
            raise self._failed(error) from error
        finally:
            self._spend("queue")
            if not failed:
                await finish(self.forget())
        return result

    async def forget(self) -> None:
        """Remove the sandbox that is kept, if there is one."""
        kept, self.kept = self.kept, None
        if kept is not None:
            try:
                await self.plan.backend.delete(kept)
            except (PaddockError, OSError) as error:
                self.may_be_left = True
                _log.warning("sandbox %s is not removed yet: %s", kept, error)

    async def _work(self) -> Any:
        async with self._made("work") as sandbox:
            self._enter("run")
            result = await self._metered(self.plan.work, sandbox)
            self._enter("collect")
            for path in self.plan.artifacts:
                await self._collect(sandbox, path)
        return result

    async def _verify(self, verify: Work) -> None:
        """Verify the artifacts in a sandbox in which nothing of the task has run."""
        folder = self.folder / "verify"
        folder.mkdir()
        artifacts = self.folder / ARTIFACTS
        async with self._made("verify") as sandbox:
            self._enter("verify")
            if await asyncio.to_thread(_hashes, artifacts) != self.hashes:
                raise TaskFailed("task.failed", "an artifact changed after it was collected")
            if artifacts.exists():
                await sandbox.fs.upload(artifacts, ".", ignore=())
            if await self._metered(verify, sandbox, folder=folder) is False:
                raise TaskFailed("task.failed", "it was not verified")

    async def _metered(self, work: Work, sandbox: Sandbox, folder: Path | None = None) -> Any:
        """Do the work, and note what it cost and how long its models and tools took."""
        meter = AgentMeter()
        place = Place(folder=folder or self.folder, seconds=self._left(), meter=meter)
        before = MODEL_GATE.set(self.models)
        try:
            return await work(sandbox, self.task, place)
        finally:
            MODEL_GATE.reset(before)
            self.cost += meter.cost
            self._spend(self._spending)
            if not self._verifying:
                self._split_run(meter.seconds)

    @contextlib.asynccontextmanager
    async def _made(self, role: str) -> AsyncIterator[Sandbox]:
        plan = self.plan
        labels = {
            **plan.backend.labels,
            RUN_LABEL: plan.run_id,
            TASK_LABEL: self.task.key,
            ATTEMPT_LABEL: f"{self.number}" if role == "work" else f"{self.number} {role}",
        }
        varied: dict[str, Any] = {"labels": labels}
        if self.image is not None:
            varied["image"] = self.image
        may_stay = plan.keep and role == "work"
        if may_stay:
            varied["lease"] = None
        recipe = replace(plan.backend, **varied)
        self._enter("create")
        try:
            sandbox = await recipe.create(on_progress=self._follow)
        except (SandboxError, OSError):
            self.may_be_left = True
            raise
        stays = may_stay and plan.verify is not None  # until it is verified
        try:
            await self.on_made(sandbox.id)
            yield sandbox
        except BaseException:  # of which the end of a timeout is a cancellation here
            self._lost = sandbox.lost and not sandbox.closed
            stays = may_stay and not sandbox.lost
            raise
        finally:
            self._spend("remove")
            if not (stays and await self._let_go(sandbox)):
                await self._remove(sandbox)

    async def _remove(self, sandbox: Sandbox) -> None:
        """Remove a sandbox; one that cannot be removed yet decides nothing."""
        try:
            await sandbox.aclose()
        except (PaddockError, OSError) as error:
            self.may_be_left = True
            _log.warning("sandbox %s is not removed yet: %s", sandbox.id, error)

    async def _let_go(self, sandbox: Sandbox) -> bool:
        """Let the sandbox stay without us; return whether it does."""
        try:
            await sandbox.detach()
        except (PaddockError, OSError) as error:
            _log.warning("sandbox %s cannot be kept: %s", sandbox.id, error)
            return False
        self.kept = sandbox.id
        return True

    async def _collect(self, sandbox: Sandbox, path: str) -> None:
        to = self.folder / ARTIFACTS / path
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        before, limit = self._collected, self.plan.artifact_limit

        def count(received: int, _total: int | None) -> None:
            self._collected = before + received
            if self._collected > limit:
                raise TaskFailed("task.failed", f"the artifacts have more than {limit:,} bytes")

        try:
            await sandbox.fs.download(path, to, links="skip", on_progress=count)
        except FileNotFoundError:
            raise TaskFailed("task.failed", f"there is no artifact {path!r}") from None
        self.hashes = await asyncio.to_thread(_hashes, self.folder / ARTIFACTS)

    async def _require_room(self, error: Exception) -> None:
        """Raise `BatchGaveUp` if the attempt failed because our disk is full.

        What was copied is removed by now, so what an attempt may copy has to fit. If it does, the
        disk has room again, or the sandbox only says that there was none.
        """
        was_full = self.stage == "collect" and isinstance(error, OSError) and is_full(error)
        size = self.plan.artifact_limit if was_full else 0
        if not await asyncio.to_thread(has_room, self.folder, size):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
            raise cannot_write(full) from error
        if was_full:
            raise TaskFailed("infra.lost", f"its artifacts could not be kept: {error}") from error

    def _follow(self, progress: Progress) -> None:
        if progress.step in ("upload", "setup") and self.stage == "create":
            self._enter("setup")

    def _enter(self, stage: Stage) -> None:
        self._spend(stage)
        self.stage = stage

    def _spend(self, on: str) -> None:
        """Spend the time from now on `on`."""
        now = time.monotonic()
        self.stages[self._spending] = self.stages.get(self._spending, 0.0) + now - self._since
        self._since, self._spending = now, "verify" if self._verifying else on

    def _split_run(self, seconds: dict[str, float]) -> None:
        """Take the time of an agent's models and tools out of that of its run."""
        used = {name: spent for name, spent in seconds.items() if spent}
        self.stages |= used
        self.stages["run"] = max(0.0, self.stages["run"] - sum(used.values()))

    def _left(self) -> float | None:
        plan = self.plan
        if plan.timeout is None:
            return None
        kept = plan.timeout * plan.verify_share if plan.verify and not self._verifying else 0.0
        return max(0.0, self.began + plan.timeout - kept - time.monotonic())

    def _failed(self, error: Exception) -> TaskFailed:
        if isinstance(error, TimeoutError) and not str(error):
            message = f"it took longer than {self.plan.timeout:g} s, in stage {self.stage!r}"
            error = TimeoutError(message)
        failed = classify(error, self.stage, lost=self._lost)
        failed.message = self.plan.backend.redactor.text(failed.message)
        return failed


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below `folder`, by its path there."""
    return {str(path.relative_to(folder)): _hash(path) for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
