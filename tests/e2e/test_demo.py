"""`paddock demo`, the main job: what `make demo` shows."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import landlock
from paddock.runtime.models.scripted import ScriptedModel
from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

SCRIPT = Path(__file__).parents[2] / "examples" / "broken-project.script.yaml"
TURNS = 5
"""Answers in the script, so calls of the model for each sandbox."""

STEPS = [
    "→ bash python3 -m unittest",
    "exit 1",
    "FAILED (failures=1)",
    "→ read billing/schedule.py",
    "→ grep add_months",
    "→ edit billing/schedule.py",
    "→ bash python3 -m unittest",
    "exit 0",
    "-        due = add_months(due, 1)",
    "+        yield add_months(start, number)",
    "they pass now",
    "trace.jsonl",
    "tokens in",
    "gone, with every process in it",
]


def assert_tells(output: str, *steps: str) -> None:
    """Fails unless `output` has all of `steps`, in this order."""
    place = 0
    for step in steps:
        place = output.find(step, place)
        assert place >= 0, f"{step!r} is missing, or out of order:\n{output}"


def test_an_agent_mends_the_project_and_everything_is_taken_down(paddock: Paddock) -> None:
    done = paddock("demo", "-n", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_tells(done.stdout, *STEPS, "3 sandboxes in")
    assert done.stdout.count("✓ pass") == 3
    assert done.stdout.count("\n--- a/") == 1, "one file was changed, and nothing else"


async def test_with_a_key_a_model_behind_a_real_socket_mends_it_too(paddock: Paddock) -> None:
    async with ModelServer(ScriptedModel.from_file(SCRIPT)) as server:
        done = await asyncio.to_thread(
            paddock,
            *("demo", "--model", "gpt-5-mini", "-n", "2"),
            env={"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_tells(done.stdout, *STEPS, "2 sandboxes in")
    assert done.stdout.count("✓ pass") == 2
    assert len(server.requests) == 3 * TURNS
    assert {request.body["model"] for request in server.requests} == {"gpt-5-mini"}
    assert all(request.body["stream"] for request in server.requests)
    cost = re.search(r"cost\s.*\$(\d+\.\d+)", done.stdout)
    assert cost is not None, done.stdout
    assert float(cost[1]) > 0, "what a real model costs is on the price list"
    (trace,) = paddock.home.rglob("trace.jsonl")
    assert server.api_key not in trace.read_text() + done.stdout + done.stderr


@pytest.mark.parametrize(
    ("key", "told"),
    [("", "✗ no API key: set OPENAI_API_KEY"), ("wrong", "✗ API error 401 (after retries): no")],
)
async def test_without_a_key_that_fits_the_demo_fails_and_says_why_once(
    paddock: Paddock, key: str, told: str
) -> None:
    async with ModelServer(ScriptedModel.from_file(SCRIPT)) as server:
        url = server.base_url if key else ""
        done = await asyncio.to_thread(
            paddock,
            *("demo", "--model", "gpt-5-mini", "-n", "0"),
            env={"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key},
        )
    assert done.returncode == 1
    assert done.stdout.count("✗ ") == (2 if key else 1), "that, and the tests of the project"
    assert told in done.stdout
    assert "Traceback" not in done.stderr
    assert not server.requests


def test_the_trace_that_the_demo_names_tells_the_run_again(paddock: Paddock) -> None:
    done = paddock("demo", "-n", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"trace\s+(\S+/trace\.jsonl)", done.stdout)
    assert found is not None
    assert found[1].startswith(str(paddock.home))

    shown = paddock("sessions", "show", "latest")
    assert shown.returncode == 0, shown.stderr
    assert "→ edit billing/schedule.py" in shown.stdout
    assert "completed" in shown.stdout


def test_a_project_that_is_not_mended_is_a_failure(paddock: Paddock) -> None:
    script = paddock.cwd / "idle.yaml"
    script.write_text("- text: I would rather not.\n")
    done = paddock("demo", "-n", "2", "--model", f"scripted:{script}")
    assert done.returncode == 1
    assert "they still fail" in done.stdout
    assert done.stdout.count("✗ fail") == 2


def test_without_bubblewrap_it_runs_and_says_first_how_it_is_fenced(
    paddock: Paddock, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("rm", "chmod", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = paddock("demo", "-n", "0", env={"PATH": str(programs), "TMPDIR": tempfile.gettempdir()})
    assert done.returncode == 0, done.stdout + done.stderr
    how = "under Landlock" if landlock.abi() else "unfenced, because its commands are its own"
    first = done.stdout.splitlines()[0]
    assert first.startswith(f"The demo runs {how}: bubblewrap (bwrap) is not installed")

    told = paddock("doctor", env={"PATH": str(programs)}).stdout
    assert "bubblewrap" in told
    assert ("Landlock (ABI" in told) == bool(landlock.abi())
