"""Sandboxes of failed tasks that stay, and what becomes of them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, DockerBackend, Fleet, LocalBackend, RayPlacement, Retries
from paddock.runtime.fleet import drive
from paddock.runtime.fleet.attempts import RUN_LABEL, TASK_LABEL
from tests.e2e.docker.ours import RECIPE
from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import Sandbox, TaskResult
    from tests.e2e.conftest import Paddock
    from tests.e2e.docker.proxy import EngineProxy

PATIENCE = 50
"""Seconds for two containers, on a machine ten times as busy as ours."""


async def there(run: Path, recipe: DockerBackend = RECIPE) -> list[str]:
    """The tasks of a batch that have a sandbox."""
    labels = {RUN_LABEL: json.loads((run / "run.json").read_text())["run_id"]}
    return sorted(info.labels[TASK_LABEL] for info in await recipe.list(labels))


async def results(fleet: Fleet, work: Any, tasks: Any = None) -> dict[str, TaskResult[Any]]:
    async with fleet:
        return {result.key: result async for result in fleet.map(work, tasks)}


async def solve(sandbox: Sandbox, task: Any) -> None:
    await sandbox.exec(f"echo {task} > made", check=True)
    if task == "fails":
        await sandbox.exec("exit 3", check=True)
    if task == "hangs":
        await sandbox.exec("sleep 600")


async def verify(sandbox: Sandbox, task: Any) -> bool:
    return bool(task != "wrong")


@pytest.mark.docker
async def test_sandboxes_of_failed_tasks_stay_until_they_run_again_or_are_removed(
    base_image: str, paddock: Paddock
) -> None:
    out = paddock.cwd / "run"
    settings: dict[str, Any] = {
        "out": out, "keep": "failed", "verify": verify, "timeout": 30.0, "limit": 2,
        "retries": Retries(own=1),
    }  # fmt: skip
    tasks = [{"id": each} for each in ("fails", "wrong", "works")]

    async def work(sandbox: Sandbox, task: Any) -> None:
        await solve(sandbox, task["id"])

    async def check(sandbox: Sandbox, task: Any) -> bool:
        return await verify(sandbox, task["id"])

    settings["verify"] = check
    first = await results(Fleet(RECIPE, **settings), work, tasks)
    assert {key: each.fault for key, each in first.items()} == {
        "fails": "task.failed", "wrong": "task.failed", "works": None,
    }  # fmt: skip
    assert first["fails"].attempt == 2
    assert await there(out) == ["fails", "wrong"], "one each, of the last attempt"
    await results(Fleet(RECIPE, **settings, resume=True), work)
    assert await there(out) == ["fails", "wrong"], "what is kept is not swept"
    status = json.loads(paddock("batch", "status", "run", "--json").stdout)
    assert sorted(status["kept"]) == ["fails", "wrong"]
    attached = paddock("batch", "attach", "run", "wrong", "--", "cat", "made")
    assert (attached.returncode, attached.stdout) == (0, "wrong\n"), attached.stderr
    assert paddock("batch", "attach", "run", "wrong", "--", "sh", "-c", "exit 9").returncode == 9
    refused = paddock("batch", "attach", "run", "works", "--", "true")
    assert refused.returncode == 1
    assert "no sandbox of task 'works' is kept" in refused.stderr
    await results(Fleet(RECIPE, **settings, resume=True, rerun=["wrong"]), work)
    again = json.loads(paddock("batch", "status", "run", "--json").stdout)["kept"]
    assert again["wrong"] != status["kept"]["wrong"]
    assert await there(out) == ["fails", "wrong"], "the earlier one is removed"
    cleaned = paddock("batch", "clean", "run")
    assert sorted(cleaned.stdout.split()) == sorted(again.values())
    assert await there(out) == []
    assert json.loads(paddock("batch", "status", "run", "--json").stdout)["kept"] == {}


@pytest.mark.docker
async def test_a_task_that_ran_too_long_is_kept_and_so_are_only_some(
    base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "MOST_KEPT", 1)
    out = tmp_path / "run"
    fleet = Fleet(RECIPE, out=out, keep="failed", timeout=10.0, limit=1)
    found = await results(fleet, solve, ["hangs", "fails"])
    assert [each.fault for each in found.values()] == ["task.timeout", "task.failed"]
    assert await there(out) == [found_key(found, "task.timeout")]
    for info in await RECIPE.list(dict(RECIPE.labels)):
        await RECIPE.delete(info.id)


def found_key(found: dict[str, TaskResult[Any]], fault: str) -> str:
    return next(key for key, each in found.items() if each.fault == fault)


@pytest.mark.docker
async def test_after_a_kill_the_resumed_batch_removes_what_has_no_lease(
    base_image: str, paddock: Paddock
) -> None:
    lines = [{"id": "fails", "input": "exit 3"}, {"id": "slow", "input": "sleep $X"}]
    (paddock.cwd / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ["--backend", "docker", "--image", base_image, "--keep", "failed", "--limit", "1"]
    options += ["--env", "X=600", "--", "sh", "-c", "{input}"]
    process = paddock.start("map", "tasks.jsonl", "--out", "run", *options)
    results = paddock.cwd / "run/results.jsonl"
    with process:
        wait_until(results.exists, within=PATIENCE, otherwise="the first task did not end")
        while "slow" not in await there(paddock.cwd / "run"):
            pass
        process.kill()
        process.communicate()
    again = paddock(
        "map", "--resume", "run", "--rerun-changed", "--env", "X=0", "--rerun", "failed"
    )
    assert again.returncode == 1, again.stderr
    assert await there(paddock.cwd / "run") == ["fails"]
    assert len(paddock("batch", "clean", "run").stdout.split()) == 1


@pytest.mark.docker
async def test_what_was_kept_on_one_of_several_engines_is_found_again(
    engine_proxy: EngineProxy, base_image: str, tmp_path: Path, paddock: Paddock
) -> None:
    """Two addresses of one engine stand for two engines."""
    hosts = [engine_proxy.socket, str(tmp_path / "docker.sock")]
    recipes = [dataclasses.replace(RECIPE, host=f"unix://{each}") for each in hosts]
    out = paddock.cwd / "run"
    found = await results(
        Fleet(recipes, out=out, keep="failed", limit=2), solve, ["fails", "works"]
    )
    key = found_key(found, "task.failed")
    attach = ("batch", "attach", "run", key, "--", "cat", "made")
    attached = await asyncio.to_thread(paddock, *attach)
    assert (attached.returncode, attached.stdout) == (0, "fails\n"), attached.stderr
    cleaned = await asyncio.to_thread(paddock, "batch", "clean", "run")
    assert len(cleaned.stdout.split()) == 1, cleaned.stderr
    assert await there(out) == []


async def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sandboxes of local end with the process"):
        Fleet(LocalBackend(), keep="failed")
    with pytest.raises(ConfigError, match="only on engines that this process uses"):
        Fleet(RECIPE, keep="failed", placement=RayPlacement())
    with pytest.raises(ConfigError, match="give each engine its host"):
        Fleet([RECIPE, dataclasses.replace(RECIPE, host="tcp://b:1")], keep="failed")
    with pytest.raises(ConfigError, match="give 'failed' or None"):
        Fleet(dataclasses.replace(RECIPE), keep=secrets.token_hex(2))  # type: ignore[arg-type]
