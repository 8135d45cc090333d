"""The contract tests run over every backend, and over every isolation level of the local one."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from examples.via_backend import ViaBackend
from paddock.backends import lease, owner
from paddock.backends.daytona import DaytonaBackend
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.creation import create_container
from paddock.backends.docker.engine.client import Engine
from paddock.backends.docker.images.build import ensure
from paddock.backends.guest.inside import landlock
from paddock.backends.local import LocalBackend, probe
from paddock.image import Image
from paddock.testing.conformance import Conformance
from paddock.testing.conformance.sharing import SharedSandbox, into_own_directory
from paddock.testing.conformance.watch import make_passable
from tests.contract.ours import Ours
from tests.contract.rows import ROWS
from tests.contract.tool_calls import caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from paddock.backends.base import Backend, SandboxInfo
    from paddock.sandbox import Sandbox
    from tests.contract.tool_calls import Call
    from tests.daytona_account import DaytonaAccount

WITHOUT_PYTHON = Image.from_registry("paddock:base").run_commands(
    "mkdir -p /opt/python/bin && mv /usr/bin/python3* /opt/python/bin"
)
"""Its Python is where an engine that starts a container does not look, and commands that are
told do; so the tests of any backend can be run in it."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/opt/python/bin"

BACKENDS: dict[str, Backend] = {
    "docker": DockerBackend(network="none"),
    "local-none": LocalBackend(isolation="none"),
    "local-landlock": LocalBackend(isolation="landlock"),
    "local-bubblewrap": LocalBackend(isolation="bubblewrap"),
    "via": ViaBackend(via=("env", "-i", f"PATH={os.defpath}", "HOME=/tmp", "sh", "-c")),
}
"""`via` is the example of a backend that can only run commands; a shell of this machine, with the
environment that sshd gives, is the other machine."""


OF_EXAMPLES = {
    *("test_exec", "test_files", "test_lifecycle", "test_process", "test_transfers", "test_trees")
}
"""What the example is tested with: all that its author gets for three methods."""

SPILL = "there is no spill file"
NOT_WITH_A_SHELL = {
    "test_process.test_stdin_of_a_command_that_has_ended_*": "the wrapper keeps stdin open",
}
NOT_OF_EXAMPLES = NOT_WITH_A_SHELL | {
    "test_trees.test_a_command_killed_by_its_own_supervisor_hunt_*": "noticed after some looks",
    "test_trees.test_a_fork_bomb_ends_and_the_sandbox_goes_on": "its recipe has no limits",
}
NOT_WITHOUT_PYTHON = NOT_WITH_A_SHELL | {
    "test_tools_bash.test_bash_output_is_bounded_and_tells_*": SPILL,
    "test_tools_*.test_[!b]*": "slow; such a tool is its method of the files, which is tested",
    "test_cancellation.*": "slow; each step of it is a call of the engine",
    "test_pool.*": "slow; a pool does not know how a sandbox is made",
    "test_url.*": "there is no url(), which is a test of its own",
}
"""Tests that an image without Python is not given, and why. Those that it could not pass are
the differences of ``docs/images-without-python.md``."""


NOT_ON_DAYTONA = {
    "test_joining.test_who_attaches_*": "a sandbox that is attached has a guest of its own",
}
HOLDS: dict[str, frozenset[str]] = {
    "daytona": frozenset({"none", "nobody", "names"}),
    "docker": frozenset({"none", "nobody", "names", "ports", "addresses"}),
    "docker-no-python": frozenset({"none"}),
    "local-bubblewrap": frozenset({"none", "nobody", "names", "ports", "addresses"}),
    "local-landlock": frozenset(),
    "local-none": frozenset(),
    "via": frozenset(),
}
"""The networks of `test_policies` that a backend holds to; any other it refuses to start with."""


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this test's sandboxes leave behind is told apart from everybody else's."""
    make_passable(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    for item in ours:
        if "shared_sandbox" in getattr(item, "fixturenames", ()) and not _is_of_the_kit(item):
            # It lives as long as its module, and so on the module's event loop.
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
    beyond = [item for item in ours if _is_on(item, "via") and item.path.stem not in OF_EXAMPLES]
    items[:] = [item for item in items if item not in beyond]
    for item in ours:
        if reason := _why_not(item):
            item.add_marker(pytest.mark.skip(reason=reason))
        if rows := ROWS.get(item.name.partition("[")[0]):
            item.add_marker(pytest.mark.rows(*rows))


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["daytona", *sorted({*BACKENDS, "docker-no-python"})],
)
async def backend(
    request: pytest.FixtureRequest, require: Callable[[str, bool, str], None]
) -> AsyncIterator[Backend]:
    """One backend's recipe; skipped, with the reason, where this machine cannot run it."""
    if request.param == "daytona":
        account: DaytonaAccount = request.getfixturevalue("daytona_account")
        # A home has files, so tests get a directory of their own in it.
        yield replace(account.recipe, setup=["touch .profile"])
        await account.require_empty()
        return
    if request.param.startswith("docker"):
        request.getfixturevalue("base_image")
    if request.param == "docker-no-python":
        image = await ensure(await Engine.connect(), WITHOUT_PYTHON)
        yield DockerBackend(image=image, network="none", env_vars={"PATH": PATH})
        return
    if request.param == "local-bubblewrap":
        found = await probe()
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    if request.param == "local-landlock":
        require("landlock", landlock.abi() > 0, "the kernel has no Landlock")
    yield BACKENDS[request.param]


