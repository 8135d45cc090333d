"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import DockerBackend, LocalBackend
from paddock.testing._lending import CurrentTest, SandboxFactory, built_once
from paddock.testing.conformance.watch import make_passable
from paddock.testing.fake import FakeBackend
from tests.e2e.processes import processes_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

pytest_plugins = "pytester"

INI = """
[pytest]
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
DEADLINE = 60.0
"""Seconds until what was killed has to be gone: it takes one, and this machine may be busy."""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for the files of a project; its runs have a directory for temporary files."""
    folder = pytester.mkdir("temporary")
    make_passable(folder)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    pytester.makefile(".ini", pytest=INI.format(mode="auto"))
    return pytester


@pytest.fixture
def run(project: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run the project's tests in another process, whose warnings are errors."""

    def run_tests(*options: str) -> pytest.RunResult:
        return project.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=120)

    return run_tests


ORDINARY = """
import pytest

@pytest.mark.sandbox(files={"data/in.csv": "a,b\\n"}, env={"X": "0", "Y": "2"})
class TestMarked:
    async def test_files(self, sandbox):
        assert (await sandbox.exec("cat data/in.csv", check=True)).stdout == "a,b\\n"

    @pytest.mark.sandbox(files={"more": b"3"}, env={"X": "1"})
    async def test_the_closest_marker_adds(self, sandbox):
        assert (await sandbox.exec("cat more data/in.csv; echo $X$Y")).stdout == "3a,b\\n12\\n"

async def test_two(sandbox_factory):
    async with sandbox_factory() as a, sandbox_factory(env={"X": "1"}) as b:
        assert (await a.exec("echo $X")).stdout == "\\n"
        assert (await b.exec("echo $X")).stdout == "1\\n"

async def test_one_of_each(sandbox, sandbox_factory):
    async with sandbox_factory() as other:
        assert other.id != sandbox.id
        assert other.labels["paddock-test"].endswith("test_one_of_each[local]")
"""


