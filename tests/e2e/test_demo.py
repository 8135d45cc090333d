"""`paddock demo`, the main job: what `make demo` shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock


def test_an_agent_mends_the_project_and_everything_is_taken_down(paddock: Paddock) -> None:
    done = paddock("demo", "-n", "3")
    assert done.returncode == 0, done.stdout + done.stderr

    steps = [
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
        "3 sandboxes in",
    ]
    place = 0
    for step in steps:
        place = done.stdout.find(step, place)
        assert place >= 0, f"{step!r} is missing, or out of order:\n{done.stdout}"
    assert done.stdout.count("✓ pass") == 3
    assert done.stdout.count("\n--- a/") == 1, "one file was changed, and nothing else"


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
