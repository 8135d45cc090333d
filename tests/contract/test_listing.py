"""Sandboxes seen from outside: listed, deleted by id, collected when their owner is gone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
from typing import TYPE_CHECKING

import pytest

from paddock.backends.base import Backend
from paddock.errors import SandboxLost, Unsupported
from paddock.testing.conformance import ListingTests
from paddock.testing.conformance.listing import ids
from tests.contract.ours import Ours

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.backends.base import ProgressCallback, SandboxInfo
    from paddock.sandbox import Sandbox

    Abandon = Callable[[Backend], Awaitable[str]]


class TestListing(Ours, ListingTests):
    pass


@pytest.fixture
def recipe(backend: Backend) -> Backend:
    """A recipe whose sandboxes can be told from all others."""
    return dataclasses.replace(backend, labels={"test": secrets.token_hex(6), "kind": "a=b c"})


async def test_it_is_told_what_a_sandbox_is_made_of(
    recipe: Backend, made_of: Callable[[Backend, SandboxInfo], tuple[str | None, str | None]]
) -> None:
    async with recipe.sandbox():
        (info,) = await recipe.list(recipe.labels)
    assert (info.image, info.working_dir) == made_of(recipe, info)


async def test_what_an_owner_left_is_told_and_collected_and_nothing_else(
    recipe: Backend, abandon: Abandon
) -> None:
    async with recipe.sandbox() as sandbox:
        left = await abandon(recipe)
        owners = {info.id: info.owner for info in await recipe.list(recipe.labels)}
        assert owners == {left: "gone", sandbox.id: "alive"}
        assert left in await recipe.gc()
        assert await ids(recipe, recipe.labels) == [sandbox.id]
        assert await recipe.gc() == []
        assert (await sandbox.exec("true")).ok


async def test_what_an_owner_left_is_deleted_by_id_once(recipe: Backend, abandon: Abandon) -> None:
    left = await abandon(recipe)
    assert await recipe.delete(left) is True
    assert await recipe.delete(left) is False
    assert await recipe.list(recipe.labels) == []
    assert await recipe.gc() == []


async def test_deleting_takes_a_container_from_its_owner_and_a_local_one_goes_with_its_owner(
    recipe: Backend, *, goes_with_its_owner: bool
) -> None:
    async with recipe.sandbox() as sandbox:
        if goes_with_its_owner:
            with pytest.raises(Unsupported, match=f"end process {os.getpid()}"):
                await recipe.delete(sandbox.id)
            assert (await sandbox.exec("true")).ok
            return
        running = asyncio.create_task(sandbox.exec("sleep 985000"))
        await sandbox.exec("true")
        assert await recipe.delete(sandbox.id) is True
        async with asyncio.timeout(60):
            with pytest.raises(SandboxLost, match="from outside"):
                await running
        assert await recipe.delete(sandbox.id) is False
    assert await recipe.list(recipe.labels) == []


async def test_a_backend_that_cannot_says_so() -> None:
    class Other(Backend):
        name = "other"

        async def _make(self, on_progress: ProgressCallback) -> Sandbox:
            raise AssertionError("nothing is made here")

    other = Other()
    for asking in (other.list(), other.delete("x"), other.gc()):
        with pytest.raises(Unsupported, match="the other backend"):
            await asking
