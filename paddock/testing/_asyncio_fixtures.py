"""The plugin's asynchronous fixtures, for tests that pytest-asyncio runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from paddock.testing.plugin import SCOPES, pool_size, run_labels, shared_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from paddock.backends.base import Backend
    from paddock.backends.pool import SandboxPool
    from paddock.testing._lending import SandboxFactory
    from paddock.testing.conformance.sharing import SharedSandbox

__all__: list[str] = []


def _define(scope: Any) -> None:
    """Define the fixtures for tests whose event loop has that scope."""

    @pytest_asyncio.fixture(loop_scope=scope, name=f"_paddock_factory_on_asyncio_{scope}")
    async def factory(_paddock_lender: SandboxFactory) -> Any:
        async with _paddock_lender:
            yield _paddock_lender

    @pytest_asyncio.fixture(loop_scope=scope, name=f"_paddock_sandbox_on_asyncio_{scope}")
    async def sandbox(_paddock_lender: SandboxFactory) -> Any:
        async with _paddock_lender:
            yield await _paddock_lender.make()

    globals().update({f"{scope}_factory": factory, f"{scope}_sandbox": sandbox})


for _scope in SCOPES:
    _define(_scope)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox_pool(
    request: pytest.FixtureRequest,
    sandbox_recipe: Backend,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[SandboxPool]:
    """Sandboxes kept ready, for tests on the session's loop; see ``--sandbox-pool``."""
    from paddock.testing._lending import built_once

    labels = {**sandbox_recipe.labels, **run_labels(request.config), "paddock-test": "the pool"}
    recipe = dataclasses.replace(sandbox_recipe, labels=labels)
    async with recipe.pool(size=pool_size(request.config)) as pool:
        async with built_once(recipe, shared_folder(request.config, tmp_path_factory)):
            await pool.wait_ready()
        yield pool


# The kit's, which are here because pytest wants no fixture of a class's scope to be a method.


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def _paddock_shared(backend: Backend) -> AsyncIterator[SharedSandbox]:
    """The sandbox that the tests of a class of the kit share."""
    from paddock.testing.conformance.sharing import SharedSandbox

    shared = SharedSandbox(backend)
    yield shared
    await shared.aclose()


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def _paddock_offered(backend: Backend, _paddock_shared: SharedSandbox) -> frozenset[str]:
    """What a backend can do, and what there is in its sandboxes."""
    from paddock.testing.conformance.base import look

    async with _paddock_shared.lend() as sandbox:
        return await look(backend, sandbox)
