"""What every test has: a say about what may be missing, and a look at what was left behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import hypothesis
import pytest

from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.backends.docker.images.bootstrap import DebianSource
from paddock.backends.docker.images.build import bootstrap, ensure
from paddock.backends.docker.images.store import identity
from paddock.backends.isolation.processes import fork_server
from paddock.errors import PaddockError
from tests.daytona_account import daytona_account as account_of_the_session
from tests.meters import locked
from tests.podman_storage import podman_storage
from tests.ssh_host import SSHD, ssh_host

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from tests.daytona_account import DaytonaAccount

T = TypeVar("T")

# What is set by itself, as in CI, but for the deadline: examples are as slow as a machine is busy.
hypothesis.settings.register_profile("paddock", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("paddock")

REQUIRED = frozenset(filter(None, os.environ.get("PADDOCK_REQUIRE", "").split(",")))
"""What this machine is meant to have: a test that lacks it fails instead of being skipped."""


LEAVING = 5.0
"""Seconds that processes which were told to end may take, on a machine that is busy."""


def pytest_configure(config: pytest.Config) -> None:
    """Processes that share the tests have a directory each for what is temporary: what one of
    them leaves on purpose is not for another one's sweep to remove."""
    if hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="paddock-tests-")
        os.chmod(folder, 0o711)  # servers of databases run as users of their own
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        config.add_cleanup(functools.partial(shutil.rmtree, folder))


class Require(Protocol):
    def __call__(self, what: str, available: object, reason: str) -> None: ...


@pytest.fixture(scope="session")
def require() -> Require:
    """``require("bubblewrap", available, reason)`` skips the test when it is not `available`.

    Where ``PADDOCK_REQUIRE`` (a comma list) names it, the test fails instead, so that a
    machine which is meant to run everything cannot pass by skipping.
    """
    return _require


def _require(what: str, available: object, reason: str) -> None:
    if available:
        return
    if what in REQUIRED:
        pytest.fail(f"{what} is in PADDOCK_REQUIRE, but: {reason}", pytrace=False)
    pytest.skip(f"needs {what}: {reason}")


@pytest.fixture(scope="session")
def base_image(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``paddock:base`` on a Docker Engine; skips, with the reason, where there is none.

    Made once if it is missing, from Debian packages where they are available. At the end
    the images that were not there before are removed.
    """
    shared = _shared_folder(tmp_path_factory)
    with contextlib.ExitStack() as leaving:
        try:
            leaving.enter_context(_images_as_before(shared / "images.json"))
            image = _outside_the_loop(_make_base_image())
        except PaddockError as error:
            require("docker", False, str(error))
            raise
        yield image


def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all processes which share the tests have."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def podman(
    base_image: str, require: Require, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The variables of a Podman that has ``paddock:base``, which are set.

    Skips where there is none, or where it is not root's.
    """
    installed = shutil.which("podman") is not None and os.getuid() == 0
    require("podman", installed, "podman is not installed, or this is not root")
    with podman_storage(_shared_folder(tmp_path_factory) / "podman.json") as variables:
        yield variables


@pytest.fixture(scope="session")
def ssh_config(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a host called ``there``, which is this machine, over an sshd."""
    require("sshd", SSHD is not None and shutil.which("ssh"), "sshd or ssh is not installed")
    with ssh_host(tmp_path_factory.mktemp("ssh")) as config:
        yield config


@contextlib.contextmanager
def _images_as_before(meter: Path) -> Iterator[None]:
    """Remove new images at the end, unless another process that shares the tests is at work
    still: the last one does it, for all. The `meter` is where they tell each other."""
    with locked(meter) as told:
        told.setdefault("before", sorted(_outside_the_loop(_images())))
        told["users"] = told.get("users", 0) + 1
    try:
        yield
    finally:
        with locked(meter) as told:
            told["users"] -= 1
            if not told["users"]:
                _outside_the_loop(_remove_images(set(told.pop("before"))))


def _outside_the_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end; a session's fixture has no loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _images() -> set[str]:
    """What the engine has: names, and the ids of what has none."""
    engine = await Engine.connect()
    found = await engine.call("listing images", engine.client.images)
    names = (image["RepoTags"] or [image["Id"]] for image in found)
    return {
        image["Id"] if name == "<none>:<none>" else name
        for image, tags in zip(found, names, strict=True)
        for name in tags
    }


async def _remove_images(kept: set[str]) -> None:
    engine = await Engine.connect()
    for name in sorted(await _images() - kept, reverse=True):
        with contextlib.suppress(EngineError):  # it went with one before it
            await engine.call(f"removing {name}", engine.client.remove_image, name)


@pytest.fixture
async def docker_engine(base_image: str) -> Engine:
    """A Docker Engine that has the base image; skips, with the reason, where there is none."""
    return await Engine.connect()


async def _make_base_image() -> str:
    engine = await Engine.connect()
    if shutil.which("mmdebstrap") is None or await identity(engine, "paddock:base"):
        return await ensure(engine, "paddock:base")
    return await bootstrap(engine, DebianSource())


@pytest.fixture(scope="session")
def daytona_account() -> Iterator[DaytonaAccount]:
    """The Daytona account of the environment, or a server of ours; nothing may be left there."""
    with account_of_the_session() as account:
        yield account


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    """When all tests are done, no child process of ours is left, running or not waited for."""
    before = _children()
    yield
    fork_server.close()  # as at the end of the interpreter
    for child in _children() - before:
        _wait_for_end(child)
    left = _children() - before
    assert not left, f"processes left behind: {[_named(process) for process in left]}"


def _wait_for_end(process: int) -> None:
    try:
        watched = os.pidfd_open(process)
    except OSError:
        return
    try:
        select.select([watched], [], [], LEAVING)
    finally:
        os.close(watched)


def _children() -> set[int]:
    """The children of this process, threads' included; empty where the system does not tell."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile
            found.update(int(number) for number in path.read_text().split())
    return found


def _named(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return str(process)
    return f"{process}: {b' '.join(words).decode(errors='replace').strip() or 'not waited for'}"