def test_sandboxes_are_what_marker_and_call_say(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(ORDINARY)
    run().assert_outcomes(passed=4)
    assert not asyncio.run(LocalBackend().list())


def test_a_sandbox_that_a_test_forgets_is_closed(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile("async def test_it(sandbox_factory): await sandbox_factory().__aenter__()")
    result = run()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK


def test_workers_of_xdist_have_sandboxes(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile(ORDINARY)
    run("-n", "2").assert_outcomes(passed=4)


def test_anyio_runs_them(project: pytest.Pytester, run: Run) -> None:
    project.makefile(".ini", pytest="[pytest]\nanyio_mode = auto\nfilterwarnings = error")
    project.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'")
    project.makepyfile(ORDINARY)
    run("-p", "no:asyncio").assert_outcomes(passed=4)


def test_a_sandbox_lives_on_the_loop_of_its_test(project: pytest.Pytester, run: Run) -> None:
    project.makefile(".ini", pytest=INI.format(mode="strict"))
    scopes = ("function", "class", "module", "session")
    tests = [
        f"    @pytest.mark.asyncio(loop_scope={scope!r})\n"
        f"    async def test_{scope}(self, sandbox):\n"
        "        assert (await sandbox.exec('echo yes')).stdout == 'yes\\n'\n"
        for scope in scopes
    ]
    project.makepyfile("import pytest\nclass TestLoops:\n" + "\n".join(tests))
    run().assert_outcomes(passed=len(scopes))


def test_backends_come_from_options_or_environment_or_the_file(
    project: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makepyfile("async def test_it(sandbox): pass\ndef test_without(): pass")

    def collected(*options: str) -> list[str]:
        lines = run("--collect-only", "-q", *options).outlines
        return [line.partition("::")[2] for line in lines if "::" in line]

    assert collected() == ["test_it[local]", "test_without"]
    project.makefile(".ini", pytest=INI.format(mode="auto") + "sandbox_backend = docker daytona")
    assert collected() == ["test_it[docker]", "test_it[daytona]", "test_without"]
    monkeypatch.setenv("PADDOCK_SANDBOX_BACKEND", "local,docker")
    assert collected() == ["test_it[local]", "test_it[docker]", "test_without"]
    options = ("--sandbox-backend", "ours", "--sandbox-backend=ours,local")
    assert collected(*options) == ["test_it[ours]", "test_it[local]", "test_without"]


FAILING = """
import pytest
from paddock import Allow, LocalBackend

@pytest.fixture
def sandbox_recipe():
    return LocalBackend(secrets={"TOKEN": "very-secret-value"})

async def test_fails(sandbox):
    await sandbox.exec("echo hello > note; echo $TOKEN; echo oops >&2; exit 3")
    await sandbox.exec(["cat", "note"])
    assert False

async def test_fails_after_it(sandbox_factory):
    async with sandbox_factory() as sandbox:
        await sandbox.exec("echo early")
    assert False

async def test_lost(sandbox):
    await sandbox.aclose()
    assert False

async def test_passes(sandbox):
    await sandbox.exec("echo quiet")
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_failure_comes_with_what_happened_in_its_sandboxes(
    project: pytest.Pytester, run: Run, workers: tuple[str, ...]
) -> None:
    project.makepyfile(FAILING)
    result = run(*workers)
    result.assert_outcomes(failed=3, passed=1)
    shown = result.stdout.str()
    for line in (
        "[exit 3, ",
        "  oops",
        "$ cat note",
        "  hello",
        " note",
        "$ echo early",
        "Closed:",
    ):
        assert line in shown
    assert "very-secret-value" not in shown
    assert "quiet" not in shown


KILLED = """
import os, signal, sys, pytest
from pathlib import Path

async def test_killed(sandbox):
    process = await sandbox.start(["sleep", sys.argv[0] and "{marker}"])
    Path("started").write_text(str(os.getpid()))
    {then}
"""


def test_nothing_is_left_of_a_worker_that_is_killed(project: pytest.Pytester, run: Run) -> None:
    marker = f"9{os.getpid()}.25"
    then = "os.kill(os.getpid(), signal.SIGKILL)"
    project.makepyfile(KILLED.format(marker=marker, then=then))
    result = run("-n", "1", "--max-worker-restart=0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["local: removed sandbox ???????????? of *test_killed?local?"])
    assert not asyncio.run(LocalBackend().list())
    _wait_until(lambda: not processes_with(marker))


def test_nothing_is_left_of_a_controller_that_is_killed(project: pytest.Pytester) -> None:
    marker = f"9{os.getpid()}.75"
    project.makepyfile(KILLED.format(marker=marker, then="await process.wait()"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=project.path
    ) as controller:
        started = project.path / "started"
        try:
            _wait_until(lambda: started.exists() and bool(started.read_text()))
            _wait_until(lambda: bool(processes_with(marker)))  # it may still become that program
        finally:
            controller.send_signal(signal.SIGKILL)
    worker = int(started.read_text())
    _wait_until(lambda: not processes_with(marker))
    _wait_until(lambda: not Path(f"/proc/{worker}").exists())
    asyncio.run(LocalBackend().gc())
    assert not asyncio.run(LocalBackend().list())


def _wait_until(condition: Callable[[], bool]) -> None:
    wait_until(condition, within=DEADLINE, otherwise="it is not as it has to be in the end")


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"docker", "openai"}}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.path.insert(0, {tests!r})
"""


def test_neither_docker_nor_openai_has_to_be_installed(project: pytest.Pytester, run: Run) -> None:
    project.makeconftest(WITHOUT.format(tests=""))
    project.makepyfile(ORDINARY)
    run("--collect-only").assert_outcomes()
    run().assert_outcomes(passed=4)


def test_a_run_without_sandboxes_loads_next_to_nothing(project: pytest.Pytester, run: Run) -> None:
    project.makepyfile("""
        import sys

        def test_it():
            ours = sorted(name for name in sys.modules if name.startswith("paddock."))
            assert set(ours) <= {
                "paddock.testing", "paddock.testing.plugin", "paddock.testing._asyncio_fixtures"
            }
            assert not {"docker", "openai", "pydantic", "rich"} & sys.modules.keys()
    """)
    run().assert_outcomes(passed=1)


# ------------------------------------------------------------------------ Docker


LEFT = """
import pytest
from pathlib import Path
from paddock import DockerBackend

async def test_kept(sandbox):
    Path("kept").write_text(sandbox.id)

class TestLeft:
    @pytest.fixture
    def sandbox_recipe(self, sandbox_backend):
        return DockerBackend(lease=None)

    async def test_left(self, sandbox):
        Path("left").write_text(sandbox.id)
        await sandbox.detach()
"""


def test_a_sandbox_is_kept_on_request(project: pytest.Pytester, run: Run, base_image: str) -> None:
    project.makepyfile(LEFT)
    result = run("--sandbox-backend=docker", "--sandbox-keep=on", "-k", "test_kept", "-rA")
    assert result.ret == pytest.ExitCode.OK
    kept = (project.path / "kept").read_text()
    result.stdout.fnmatch_lines([f"kept: docker sandbox {kept} *"])
    assert asyncio.run(DockerBackend().delete(kept))


def test_what_a_test_leaves_is_removed_and_fails_the_run(
    project: pytest.Pytester, run: Run, base_image: str
) -> None:
    project.makepyfile(LEFT)
    result = run("--sandbox-backend=docker", "-k", "test_left")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    left = (project.path / "left").read_text()
    result.stdout.fnmatch_lines([f"docker: removed sandbox {left} of *test_left?docker?"])
    assert not asyncio.run(DockerBackend().delete(left))


@pytest.mark.parametrize(
    ("keep", "failed", "kept"),
    [
        ("off", True, False),
        ("on", False, True),
        ("retain-on-failure", False, False),
        ("retain-on-failure", True, True),
    ],
)
def test_what_is_kept_depends_on_the_option_and_the_outcome(
    tmp_path: Path, keep: str, failed: bool, kept: bool
) -> None:
    test = CurrentTest(
        name="it", keep=keep, skips=False, labels={}, shared=tmp_path, report=print, failed=failed
    )
    assert test.keeps == kept


@pytest.mark.parametrize("forgotten", [False, True])
async def test_an_error_that_the_test_expects_keeps_nothing(
    tmp_path: Path, forgotten: bool
) -> None:
    reports: list[str] = []
    test = CurrentTest(
        name="it",
        keep="retain-on-failure",
        skips=False,
        labels={},
        shared=tmp_path,
        report=reports.append,
    )
    recipe = FakeBackend()
    async with SandboxFactory(recipe, [], test) as factory:
        if forgotten:
            block = factory()
            await block.__aenter__()
            await block.gen.aclose()  # as the interpreter does when nothing refers to it
        else:
            with pytest.raises(ZeroDivisionError):
                async with factory():
                    raise ZeroDivisionError
    assert not recipe.host.sandboxes
    assert (test.kept, reports) == ([], [])


async def test_workers_wait_for_one_build(tmp_path: Path) -> None:
    recipe = DockerBackend(image="paddock:base")
    events: list[str] = []
    building = asyncio.Event()

    async def build(name: str) -> None:
        async with built_once(recipe, tmp_path):
            events.append(f"{name} begins")
            building.set()
            await asyncio.sleep(0)
            events.append(f"{name} ends")

    await asyncio.gather(build("one"), build("two"))
    assert json.dumps(events) in (
        '["one begins", "one ends", "two begins", "two ends"]',
        '["two begins", "two ends", "one begins", "one ends"]',
    )