def _is_of_the_kit(item: pytest.Item) -> bool:
    cls = item.getparent(pytest.Class)
    return cls is not None and issubclass(cls.obj, Conformance)


def _is_on(item: pytest.Item, backend: str) -> bool:
    return f"[{backend}" in item.name


def _why_not(item: pytest.Item) -> str | None:
    given = NOT_WITHOUT_PYTHON if _is_on(item, "docker-no-python") else {}
    given = NOT_OF_EXAMPLES if _is_on(item, "via") else given
    given = NOT_ON_DAYTONA if _is_on(item, "daytona") else given
    name = f"{item.path.stem}.{item.name.partition('[')[0]}"
    found = (why for pattern, why in given.items() if fnmatch(name, pattern))
    return next(found, None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_sandbox(backend: Backend) -> AsyncIterator[SharedSandbox]:
    """The one sandbox that the tests of a module share on that backend."""
    shared = SharedSandbox(backend)
    yield shared
    await shared.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(shared_sandbox: SharedSandbox) -> AsyncIterator[Sandbox]:
    """A sandbox of that backend with an empty working directory, as it was found to be left."""
    async with shared_sandbox.lend() as sandbox:
        yield sandbox


@pytest.fixture
async def own_sandbox(backend: Backend) -> AsyncIterator[Sandbox]:
    """A fresh sandbox of that backend, for a test that ends, breaks or configures it."""
    async with backend.sandbox() as sandbox:
        await into_own_directory(sandbox)
        yield sandbox


@pytest.fixture
def call(sandbox: Sandbox) -> Call:
    """Calls a tool of the developer profile."""
    return caller(sandbox, "developer")


@pytest.fixture
def kill() -> Callable[[Sandbox], Awaitable[None]]:
    """End a sandbox's first process from outside, as an out-of-memory killer or a person would."""
    return Ours().kill


@pytest.fixture
def abandon() -> Callable[[Backend], Awaitable[str]]:
    """Leave what a process leaves that is killed between making something and putting a guest
    in; returns its id."""

    async def abandon(recipe: Backend) -> str:
        if isinstance(recipe, LocalBackend):
            directory = lease.OwnedDirectory.create(labels=recipe.labels)
            directory.abandon()
            return directory.path.name
        lock = owner.OwnerLock.take()
        if isinstance(recipe, DaytonaBackend):
            async with recipe.account() as service:
                native = await recipe._create(service, lock.name, recipe._settings())
            lock.abandon()
            return str(native.id)
        assert isinstance(recipe, DockerBackend)
        plan = recipe._plan(lock.name, "paddock:base", {})
        await create_container(await Engine.connect(), plan)
        lock.abandon()
        return lock.name

    return abandon


@pytest.fixture
def made_of() -> Callable[[Backend, SandboxInfo], tuple[str | None, str | None]]:
    """The image and the working directory that a listing tells of a sandbox of a recipe."""

    def made_of(recipe: Backend, info: SandboxInfo) -> tuple[str | None, str | None]:
        if isinstance(recipe, DockerBackend):
            return str(recipe.image), None
        if isinstance(recipe, DaytonaBackend):
            return recipe.snapshot or info.image, None
        base = Path(tempfile.gettempdir()) / f"paddock-{os.getuid()}"
        return None, str(base / info.id / "work")

    return made_of


@pytest.fixture
def goes_with_its_owner(backend: Backend) -> bool:
    """Whether a living sandbox is not to be taken from the process that owns it."""
    return isinstance(backend, LocalBackend)
