"""What the pytest plugin refuses, in runs of pytest of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_pytest_plugin import project as project
from tests.e2e.test_pytest_plugin import run as run

if TYPE_CHECKING:
    from tests.e2e.test_pytest_plugin import Run

pytest_plugins = "pytester"

REFUSED = """
import pytest
from pathlib import Path

@pytest.mark.sandbox(image="debian")
async def test_image(sandbox): pass

@pytest.mark.sandbox(imagine="debian")
async def test_word(sandbox): pass

@pytest.mark.sandbox("debian")
async def test_position(sandbox): pass

def test_synchronous(sandbox): pass

@pytest.mark.sandbox(resources={"pid": 100})
async def test_resources(sandbox): pass

@pytest.mark.sandbox(files="data")
async def test_files(sandbox): pass

@pytest.mark.sandbox(files={"data": 3})
async def test_content(sandbox): pass

@pytest.mark.sandbox(files={3: "data"})
async def test_name(sandbox): pass

@pytest.mark.sandbox(files={"data": "\\ud800"})
async def test_surrogate(sandbox): pass

@pytest.mark.sandbox(files={"data": Path("nowhere")})
async def test_source(sandbox): pass

@pytest.mark.sandbox(network=3)
async def test_network(sandbox): pass

async def test_services(sandbox_factory):
    async with sandbox_factory(services=["db"]): pass

async def test_service(sandbox_factory):
    async with sandbox_factory(services={"db": "postgres"}): pass

@pytest.mark.anyio
async def test_two_loops(sandbox): pass
"""


def test_what_cannot_be_is_an_error_without_a_traceback(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(REFUSED)
    result = run()
    result.assert_outcomes(errors=12, failed=2)
    result.stdout.fnmatch_lines([
        "the local backend does not support image= (--sandbox-unsupported=skip skips such tests)",
        "*unknown: imagine; there are: image, network, files, env, resources",
        "@pytest.mark.sandbox takes keyword arguments only",
        "a sandbox needs an asynchronous test: write 'async def', *",
        "resources={'pid': 100}: give Resources, or a dictionary of cpu, *",
        "files='data': give a dictionary",
        "files?'data'?=3: give text, bytes or a Path",
        "files: 3: give the path in the sandbox as text",
        "files?'data'?: 'utf-8' codec can't encode *; give bytes",
        "files?'data'?=PosixPath('nowhere'): there is no such file",
        "network=3: give text, Allow or a list of hosts",
        "pytest-asyncio would run this test, and AnyIO's plugin its fixtures, *",
        "services=?'db'?: give a dictionary of containers",
        "services: 'db': give a container of testcontainers",
    ])  # fmt: skip
    assert "Traceback" not in result.stdout.str()
    assert "_lending.py" not in result.stdout.str()


def test_what_a_backend_cannot_do_is_skipped_on_request(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(REFUSED)
    run("--sandbox-unsupported=skip", "-k", "test_image").assert_outcomes(skipped=1, deselected=13)


def test_an_unknown_value_ends_the_run(
    project: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDOCK_SANDBOX_KEEP", "perhaps")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*sandbox_keep='perhaps': give off or on or retain-on-failure"])


OWN = """
import pytest
from paddock import LocalBackend

@pytest.fixture
def sandbox_recipe(): return LocalBackend()
"""


def test_a_name_that_no_backend_has_is_for_a_recipe_of_the_project(
    project: pytest.Pytester, run: Run
) -> None:
    project.makepyfile("async def test_it(sandbox): pass")
    result = run("--sandbox-backend=ours")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["--sandbox-backend=ours: no backend is called 'ours'; *"])
    assert "get_backend" not in result.stdout.str()
    project.makeconftest(OWN)
    result = run("--sandbox-backend=ours")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK


def test_workers_may_have_names_of_the_users(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile("def test_it(): pass")
    run("--tx=popen//id=first", "--dist=load").assert_outcomes(passed=1)
