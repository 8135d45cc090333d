"""What run.json keeps of a batch, and what is compared when it is resumed."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, Fleet
from paddock.errors import SandboxError
from tests.unit.runtime.conftest import CountingBackend
from tests.unit.runtime.fleet.test_fleet import double, named, run

if TYPE_CHECKING:
    from pathlib import Path


class Engine:
    """The images of an engine: what a name means now."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.answers = True

    async def identity(self, reference: str) -> str | None:
        if not self.answers:
            raise SandboxError("the engine is gone")
        return self.digests.get(reference)


@dataclass(frozen=True, kw_only=True, eq=False)
class Imaged(CountingBackend):
    """Pulls its image when it makes the first sandbox."""

    image: str = "ours:latest"
    engine: Engine = field(default_factory=Engine, repr=False)

    @property
    def images(self) -> Any:
        return self.engine

    async def _make(self, on_progress: Any) -> Any:
        self.engine.digests.setdefault(self.image, "sha256:1")
        return await super()._make(on_progress)


def frozen(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def commit(folder: Path) -> str:
    """Make a repository in `folder` with one commit, and return that."""
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@localhost", "-C", str(folder))
    for command in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "First")):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)
    return head.stdout.decode().strip()


async def test_versions_the_commit_and_the_hash_of_the_tasks_are_kept(
    backend: CountingBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    await run(Fleet(backend, out=tmp_path / "run"), double, named(2))
    known = frozen(tmp_path / "run")
    assert known["circumstances"]["commit"] == head
    assert known["circumstances"]["paddock"] == version("paddock")
    await run(Fleet(backend, out=tmp_path / "same"), double, named(2))
    await run(Fleet(backend, out=tmp_path / "other"), double, named(3))
    digests = [frozen(tmp_path / each)["tasks"]["digest"] for each in ("run", "same", "other")]
    assert digests[0] == digests[1] != digests[2]


async def test_an_image_that_means_another_one_now_is_a_change(tmp_path: Path) -> None:
    recipe, out = Imaged(), tmp_path / "run"
    await run(Fleet(recipe, out=out), double, named(2))
    assert frozen(out)["configuration"]["image"] == "sha256:1", "known after the first sandbox"
    await run(Fleet(recipe, out=out, resume=True), double)
    recipe.engine.digests[recipe.image] = "sha256:2"
    with pytest.raises(ConfigError, match=r'- image: "sha256:1"\n.*\+ image: "sha256:2"'):
        await run(Fleet(recipe, out=out, resume=True), double)
    results = await run(Fleet(recipe, out=out, resume=True, rerun_changed=True), double)
    assert not any(each.earlier for each in results.values())
    assert frozen(out)["configuration"]["image"] == "sha256:2"
    recipe.engine.answers = False
    assert len(await run(Fleet(recipe, out=out, resume=True), double)) == 2
    assert frozen(out)["configuration"]["image"] == "sha256:2", "one that is not known is no change"


async def test_an_image_that_is_there_is_known_before_the_first_sandbox(tmp_path: Path) -> None:
    recipe, out = Imaged(), tmp_path / "run"
    recipe.engine.digests[recipe.image] = "sha256:0"
    seen = []

    async def solve(sandbox: Any, task: Any) -> None:
        seen.append(frozen(out)["configuration"]["image"])

    await run(Fleet(recipe, out=out), solve, named(1))
    assert seen == ["sha256:0"]
