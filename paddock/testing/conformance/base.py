"""What the classes of the kit share: one sandbox for many tests, and what a backend can do."""

from __future__ import annotations

import contextlib
import dataclasses
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest
import pytest_asyncio

from paddock.errors import Unsupported
from paddock.testing.conformance.sharing import into_own_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from paddock.backends.base import Backend
    from paddock.sandbox import Capability, Sandbox
    from paddock.testing.conformance.sharing import SharedSandbox

__all__ = ["DEADLINE", "KILL", "LISTING", "OFFERED", "Conformance", "look", "needs", "vary"]

T = TypeVar("T", bound="type[Conformance] | Callable[..., object]")

DEADLINE = 60.0
"""Seconds for what a test waits for: a machine that is ten times as busy needs a few."""

FEATURES = {
    "shell": "for x in a b; do printf $x; done | grep -q ab && command -v pgrep && command -v seq",
    "python": "command -v python3",
}
"""What a test may need in a sandbox, and the command that succeeds where it is there. `shell` is
a POSIX shell with the usual programs."""
OFFERED = pytest.StashKey[frozenset[str]]()
"""Where a test has what its backend can do, for the matrix."""
NEEDS = "__paddock_needs__"
"""The attribute of a test or class that `needs` sets."""
LISTING = "list()"
"""What a test needs that asks the backend for its sandboxes."""
KILL = "kill()"
"""What a test needs whose class has to know how a sandbox is ended from outside."""
PROBED = 60.0
"""Seconds for the commands of `FEATURES`."""


def needs(*wanted: Capability | str) -> Callable[[T], T]:
    """Skip a test, or all tests of a class, where the backend or the sandbox lacks any of these."""

    def mark(test: T) -> T:
        setattr(test, NEEDS, {*getattr(test, NEEDS, ()), *wanted})
        return test

    return mark


def vary(recipe: Backend, **changes: Any) -> Backend:
    """Return `recipe` with `changes`; skip the test where it has no such fields."""
    if missing := changes.keys() - {each.name for each in dataclasses.fields(recipe)}:
        pytest.skip(f"recipes of {recipe.name} have no {', '.join(sorted(missing))}")
    return dataclasses.replace(recipe, **changes)


async def look(backend: Backend, sandbox: Sandbox) -> frozenset[str]:
    """Return what the backend can do, and what there is in its sandboxes."""
    found = {each.value for each in sandbox.capabilities}
    for name, command in FEATURES.items():
        if (await sandbox.exec(command, timeout=PROBED)).ok:
            found.add(name)
    with contextlib.suppress(Unsupported):
        await backend.list({"paddock-conformance": "none"})
        found.add(LISTING)
    return frozenset(found)


@pytest.mark.asyncio(loop_scope="class")
class Conformance:
    """The base of the kit's classes.

    The fixture `backend`, of scope module or wider, gives the recipe.
    """

    deviations: ClassVar[Mapping[str, str]] = {}
    """Patterns of tests that the backend does not pass, and why not; they are skipped."""

    async def kill(self, sandbox: Sandbox) -> None:
        """End the sandbox from outside, as an out-of-memory killer or a person would.

        Without it the tests that call it are skipped.
        """
        raise AssertionError("a test that needs it was run without it")

    async def headers(self, sandbox: Sandbox, port: int) -> Mapping[str, str]:
        """Return what requests to `sandbox.url(port)` have to bring."""
        return {}

    @pytest.fixture(autouse=True)
    def _skip_what_it_cannot(self, request: pytest.FixtureRequest) -> None:
        for pattern, reason in self.deviations.items():
            if fnmatch(request.function.__name__, pattern):
                pytest.skip(reason)
        wanted = {*getattr(request.function, NEEDS, ())}
        for each in request.cls.__mro__:
            if request.function.__name__ in vars(each):
                wanted |= vars(each).get(NEEDS, set())
        if KILL in wanted and request.cls.kill is Conformance.kill:
            pytest.skip(f"needs {KILL}, a method of {request.cls.__name__}")
        wanted -= {KILL}
        if not wanted:
            return
        offered: frozenset[str] = request.getfixturevalue("_paddock_offered")
        request.node.stash[OFFERED] = offered
        if missing := wanted - offered:
            pytest.skip(f"needs {', '.join(sorted(missing))}")

    @pytest_asyncio.fixture(loop_scope="class")
    async def sandbox(self, _paddock_shared: SharedSandbox) -> AsyncIterator[Sandbox]:
        """The shared sandbox, with an empty working directory, as it was found to be left."""
        async with _paddock_shared.lend() as sandbox:
            yield sandbox

    @pytest_asyncio.fixture(loop_scope="class")
    async def own_sandbox(self, backend: Backend) -> AsyncIterator[Sandbox]:
        """A fresh sandbox, for a test that ends, breaks or configures it."""
        async with backend.sandbox() as sandbox:
            await into_own_directory(sandbox)
            yield sandbox
