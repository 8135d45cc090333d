"""The pytest plugin: sandboxes as fixtures; see ``docs/ci.md``.

pytest loads this module in every run where Paddock is installed, so it imports nothing that a
run without sandboxes would not need. What makes sandboxes is imported by the first test that
asks for one.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Sequence
    from pathlib import Path

    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox
    from paddock.testing._lending import CurrentTest, SandboxFactory

__all__: list[str] = []

CHOICES = {
    "sandbox_keep": ("off", "on", "retain-on-failure"),
    "sandbox_unsupported": ("fail", "skip"),
}
"""Options with a fixed set of values, the default first."""
SCOPES = ("function", "class", "module", "package", "session")
"""The scopes of an event loop that pytest-asyncio knows."""
RUN_ID = "paddock_run_id"
"""Where a worker of xdist finds the id of the run."""

_test_key: pytest.StashKey[CurrentTest] = pytest.StashKey()
_run_key: pytest.StashKey[Run] = pytest.StashKey()


class Run:
    """What one process knows of the run: its id, and in the controller what tests have kept.

    A plugin of its own, because runs may be nested.
    """

    def __init__(self, config: pytest.Config) -> None:
        worker = getattr(config, "workerinput", None)
        self.is_controller = worker is None
        self.id: str = os.urandom(6).hex() if worker is None else worker[RUN_ID]
        self.worker: str = "main" if worker is None else worker["workerid"]
        self.workers: int = 1 if worker is None else worker["workercount"]
        self.used = False
        self.kept: set[str] = set()
        self.conformance: dict[str, Sequence[Any]] = {}
        """The entries of the matrix, by test."""

    def share(self, total: int) -> int:
        """Return this process's part of `total`, which is divided among the workers."""
        number = self.worker.removeprefix("gw")  # a worker of --tx may have another name
        more = number.isdecimal() and int(number) < total % self.workers
        return total // self.workers + more

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what tests have used and kept; the reports of workers arrive here, too."""
        if (kept := getattr(report, "paddock_kept", None)) is not None:
            self.used = True
            self.kept.update(kept)
        entry = getattr(report, "paddock_conformance", None)
        if entry is not None and (report.when == "call" or not report.passed):
            self.conformance[report.nodeid] = entry


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sandboxes")
    group.addoption(
        "--sandbox-backend",
        action="append",
        metavar="NAME",
        help="run tests that ask for a sandbox on this backend; give it again for another one "
        "(default: local)",
    )
    group.addoption(
        "--sandbox-keep",
        choices=CHOICES["sandbox_keep"],
        help="keep the sandboxes of tests: all, none (default), or those of tests that fail",
    )
    group.addoption(
        "--sandbox-unsupported",
        choices=CHOICES["sandbox_unsupported"],
        help="fail (default) or skip a test that asks for what its backend cannot do",
    )
    group.addoption(
        "--sandbox-pool",
        metavar="SIZE",
        help="sandboxes that the fixture sandbox_pool keeps ready, in all workers of xdist "
        "together (default: one in each)",
    )
    parser.addini("sandbox_backend", "see --sandbox-backend", type="args", default=[])
    parser.addini("sandbox_keep", "see --sandbox-keep", default="")
    parser.addini("sandbox_pool", "see --sandbox-pool", default="")
    parser.addini("sandbox_unsupported", "see --sandbox-unsupported", default="")


def setting(config: pytest.Config, name: str) -> Any:
    """Return an option's value: of the command line, the environment or the ini file."""
    return (
        config.getoption(name) or os.environ.get(f"PADDOCK_{name.upper()}") or config.getini(name)
    )


def choice(config: pytest.Config, name: str) -> str:
    """Return the value of an option that has a fixed set of them."""
    value = setting(config, name) or CHOICES[name][0]
    if value not in CHOICES[name]:
        raise pytest.UsageError(f"{name}={value!r}: give {' or '.join(CHOICES[name])}")
    return str(value)


def backends(config: pytest.Config) -> list[str]:
    """Return the names of the backends to test with, each once."""
    given = setting(config, "sandbox_backend")
    names = ",".join([given] if isinstance(given, str) else given).split(",")
    return list(dict.fromkeys(filter(None, map(str.strip, names)))) or ["local"]


def pool_size(config: pytest.Config) -> int:
    """Return how many sandboxes the pool of this process keeps ready, at least one."""
    run = config.stash[_run_key]
    given = setting(config, "sandbox_pool") or str(run.workers)
    if not given.isdecimal() or not int(given):
        raise pytest.UsageError(f"sandbox_pool={given!r}: give a whole number, 1 or more")
    return max(1, run.share(int(given)))


def run_labels(config: pytest.Config) -> dict[str, str]:
    """Return the labels of all sandboxes of this process, by which what is left is found."""
    run = config.stash[_run_key]
    run.used = True
    return {"paddock-test-run": run.id, "paddock-test-worker": run.worker}


