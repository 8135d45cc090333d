"""Going on with a session from the command line: on the backend that it was saved with."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.e2e.conftest import Paddock

    Resume = Callable[..., subprocess.CompletedProcess[str]]

LOOK = "echo mark=$MARK in=$PWD; cat tree/leaf made; test -e /.dockerenv && echo a$((1))container"


@pytest.fixture
def elsewhere(paddock: Paddock) -> Paddock:
    """The same user, in another directory."""
    place = paddock.cwd / "elsewhere"
    place.mkdir()
    return dataclasses.replace(paddock, cwd=place)


@pytest.fixture
def resume(elsewhere: Paddock) -> Resume:
    """``resume(*options)`` goes on with the latest session there."""
    return lambda *options: elsewhere("sessions", "resume", "latest", "Again", "--json", *options)


def begin(paddock: Paddock, *options: str) -> None:
    turn = {"tool_calls": [{"name": "bash", "arguments": {"command": LOOK}}]}
    script = paddock.cwd / "script.yaml"
    script.write_text(json.dumps([turn, {"text": "Done."}] * 3))
    (paddock.cwd / "tree").mkdir()
    (paddock.cwd / "tree" / "leaf").write_text("of maple\n")
    done = paddock(
        *("run", "Go", "--model", f"scripted:{script}", "--profile", "developer", "-y"),
        *("--upload", "tree:tree", "--setup", "echo by hand > made", "--env", "MARK=first"),
        *options,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["local", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_session_comes_back_in_a_sandbox_made_as_its_first_one(
    paddock: Paddock, elsewhere: Paddock, backend: str, request: pytest.FixtureRequest
) -> None:
    if backend == "docker":
        request.getfixturevalue("base_image")
    begin(paddock, "-b", backend)
    for command in (("sessions", "resume", "latest", "Again"), ("run", "Again", "-r", "latest")):
        done = elsewhere(*command, "--json", env={"PADDOCK_BACKEND": "nonsense"})
        assert done.returncode == 0, done.stderr
        for said in ("mark=first", "of maple", "by hand"):
            assert said in done.stdout
        assert ("a1container" in done.stdout) == (backend == "docker")


def test_options_change_what_the_session_was_saved_with(paddock: Paddock, resume: Resume) -> None:
    begin(paddock, "--env", "OTHER=kept")
    done = resume("--env", "MARK=second", "--setup", "echo $OTHER > made")
    assert done.returncode == 0, done.stderr
    for said in ("mark=second", "of maple", "kept"):
        assert said in done.stdout


def test_a_backend_that_is_named_is_described_anew(paddock: Paddock, resume: Resume) -> None:
    begin(paddock)
    done = resume("--backend", "local")
    assert done.returncode == 0, done.stderr
    assert "mark= in=" in done.stdout
    assert "of maple" not in done.stdout


def test_a_working_directory_is_the_same_from_anywhere(paddock: Paddock, resume: Resume) -> None:
    begin(paddock, "-w", "work")
    assert f"in={paddock.cwd}/work" in resume().stdout
    moved = resume("-w", "here")
    assert f"in={paddock.cwd}/elsewhere/here" in moved.stdout, moved.stderr


def test_what_could_not_be_saved_has_to_be_said_again(paddock: Paddock, resume: Resume) -> None:
    begin(paddock)
    (config,) = paddock.home.rglob("config.yaml")
    head, _, _ = config.read_text().partition("backend:")
    config.write_text(f"{head}backend: 'docker (backend.image: a thing)'\nauto_approve: true\n")
    done = resume()
    assert done.returncode == 1
    assert "could not be saved with it: docker (backend.image: a thing)" in done.stderr
    assert "--backend" in done.stderr
    assert resume("--backend", "local").returncode == 0
