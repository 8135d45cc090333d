"""What a session tells while it makes its sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.backends.base import Progress
from paddock.backends.local import LocalBackend
from paddock.errors import SetupFailed
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    from pathlib import Path

CREATE = Progress(step="create")
READY = Progress(step="ready")


def make_session(setup: str) -> Session:
    agent = Agent(AgentConfig(backend=LocalBackend(isolation="none", setup=[setup])))
    return Session(agent, client=ScriptedModel([]))


async def test_a_session_tells_how_far_its_sandbox_is() -> None:
    told: list[Progress] = []
    async with make_session("true") as session:
        session.on_provision = told.append
        await session.get_sandbox()
        await session.get_sandbox()
    assert told == [CREATE, Progress(step="setup", detail="true"), READY]


async def test_a_session_tells_whoever_listens_when_it_makes_a_sandbox_again() -> None:
    told: list[Progress] = []
    async with make_session("exit 3") as session:
        with pytest.raises(SetupFailed):
            await session.get_sandbox()
        session.on_provision = told.append
        with pytest.raises(SetupFailed):
            await session.get_sandbox()
    assert [progress.step for progress in told] == ["create", "setup"]


@pytest.mark.parametrize(("name", "total"), [("file", 3_000_000), ("", None)])
async def test_an_upload_tells_how_much_of_it_was_sent(
    name: str, total: int | None, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    told: list[Progress] = []
    recipe = LocalBackend(isolation="none", uploads=[(str(tmp_path / name), "there")])
    async with recipe.sandbox(on_progress=told.append):
        begun, *sent = [each for each in told if each.step == "upload"]
    assert begun.done is None
    done = [each.done or 0 for each in sent]
    assert len(done) > 1
    assert done == sorted(done)
    assert done[-1] >= 3_000_000
    assert {each.total for each in sent} == {total}


async def test_a_callback_that_fails_leaves_no_sandbox(tmp_path: Path) -> None:
    async with make_session(f"touch {tmp_path}/made") as session:

        def fail(progress: Progress) -> None:
            if progress.step == "setup":
                raise ValueError("a defect")

        session.on_provision = fail
        with pytest.raises(ValueError, match="a defect"):
            await session.get_sandbox()
    assert not (tmp_path / "made").exists()
