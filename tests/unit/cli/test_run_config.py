"""``paddock run --config`` with a file that says in full what the sandboxes are."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.backends.local import LocalBackend
from paddock.runtime.agents.config import AgentConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run(*options)`` is ``paddock run`` with an agent whose model runs one command."""
    (tmp_path / "script.yaml").write_text(
        "- tool_calls: [{name: bash, arguments: {command: 'echo $MARK in $PWD'}}]\n- text: Done.\n"
    )
    (tmp_path / "paddock.toml").write_text('[sandbox.env]\nMARK = "of the project"\n')
    AgentConfig(
        system_prompt="Help.",
        model="scripted:script.yaml",
        profile="developer",
        backend=LocalBackend(isolation="none", env_vars={"MARK": "of the file"}),
    ).to_file(tmp_path / "agent.yaml")

    def running(*options: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "paddock",
            "run",
            "Go",
            "-c",
            "agent.yaml",
            "--json",
            "--trust",
        ]
        return subprocess.run(
            [*command, "--no-save", "-y", *options],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return running


def test_the_recipe_of_an_agents_file_is_used_as_it_is(run: Run) -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert "of the file in " in done.stdout
    assert "of the project" not in done.stdout


def test_the_working_directory_that_is_asked_for_replaces_the_recipes(
    run: Run, tmp_path: Path
) -> None:
    done = run("-w", str(tmp_path / "work"))
    assert f"of the file in {tmp_path}/work" in done.stdout, done.stderr


def test_an_option_goes_before_what_the_recipe_says(run: Run) -> None:
    done = run("--env", "MARK=of the command line")
    assert "of the command line in " in done.stdout, done.stderr


def test_a_backend_that_is_asked_for_replaces_the_recipe(run: Run) -> None:
    done = run("--backend", "local", "--isolation", "none", "--env", "MARK=of the command line")
    assert "of the command line in " in done.stdout, done.stderr
