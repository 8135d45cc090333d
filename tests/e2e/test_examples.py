"""Every example runs, as it is, without a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

EXAMPLES = Path(__file__).parents[2] / "examples"
PROJECT = EXAMPLES / "broken-project"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_runs(example: Path, paddock: Paddock) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", example],
        cwd=paddock.cwd,
        env=paddock.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "an example shows something"


def test_the_broken_project_is_broken_in_one_place(tmp_path: Path) -> None:
    for name in ("billing", "data", "tests", "tools"):
        for path in (PROJECT / name).iterdir():
            if path.is_file():
                copy = tmp_path / name / path.name
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(path.read_bytes())
    subprocess.run([sys.executable, "tools/build_rates.py"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "unittest"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED (failures=1)" in done.stderr
    assert "test_instalments_are_due_at_the_end_of_each_month" in done.stderr
