"""Batches in memory: sandboxes that only count, and an engine that fails when it is told to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    BatchGaveUp,
    ConfigError,
    Fleet,
    Resources,
    Retries,
    SandboxLost,
    SessionLocked,
)
from paddock.errors import ModelError, SandboxError, SetupFailed
from paddock.process import ExecResult
from paddock.runtime.fleet import admission
from paddock.runtime.fleet.limits import StartLimit
from tests.unit.runtime.conftest import CountingBackend

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import Sandbox, TaskResult

PATIENCE = 60


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BACKOFF", 0.001)
    monkeypatch.setattr(admission, "BACKOFF_MAX", 0.01)


async def run(fleet: Fleet, work: Any, tasks: Any = None) -> dict[str, TaskResult[Any]]:
    async with asyncio.timeout(PATIENCE), fleet:
        return {result.key: result async for result in fleet.map(work, tasks)}


def named(count: int) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", "n": number} for number in range(count)]


async def double(sandbox: Sandbox, task: Any) -> int:
    await asyncio.sleep(0)
    return int(task["n"]) * 2


async def test_every_task_has_a_sandbox_of_its_own_and_a_result(
    backend: CountingBackend, tmp_path: Path
) -> None:
    results = await run(Fleet(backend, out=tmp_path / "run", limit=3), double, named(10))
    assert {key: each.result for key, each in results.items()} == {
        f"t{number}": 2 * number for number in range(10)
    }
    assert len(backend.made) == 10
    assert not backend.live
    lines = [json.loads(line) for line in (tmp_path / "run/results.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == sorted(results)
    folder = results["t3"].directory
    assert folder is not None
    assert json.loads((folder / "result.json").read_text())["result"] == 6


async def test_what_is_finished_comes_first_on_resume_and_does_not_run_again(
    backend: CountingBackend, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    begun = asyncio.Event()

    async def slow(sandbox: Sandbox, task: Any) -> int:
        if task["n"] == 2:
            begun.set()
            await asyncio.Event().wait()
        return await double(sandbox, task)

    stopped = asyncio.create_task(run(Fleet(backend, out=out, limit=1), slow, named(4)))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    assert not backend.live
    made = len(backend.made)
    fleet = Fleet(backend, out=out, resume=True, limit=1)
    with pytest.raises(ConfigError, match=r'- work.function: ".*slow"\n.*\+ work.function'):
        await run(fleet, double)
    fleet = Fleet(backend, out=out, resume=True, rerun_changed=False, limit=1)

    async def again(sandbox: Sandbox, task: Any) -> int:
        return await double(sandbox, task)

    again.__qualname__ = slow.__qualname__
    results = await run(fleet, again)
    assert [each.earlier for each in results.values()] == [True, True, False, False]
    assert [each.result for each in results.values()] == [0, 2, 4, 6]
    assert len(backend.made) - made == 2


async def test_a_directory_is_used_by_one_batch_and_one_process(
    backend: CountingBackend, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="not the directory of a batch"):
        await run(Fleet(backend, out=out, resume=True), double)

    async def nested(sandbox: Sandbox, task: Any) -> None:
        with pytest.raises(SessionLocked, match="in use by process"):
            await run(Fleet(backend, out=out, resume=True), double)

    results = await run(Fleet(backend, out=out), nested, named(1))
    assert results["t0"].status == "completed", results["t0"].error
    with pytest.raises(ConfigError, match="there is a batch in"):
        await run(Fleet(backend, out=out), double, named(1))
    with pytest.raises(ConfigError, match="the tasks are others"):
        await run(Fleet(backend, out=out, resume=True), nested, named(2))


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("x"), "task.failed"),
        (TimeoutError("x"), "task.timeout"),
        (SandboxLost("gone"), "infra.lost"),
        (ModelError("overloaded"), "infra.model"),
        (ConfigError("x"), "config"),
    ],
)
async def test_a_failure_is_booked_to_whose_fault_it_is(
    backend: CountingBackend, error: Exception, fault: str
) -> None:
    tries = 0

    async def fail(sandbox: Sandbox, task: Any) -> None:
        nonlocal tries
        if task["n"] == 0:
            tries += 1
            raise error

    retries = Retries(infrastructure=1, model=2, own=3)
    results = await run(Fleet(backend, limit=1, retries=retries), fail, named(2))
    assert (results["t0"].status, results["t0"].fault) == ("error", fault)
    assert results["t1"].status == "completed"
    expected = {"infra.lost": 2, "infra.model": 3, "config": 1}.get(fault, 4)
    assert tries == expected == results["t0"].attempt


async def test_an_outage_uses_no_try_and_fails_no_task(backend: CountingBackend) -> None:
    failures = 40

    class Flaky(CountingBackend):
        async def _make(self, on_progress: Any) -> Any:
            nonlocal failures
            if len(self.made) >= 10 and failures:
                failures -= 1
                raise SandboxError(f"the engine is gone ({failures})")
            return await super()._make(on_progress)

    results = await run(Fleet(Flaky(), limit=4), double, named(30))
    assert [each.status for each in results.values()] == ["completed"] * 30
    assert not failures


async def test_an_engine_that_is_gone_for_good_ends_the_batch_which_can_be_resumed(
    tmp_path: Path,
) -> None:
    gone = True

    class Gone(CountingBackend):
        async def _make(self, on_progress: Any) -> Any:
            if gone and len(self.made) >= 5:
                raise SandboxError("the engine is gone")
            return await super()._make(on_progress)

    backend, out = Gone(), tmp_path / "run"
    fleet = Fleet(backend, out=out, limit=4, give_up_after=0.05)
    with pytest.raises(BatchGaveUp, match="the engine is gone"):
        await run(fleet, double, named(12))
    gone = False
    results = await run(Fleet(backend, out=out, limit=4, resume=True), double)
    assert [each.status for each in results.values()] == ["completed"] * 12
    assert 5 <= sum(each.earlier for each in results.values()) < 12


async def test_a_recipe_that_cannot_work_ends_the_batch_at_once(backend: CountingBackend) -> None:
    class Broken(CountingBackend):
        async def _make(self, on_progress: Any) -> Any:
            self.made.append(None)  # type: ignore[arg-type]
            raise SetupFailed("make deps", ExecResult(exit_code=2))

    broken = Broken()
    with pytest.raises(SetupFailed, match="make deps"):
        await run(Fleet(broken, limit=1), double, named(100))
    assert len(broken.made) == 1


async def test_leaving_the_loop_early_ends_what_runs(backend: CountingBackend) -> None:
    ended: list[int] = []

    async def slow(sandbox: Sandbox, task: Any) -> None:
        if task["n"]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(task["n"])

    async with asyncio.timeout(PATIENCE), Fleet(backend, limit=3) as fleet:
        async for _ in fleet.map(slow, named(9)):
            break
    assert sorted(ended) == [1, 2, 3] or sorted(ended) == [1, 2]
    assert not backend.live


async def test_one_deadline_has_a_share_for_verification(backend: CountingBackend) -> None:
    verified: list[str] = []

    async def verify(sandbox: Sandbox, task: Any) -> bool:
        verified.append(task["id"])
        return bool(task["n"] != 1)

    async def solve(sandbox: Sandbox, task: Any) -> None:
        if task["n"] == 2:
            await asyncio.Event().wait()

    fleet = Fleet(backend, verify=verify, timeout=1.0, verify_share=0.9)
    results = await run(fleet, solve, named(3))
    assert [results[f"t{n}"].fault for n in range(3)] == [None, "task.failed", "task.timeout"]
    assert "in stage 'run'" in str(results["t2"].error)
    assert sorted(verified) == ["t0", "t1"]
    assert len(backend.made) == 5
    assert not backend.live


async def test_tasks_run_again_by_fault_by_key_and_after_a_change(
    backend: CountingBackend, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    bad = {0, 1}

    async def solve(sandbox: Sandbox, task: Any) -> int:
        if task["n"] in bad:
            raise SandboxLost("gone") if task["n"] else ValueError("x")
        return int(task["n"])

    first = await run(Fleet(backend, out=out, retries=Retries(infrastructure=0)), solve, named(4))
    assert [first[f"t{n}"].fault for n in range(4)] == ["task.failed", "infra.lost", None, None]
    bad.clear()
    second = await run(Fleet(backend, out=out, resume=True, rerun=["infra"]), solve)
    assert [second[f"t{n}"].fault for n in range(4)] == ["task.failed", None, None, None]
    third = await run(Fleet(backend, out=out, resume=True, rerun=["t2", "failed"]), solve)
    assert {key for key, each in third.items() if not each.earlier} == {"t0", "t2"}
    with pytest.raises(ConfigError, match="rerun 'nope'"):
        await run(Fleet(backend, out=out, resume=True, rerun=["nope"]), solve)
    changed = [*named(3), {"id": "t3", "n": 33}, {"id": "t4", "n": 4}]
    last = await run(Fleet(backend, out=out, resume=True, rerun_changed=True), solve, changed)
    assert {key for key, each in last.items() if not each.earlier} == {"t3", "t4"}
    assert last["t3"].result == 33


async def test_cancelled_tasks_run_again_when_asked(
    backend: CountingBackend, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    async def solve(sandbox: Sandbox, task: Any) -> None:
        if task["n"] == 0:
            raise asyncio.CancelledError
        if task["n"] == 1:
            raise ValueError("x")

    first = await run(Fleet(backend, out=out), solve, named(3))
    assert [first[f"t{n}"].status for n in range(3)] == ["cancelled", "error", "completed"]
    again = await run(Fleet(backend, out=out, resume=True, rerun=["cancelled"]), solve)
    assert [key for key, each in again.items() if not each.earlier] == ["t0"]


async def test_a_full_disk_ends_the_batch_which_can_be_resumed(
    backend: CountingBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddock.runtime.fleet.run_directory import RunDirectory

    out, append = tmp_path / "run", RunDirectory.append
    written = 0

    def full(self: RunDirectory, line: Any) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise OSError(28, "No space left on device")
        append(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append", full)
        with pytest.raises(BatchGaveUp, match="No space left on device"):
            await run(Fleet(backend, out=out, limit=1), double, named(5))
    results = await run(Fleet(backend, out=out, limit=1, resume=True), double)
    assert [each.earlier for each in results.values()] == [True] * 3 + [False] * 2
    lines = [json.loads(line)["key"] for line in (out / "results.jsonl").read_text().splitlines()]
    assert lines == [f"t{n}" for n in range(5)]


async def test_sandboxes_run_only_as_far_as_their_memory_goes() -> None:
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Declared(CountingBackend):
        resources: Resources = field(default_factory=lambda: Resources(memory=512 * 2**20))

    backend, most = Declared(), 0
    throttled: set[str | None] = set()

    async def solve(sandbox: Sandbox, task: Any) -> None:
        nonlocal most
        most = max(most, len(backend.live))
        for _ in range(10):
            await asyncio.sleep(0)
        throttled.add((await fleet.progress()).throttled)

    fleet = Fleet(backend, limit=64, memory=4 * 2**30)
    results = await run(fleet, solve, named(100))
    assert [each.status for each in results.values()] == ["completed"] * 100
    assert 1 < most <= 8
    assert "8 sandboxes of 512 MiB fit into 4,096 MiB" in throttled


def test_fewer_sandboxes_start_when_they_take_longer_and_more_when_they_do_not() -> None:
    limit = StartLimit()

    def start(seconds: float) -> None:
        keys = [f"{n}" for n in range(int(limit.limit))]
        for key in keys:
            limit.begin(key)
        assert limit.reason() == f"{len(keys)} sandboxes are starting"
        for key in keys:
            limit.made(key, seconds)
        assert limit.reason() is None

    for _ in range(10):
        start(0.1)
    assert limit.limit > 16
    high = limit.limit
    for _ in range(3):
        start(1.0)
    assert limit.limit < high / 4
    for _ in range(100):
        start(10.0)
    assert limit.limit == 2
    limit.begin("a")
    limit.ended("a")
    assert limit.reason() is None


async def test_a_task_that_takes_the_engine_down_again_and_again_is_poison() -> None:
    down = noticed = False
    running = 0
    alone: list[bool] = []

    class Engine(CountingBackend):
        async def list(self, labels: Any = None) -> Any:
            nonlocal noticed
            if down:
                noticed = True
                raise SandboxError("the engine is gone")
            return []

        async def _make(self, on_progress: Any) -> Any:
            nonlocal down
            if down and not noticed:
                raise SandboxError("the engine is gone")
            down = False  # somebody starts it again
            return await super()._make(on_progress)

    async def solve(sandbox: Sandbox, task: Any) -> None:
        nonlocal down, noticed, running
        running += 1
        try:
            if task["n"] == 1:
                alone.append(running == 1)
                down, noticed = True, False
            await asyncio.sleep(0)
            if down:
                raise SandboxLost("the engine is gone")
        finally:
            running -= 1

    results = await run(Fleet(Engine(), limit=2), solve, named(8))
    assert {key: each.fault for key, each in results.items() if each.fault} == {"t1": "poison"}
    assert len(alone) == 3
    assert alone[-1], "it ran at the end, by itself"