def shared_folder(config: pytest.Config, factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of the run have."""
    base = factory.getbasetemp()
    return base if config.stash[_run_key].is_controller else base.parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "sandbox(image=, network=, files=, env=, resources=): what a test's sandboxes are like",
    )
    for name in CHOICES:
        choice(config, name)
    config.stash[_run_key] = run = Run(config)
    config.pluginmanager.register(run)
    pool_size(config)
    if config.pluginmanager.hasplugin("asyncio"):
        config.pluginmanager.import_plugin("paddock.testing._asyncio_fixtures")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist the id of the run."""
    node.workerinput[RUN_ID] = node.config.stash[_run_key].id


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Look for what a worker has left that died; its tests could not say what they used."""
    if error:
        node.config.stash[_run_key].used = True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sandbox_backend" in metafunc.fixturenames:
        names = backends(metafunc.config)
        metafunc.parametrize("sandbox_backend", names, indirect=True, scope="session")


# ------------------------------------------------------------------------ fixtures


@pytest.fixture(scope="session")
def sandbox_backend(request: pytest.FixtureRequest) -> str:
    """The name of the backend that the test runs on; see ``--sandbox-backend``."""
    return str(request.param)


@pytest.fixture(scope="session")
def sandbox_recipe(sandbox_backend: str) -> Backend:
    """The recipe that all sandboxes begin with; override it in a conftest.py to change it."""
    from paddock.backends.base import get_backend
    from paddock.errors import ConfigError, MissingDependency

    try:
        return get_backend(sandbox_backend)()
    except (ConfigError, MissingDependency) as error:
        refusal = str(error)
    pytest.fail(f"--sandbox-backend={sandbox_backend}: {refusal}", pytrace=False)


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, sandbox_recipe: Backend) -> Sandbox:
    """A sandbox of the test's own; ``@pytest.mark.sandbox(...)`` says what it is like."""
    found: Sandbox = request.getfixturevalue(_on_the_tests_loop(request, "sandbox"))
    return found


@pytest.fixture
def sandbox_factory(request: pytest.FixtureRequest, sandbox_recipe: Backend) -> SandboxFactory:
    """Makes sandboxes: ``async with sandbox_factory(env={"X": "1"}) as sandbox:``."""
    found: SandboxFactory = request.getfixturevalue(_on_the_tests_loop(request, "factory"))
    return found


def _on_the_tests_loop(request: pytest.FixtureRequest, what: str) -> str:
    """Return the name of the fixture that works on the event loop that will run the test."""
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None and "anyio_backend" in request.fixturenames:
        pytest.fail(
            "pytest-asyncio would run this test, and AnyIO's plugin its fixtures, on another event "
            "loop: drop the anyio marker and anyio_backend, or set asyncio_mode = strict",
            pytrace=False,
        )
    if marker is not None:
        default = request.config.getini("asyncio_default_test_loop_scope")
        scope = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope") or default
        return f"_paddock_{what}_on_asyncio_{scope}"
    if "anyio_backend" in request.fixturenames:
        return f"_paddock_{what}_on_anyio"
    pytest.fail(
        "a sandbox needs an asynchronous test: write 'async def', and have pytest-asyncio or "
        "AnyIO's plugin run it",
        pytrace=False,
    )


@pytest.fixture
def _paddock_lender(
    request: pytest.FixtureRequest,
    sandbox_recipe: Backend,
    tmp_path_factory: pytest.TempPathFactory,
) -> SandboxFactory:
    """What makes the sandboxes of one test. The asynchronous fixtures close it."""
    from paddock.testing._lending import CurrentTest, SandboxFactory

    test = CurrentTest(
        name=request.node.nodeid,
        keep=choice(request.config, "sandbox_keep"),
        skips=choice(request.config, "sandbox_unsupported") == "skip",
        labels={**run_labels(request.config), "paddock-test": request.node.nodeid},
        shared=shared_folder(request.config, tmp_path_factory),
        report=lambda text: request.node.add_report_section("teardown", "sandbox", text),
    )
    request.node.stash[_test_key] = test
    markers = [*request.node.iter_markers("sandbox")]
    if any(marker.args for marker in markers):
        pytest.fail("@pytest.mark.sandbox takes keyword arguments only", pytrace=False)
    return SandboxFactory(sandbox_recipe, [marker.kwargs for marker in reversed(markers)], test)


@pytest.fixture
async def _paddock_factory_on_anyio(
    anyio_backend_name: str, _paddock_lender: SandboxFactory
) -> AsyncIterator[SandboxFactory]:
    _check_backend(anyio_backend_name)
    async with _paddock_lender:
        yield _paddock_lender


@pytest.fixture
async def _paddock_sandbox_on_anyio(
    anyio_backend_name: str, _paddock_lender: SandboxFactory
) -> AsyncIterator[Sandbox]:
    _check_backend(anyio_backend_name)
    async with _paddock_lender:
        yield await _paddock_lender.make()


def _check_backend(name: str) -> None:
    if name != "asyncio":
        pytest.fail(f"sandboxes need asyncio, but anyio_backend is {name!r}", pytrace=False)


# ------------------------------------------------------------------------ reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test's sandboxes know that it failed, and the controller what was kept of them."""
    report = yield
    test = item.stash.get(_test_key, None)
    if test is not None:
        test.failed = test.failed or report.failed
    if item.config.stash[_run_key].used:
        report.paddock_kept = [] if test is None else list(test.kept)  # type: ignore[attr-defined]
    if "paddock.testing.conformance" in sys.modules:
        from paddock.testing._matrix import entry_of

        if (entry := entry_of(item, report.outcome)) is not None:
            report.paddock_conformance = tuple(entry)  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what each backend passed of the kit."""
    if entries := config.stash[_run_key].conformance:
        from paddock.testing._matrix import Entry, lines

        terminalreporter.section("conformance of backends")
        for line in lines(Entry(*entry) for entry in entries.values()):
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """In the controller, when all workers have ended: take down what the run has left."""
    yield
    run = session.config.stash[_run_key]
    if not run.is_controller or not run.used:
        return
    from paddock.testing._leaks import take_down

    lines = take_down(backends(session.config), run.id, run.kept)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if lines and reporter is not None:
        reporter.section("sandboxes left behind", red=True)
        for line in lines:
            reporter.write_line(line)
    if lines and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
