"""What goes wrong around the tasks of a batch: texts, files, engines, and processes that end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import BatchGaveUp, Fleet, Retries, SandboxLost
from paddock.errors import SandboxError
from paddock.runtime.fleet import ledger_file, nodes
from paddock.runtime.fleet.ledger import Ledger
from tests.unit.runtime.conftest import CountingBackend
from tests.unit.runtime.fleet.test_fleet import double, named, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock import Sandbox
    from paddock.backends.base import SandboxInfo

HALF = "half of a pair: \ud800"


async def test_texts_that_are_no_unicode_are_kept_and_stop_nothing(
    backend: CountingBackend, tmp_path: Path
) -> None:
    async def solve(sandbox: Sandbox, task: Any) -> Any:
        match task["id"]:
            case "raises":
                raise ValueError(f"no file {HALF}")
            case "nan":
                return float("nan")
            case _:
                return {"text": f"{task['x']}\x00\u2028"}

    tasks = [{"id": each, "x": HALF} for each in ("raises", "nan", "returns")]
    out = tmp_path / "run"
    async with Fleet(backend, out=out) as fleet:
        found = {each.key: each async for each in fleet.map(solve, [*tasks, HALF])}
        await fleet.report()
    assert found["returns"].result == {"text": f"{HALF}\x00\u2028"}
    assert str(found["raises"].error) == f"task.failed: ValueError: no file {HALF[:-1]}?"
    assert (found["nan"].fault, len(found)) == ("config", 4)
    assert "Out of range float" in str(found["nan"].error)
    for name in ("tasks.jsonl", "results.jsonl", "junit.xml", "report.html"):
        (out / name).read_text("utf-8", errors="strict")
    again = await run(Fleet(backend, out=out, resume=True), solve)
    assert again["returns"].result == {"text": f"{HALF}\x00\u2028"}


async def test_a_torn_line_of_the_results_is_said_and_they_are_written_anew(
    backend: CountingBackend, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    await run(Fleet(backend, out=out), double, named(3))
    results = out / "results.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole[:-20])
    fleet = Fleet(backend, out=out, resume=True)
    assert len(await run(fleet, double)) == 3
    assert fleet.notes == ("the last line of results.jsonl was torn; it is written anew",)
    lines = results.read_bytes().split(b"\n")
    assert sorted(lines) == sorted(whole.split(b"\n"))
    assert [json.loads(line)["key"] for line in lines if line] == ["t0", "t1", "t2"]


async def test_on_a_network_file_system_the_ledger_has_a_rollback_journal_which_is_said(
    backend: CountingBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "is_on_network", lambda _path: True)
    modes = []

    async def solve(sandbox: Sandbox, task: Any) -> None:
        modes.append((tmp_path / "run/ledger.db-wal").exists())

    fleet = Fleet(backend, out=tmp_path / "run")
    await run(fleet, solve, named(2))
    assert "the ledger is on a network file system" in fleet.notes[0]
    again = Fleet(backend, out=tmp_path / "run", resume=True, rerun=["t0"])
    await run(again, solve)
    assert any("the ledger is on a network file system" in each for each in again.notes)
    assert modes == [False] * 3
    assert (tmp_path / "run/ledger.db").read_bytes()[18:20] == b"\x01\x01", "no write-ahead log"


@pytest.mark.parametrize("name", ["result.json", "ledger.db"])
async def test_a_disk_that_is_full_at_any_write_ends_the_batch_and_loses_nothing(
    name: str, backend: CountingBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    written = 0

    def is_full() -> bool:
        nonlocal written
        written += 1
        return written >= 3

    write_text, finish = Path.write_text, Ledger.finish

    def write(self: Path, *args: Any, **options: Any) -> int:
        if self.name == name and is_full():
            raise OSError(28, "No space left on device")
        return write_text(self, *args, **options)

    def end(self: Ledger, attempt: Any) -> bool:
        if name == "ledger.db" and is_full():
            self._connection.execute("PRAGMA max_page_count = 1")
            attempt = type(attempt)(key=attempt.key, number=attempt.number, result='"long"' * 9999)
        return finish(self, attempt)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write)
        patch.setattr(Ledger, "finish", end)
        with pytest.raises(BatchGaveUp, match=r"No space left on device|is full"):
            await run(Fleet(backend, out=out, limit=1), double, named(5))
    assert not backend.live
    results = await run(Fleet(backend, out=out, limit=1, resume=True), double)
    assert [each.earlier for each in results.values()] == [True] * 2 + [False] * 3
    assert [each.result for each in results.values()] == [0, 2, 4, 6, 8]


async def test_a_sandbox_whose_creation_got_no_answer_is_removed_while_the_batch_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "LOOK", 0.001)
    there: dict[str, Mapping[str, str]] = {}
    removed: list[str] = []
    all_removed = asyncio.Event()

    class Mute(CountingBackend):
        """Makes a sandbox for all but the last attempt, whose answers are lost; the last of them
        is there only when somebody has looked for it."""

        looked = 0

        async def _make(self, on_progress: Any) -> Any:
            sandbox = await super()._make(on_progress)
            there[f"s{len(self.made)}"] = self.labels
            if len(self.made) <= 2:
                raise SandboxError("the answer was lost")
            return sandbox

        async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
            wanted = (labels or {}).items()
            type(self).looked += 1
            late = {"s2"} if self.looked < 3 else set()
            return [
                _Info(each, has)  # type: ignore[misc]
                for each, has in there.items()
                if wanted <= has.items() and each not in late
            ]

        async def delete(self, sandbox_id: str) -> bool:
            removed.append(sandbox_id)
            if {"s1", "s2"} <= {*removed}:
                all_removed.set()
            return there.pop(sandbox_id, None) is not None

    async def solve(sandbox: Sandbox, task: Any) -> None:
        await all_removed.wait()
        assert "s3" in there, "what runs is left alone"

    results = await run(Fleet(Mute(), out=tmp_path / "run", limit=1), solve, named(1))
    assert (results["t0"].fault, results["t0"].attempt) == (None, 3)


class _Info:
    def __init__(self, sandbox_id: str, labels: Mapping[str, str]) -> None:
        self.id = sandbox_id
        self.labels = labels


async def test_a_task_under_which_the_engine_went_down_twice_is_in_quarantine_after_a_resume_too(
    tmp_path: Path,
) -> None:
    down = False

    class Engine(CountingBackend):
        async def list(self, labels: Any = None) -> Any:
            if down:
                raise SandboxError("the engine is gone")
            return []

        async def _make(self, on_progress: Any) -> Any:
            if down:
                raise SandboxError("the engine is gone")
            return await super()._make(on_progress)

    ran: list[str] = []

    async def solve(sandbox: Sandbox, task: Any) -> None:
        nonlocal down
        ran.append(task["id"])
        if task["id"] == "t1":
            down = True
            raise SandboxLost("the engine is gone")

    def fleet(*, resume: bool) -> Fleet:
        retries = Retries(infrastructure=9)
        return Fleet(
            engine, out=tmp_path / "run", limit=1, give_up_after=0.0, retries=retries, resume=resume
        )

    engine = Engine()
    for resume, tasks in ((False, named(5)), (True, None)):
        with pytest.raises(BatchGaveUp, match="the engine is gone"):
            await run(fleet(resume=resume), solve, tasks)
        down = False
    found = await run(fleet(resume=True), solve)
    assert found["t1"].fault == "poison"
    assert [each.status for each in found.values()].count("completed") == 4
    assert ran.count("t1") == 3
    assert ran[-1] == "t1", "it ran at the end, by itself"
