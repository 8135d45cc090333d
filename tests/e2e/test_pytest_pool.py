"""The plugin's pool, in runs of pytest of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from paddock import LocalBackend
from tests.e2e.test_pytest_plugin import project as project
from tests.e2e.test_pytest_plugin import run as run

if TYPE_CHECKING:
    from tests.e2e.test_pytest_plugin import Run

pytest_plugins = "pytester"

POOLED = """
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

@pytest.mark.parametrize("number", range(4))
async def test_taken(sandbox_pool, number, request, worker_id):
    wanted = {"master": 3, "gw0": 2, "gw1": 1}[worker_id]
    assert sandbox_pool.stats().size == wanted
    async with sandbox_pool.sandbox() as sandbox:
        assert (await sandbox.exec("test ! -e used && touch used")).ok
        assert sandbox.labels["paddock-test-worker"] in ("main", worker_id)
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_pool_is_divided_among_the_workers(
    project: pytest.Pytester, run: Run, workers: str
) -> None:
    project.makepyfile(POOLED)
    run("-n", workers, "--sandbox-pool", "3").assert_outcomes(passed=4)
    assert not asyncio.run(LocalBackend().list())


@pytest.mark.parametrize("size", ["0", "-1", "some"])
def test_a_pool_of_no_size_ends_the_run(project: pytest.Pytester, run: Run, size: str) -> None:
    result = run(f"--sandbox-pool={size}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*sandbox_pool='{size}': give a whole number, 1 or more*"])
