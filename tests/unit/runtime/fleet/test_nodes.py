"""Several engines, and which task begins where and when."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, DockerBackend, Fleet, Ordering
from paddock.errors import SandboxError
from paddock.runtime.fleet import admission
from paddock.runtime.fleet.limits import MemoryLimit
from paddock.runtime.fleet.memory import MachineMemory, machine_memory
from tests.unit.runtime.conftest import CountingBackend

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import Sandbox, TaskResult

PATIENCE = 60
MIB, GIB = 2**20, 2**30


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BACKOFF", 0.001)
    monkeypatch.setattr(admission, "BACKOFF_MAX", 0.01)


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine(CountingBackend):
    """An engine with an address; without one it is down."""

    host: str | None = None
    image: str = "plain"

    async def _make(self, on_progress: Any) -> Any:
        if self.host == "down":
            raise SandboxError("the engine is gone")
        sandbox = await super()._make(on_progress)
        sandbox.labels = {"image": self.image, "host": self.host}  # type: ignore[dict-item]
        return sandbox


async def where(sandbox: Sandbox, task: Any) -> str:
    for _ in range(5):
        await asyncio.sleep(0)
    return f"{sandbox.labels['host']} {sandbox.labels['image']}"


async def run(fleet: Fleet, work: Any, tasks: Any = None) -> dict[str, TaskResult[Any]]:
    async with asyncio.timeout(PATIENCE), fleet:
        return {result.key: result async for result in fleet.map(work, tasks)}


def named(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", **fields} for number in range(count)]


async def test_engines_share_the_tasks() -> None:
    engines = [Engine(host="a"), Engine(host="b")]
    results = await run(Fleet(engines, limit=8), where, named(40))
    used = Counter(each.result for each in results.values())
    assert used.total() == 40
    assert min(used["a plain"], used["b plain"]) >= 10


async def test_an_engine_that_is_down_pauses_alone_and_fails_no_task() -> None:
    engines = [Engine(host="a"), Engine(host="down")]
    results = await run(Fleet(engines, limit=4), where, named(30))
    assert {each.result for each in results.values()} == {"a plain"}
    assert not engines[0].live


async def test_engines_of_one_batch_have_one_recipe() -> None:
    with pytest.raises(ConfigError, match="in their host and in nothing else"):
        Fleet([Engine(host="a"), Engine(host="b", setup=["true"])])
    with pytest.raises(ConfigError, match="give a backend"):
        Fleet([])


async def test_a_recipe_with_several_hosts_is_for_each_of_them() -> None:
    recipe = DockerBackend(host=["unix:///a.sock", "tcp://b:2375"])
    assert [each.host for each in recipe.engines()] == ["unix:///a.sock", "tcp://b:2375"]
    assert [await each.is_here() for each in recipe.engines()] == [True, False]
    with pytest.raises(ConfigError, match="made on one engine, and host has 2"):
        await recipe.create()
    for hosts in ([], ["a", "a"], [1]):
        with pytest.raises(ConfigError, match="host="):
            DockerBackend(host=hosts)  # type: ignore[arg-type]


async def test_tasks_stay_where_their_image_is() -> None:
    engines = [Engine(host="a"), Engine(host="b")]
    tasks = [{"id": f"{image}{n}", "image": image} for n in range(20) for image in ("x", "y")]
    results = await run(Fleet(engines, limit=2, ordering=Ordering(image="image")), where, tasks)
    used = Counter(each.result for each in results.values())
    assert sum(count for _, count in used.most_common(2)) == 40, used
    assert {str(each).split()[1] for each in used} == {"x", "y"}
    with pytest.raises(ConfigError, match="sandboxes of counting have none"):
        Fleet(CountingBackend(), ordering=Ordering(image="image"))


async def test_higher_priorities_begin_first() -> None:
    begun: list[str] = []

    async def note(sandbox: Sandbox, task: Any) -> None:
        begun.append(task["id"])

    tasks = [*named(3), {"id": "late", "p": -1}, {"id": "soon", "p": 2.5}]
    await run(Fleet(Engine(), limit=1, ordering=Ordering(priority="p")), note, tasks)
    assert begun == ["soon", "t0", "t1", "t2", "late"]
    with pytest.raises(ConfigError, match="p 'high' is not a number"):
        await run(Fleet(Engine(), ordering=Ordering(priority="p")), note, named(1, p="high"))


async def test_those_that_took_longest_begin_first_the_next_time(tmp_path: Path) -> None:
    begun: list[str] = []
    slow = asyncio.Event()

    async def solve(sandbox: Sandbox, task: Any) -> None:
        begun.append(task["id"])
        if task["id"] == "t3":
            await slow.wait()
        elif len(begun) == 5:
            slow.set()
        raise ValueError("again")

    out, tasks = tmp_path / "run", [{"id": f"t{n}"} for n in (0, 3, 1, 2, 4)]
    await run(Fleet(Engine(), out=out, limit=2), solve, tasks)
    begun.clear()
    await run(Fleet(Engine(), out=out, limit=1, resume=True, rerun=["failed"]), solve)
    assert begun[0] == "t3"


async def test_a_group_runs_as_many_as_its_cap_and_holds_up_no_other() -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    throttled: set[str | None] = set()

    async def solve(sandbox: Sandbox, task: Any) -> None:
        running[task["kind"]] += 1
        most[task["kind"]] = max(most[task["kind"]], running[task["kind"]])
        for _ in range(10):
            await asyncio.sleep(0)
        throttled.add((await fleet.progress()).throttled)
        running[task["kind"]] -= 1

    tasks = [{"id": f"g{n}", "kind": "gpu"} for n in range(300)]
    tasks += [{"id": f"c{n}", "kind": "cpu"} for n in range(40)]
    fleet = Fleet(Engine(), limit=8, ordering=Ordering(group="kind", caps={"gpu": 2}))
    results = await run(fleet, solve, tasks)
    assert len(results) == 340
    assert most["gpu"] == 2
    assert most["cpu"] > 2, "they stand behind more than a page of the others"
    assert "groups at their caps: gpu (2)" in throttled
    with pytest.raises(ConfigError, match="caps are for groups"):
        Ordering(caps={"gpu": 2})


def test_without_a_declaration_sandboxes_are_limited_by_what_they_use() -> None:
    limit = MemoryLimit(total=None, each=None)
    limit.observe(MachineMemory(available=10 * GIB), running=0)
    assert limit.reason(8, 4) is None
    limit.observe(MachineMemory(available=6 * GIB), running=4)
    assert limit.reason(4, 0) is None
    limit.observe(MachineMemory(available=2 * GIB), running=8)
    assert limit.reason(8, 0) is None
    assert limit.reason(8, 1) == "sandboxes use 1,024 MiB each, and 2,048 MiB are available"
    assert limit.reason(0, 0) is None, "one may always run"


def test_a_total_counts_for_sandboxes_that_declare_nothing() -> None:
    limit = MemoryLimit(total=3 * GIB, each=None)
    limit.observe(MachineMemory(available=10 * GIB), running=0)
    assert limit.reason(8, 0) is None
    limit.observe(MachineMemory(available=8 * GIB), running=2)
    assert limit.reason(2, 0) is None
    assert limit.reason(3, 0) == "3 sandboxes of 1,024 MiB fit into 3,072 MiB"


def test_nothing_begins_while_processes_wait_for_memory() -> None:
    limit = MemoryLimit(total=None, each=None)
    limit.observe(MachineMemory(available=10 * GIB, pressure=35.5), running=2)
    assert limit.reason(2, 0) == "processes wait for memory 36 % of the time"
    limit.observe(MachineMemory(available=10 * GIB), running=2)
    assert limit.reason(2, 0) is None


def test_a_declaration_is_measured_against_what_is_available_at_first() -> None:
    limit = MemoryLimit(total=None, each=512 * MIB)
    limit.observe(MachineMemory(available=2 * GIB), running=0)
    assert limit.reason(2, 1) is None
    assert limit.reason(3, 0) == "3 sandboxes of 512 MiB fit into 1,843 MiB"


def test_the_memory_of_this_machine_is_known() -> None:
    found = machine_memory()
    assert found is not None
    assert found.available > 0


async def test_what_is_left_on_an_engine_that_is_down_holds_up_no_other(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Swept(Engine):
        async def list(self, labels: Any = None) -> Any:
            if self.host == "down":
                raise SandboxError("the engine is gone")
            return []

    out, engines = tmp_path / "run", [Swept(host="down"), Swept(host="b")]
    await run(Fleet(engines, out=out, limit=2), where, named(2))
    results = await run(Fleet(engines, out=out, resume=True, rerun=["t0"]), where)
    assert [each.earlier for each in results.values()] == [True, False]
    with pytest.raises(SandboxError, match="the engine is gone"):
        await run(Fleet(engines[:1], out=out, resume=True, rerun_changed=True), where)


async def test_an_image_that_is_none_is_said_before_anything_runs() -> None:
    engine = Engine()
    with pytest.raises(ConfigError, match="t0': image 3 is not an image"):
        await run(Fleet(engine, ordering=Ordering(image="image")), where, named(1, image=3))
    assert not engine.made
