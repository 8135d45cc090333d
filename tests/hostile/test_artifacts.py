"""What a task leaves among its artifacts to reach its own verification, or our disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock import Fleet, LocalBackend
from paddock.runtime.fleet.attempts import AttemptRun

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from paddock import Sandbox, TaskResult

BACKEND = LocalBackend(isolation="none")

PLANT = r"""
mkdir out && cd out && echo good > answer && ln answer hard && ln -s /etc/passwd link
ln -s ../.. up && mkfifo pipe && touch "$(printf 'two\nlines')" && truncate -s 1M sparse
"""


async def run(fleet: Fleet, work: Any) -> TaskResult[Any]:
    async with asyncio.timeout(60), fleet:
        (result,) = [each async for each in fleet.map(work, [{"id": "t"}])]
        return result


def artifacts_in(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.glob("run/tasks/t/attempt-1/artifacts/**/*")}


async def test_only_plain_files_reach_the_verification(tmp_path: Path) -> None:
    verify = "cd out && find . ! -type d ! -type f | grep -q . && exit 1; ! test -e ../../t"
    fleet = Fleet(BACKEND, out=tmp_path / "run", artifacts=["out"], verify=verify)
    result = await run(fleet, PLANT)
    assert result.fault is None, result.error
    found = artifacts_in(tmp_path)
    found.pop("out")
    assert found.keys() == {"answer", "hard", "two\nlines", "sparse"}
    assert found["hard"].stat().st_nlink == 1
    assert not any(path.is_symlink() for path in found.values())


async def test_a_sparse_file_beyond_the_limit_fails_the_task_alone(tmp_path: Path) -> None:
    fleet = Fleet(BACKEND, out=tmp_path / "run", artifacts=["big"], artifact_limit=2**20)
    result = await run(fleet, "truncate -s 10G big")
    assert result.fault == "task.failed"
    assert "the artifacts have more than 1,048,576 bytes" in str(result.error)
    assert artifacts_in(tmp_path) == {}


async def test_an_artifact_that_changed_after_it_was_collected_is_not_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    make = AttemptRun._verify

    async def change(self: AttemptRun, verify: Any) -> None:
        (self.folder / "artifacts/answer").write_text("better")
        await make(self, verify)

    async def check(sandbox: Sandbox, task: Any) -> None:
        verified.append(task["id"])

    monkeypatch.setattr(AttemptRun, "_verify", change)
    fleet = Fleet(BACKEND, out=tmp_path / "run", artifacts=["answer"], verify=check)
    result = await run(fleet, "echo good > answer")
    assert result.fault == "task.failed"
    assert "an artifact changed after it was collected" in str(result.error)
    assert not verified
