"""Every example runs, as it is, without a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROJECT = EXAMPLES / "broken-project"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_runs(example: Path, paddock: Paddock) -> None:
    assert shown(paddock, str(example)), "an example shows something"


@pytest.mark.rows("F-21", "F-28", "F-29", "F-39")
@pytest.mark.parametrize("options", [["--docker"], ["--served"]])
def test_the_pricing_team_plans_asks_and_carries_out(
    options: list[str], paddock: Paddock, request: pytest.FixtureRequest
) -> None:
    if "--docker" in options:
        request.getfixturevalue("base_image")
    lines = shown(paddock, "-m", "examples.pricing_team", *options, folder=ROOT).splitlines()
    assert lines[-1] == "sku-000: 20.00 -> 21.00"
    assert [line for line in lines if "plan spring" in line] == [
        "  plan spring: draft -> pending_approval",
        "  approve plan spring?",
        "  plan spring: pending_approval -> approved",
        "  plan spring: approved -> executing",
        "  plan spring: executing -> executed",
    ]
    assert "  check_prices: {'checked': 20, 'below_cost': []}" in lines


@pytest.mark.parametrize("backend", ["local", "docker"])
@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["serially", "workers"])
def test_the_tests_of_a_project_run_in_sandboxes(
    backend: str, workers: list[str], paddock: Paddock, request: pytest.FixtureRequest
) -> None:
    if backend == "docker":
        request.getfixturevalue("base_image")
    options = ["-p", "no:cacheprovider", "--sandbox-backend", backend]
    told = shown(paddock, "-m", "pytest", *options, *workers, folder=EXAMPLES / "ci_project")
    assert "= 3 passed in" in told


def shown(paddock: Paddock, *args: str, folder: Path | None = None) -> str:
    """What a program prints that ends well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *args],
        cwd=folder or paddock.cwd,
        env=paddock.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


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
