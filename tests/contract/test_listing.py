"""Sandboxes seen from outside: listed, deleted by id, collected when their owner is gone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from paddock.backends.base import Backend
from paddock.errors import SandboxLost, Unsupported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from paddock.backends.base import ProgressCallback, SandboxInfo
    from paddock.sandbox import Sandbox

    Abandon = Callable[[Backend], Awaitable[str]]


@pytest.fixture
def recipe(backend: Backend) -> Backend:
    """A recipe whose sandboxes can be told from all others."""
    return dataclasses.replace(backend, labels={"test": secrets.token_hex(6), "kind": "a=b c"})


async def test_a_sandbox_is_listed_while_it_lives(recipe: Backend) -> None:
    assert await recipe.list(recipe.labels) == []
    async with recipe.sandbox() as sandbox:
        (info,) = await recipe.list(recipe.labels)
        assert (info.id, info.backend) == (sandbox.id, sandbox.backend)
        assert (info.state, info.owner) == ("running", "alive")
        assert info.labels == recipe.labels
        assert abs(datetime.now(UTC) - info.created) < timedelta(minutes=5)
        assert info in await recipe.list()
    assert await recipe.list(recipe.labels) == []


async def test_it_is_told_what_a_sandbox_is_made_of(
    recipe: Backend, made_of: Callable[[Backend, SandboxInfo], tuple[str | None, str | None]]
) -> None:
    async with recipe.sandbox():
        (info,) = await recipe.list(recipe.labels)
    assert (info.image, info.working_dir) == made_of(recipe, info)


async def test_only_what_has_all_the_labels_is_listed_oldest_first(recipe: Backend) -> None:
    other = dataclasses.replace(recipe, labels={**recipe.labels, "more": "1"})
    async with recipe.sandbox() as first, other.sandbox() as second:
        assert await _ids(recipe, recipe.labels) == [first.id, second.id]
        assert await _ids(recipe, other.labels) == [second.id]
        assert await _ids(recipe, {**recipe.labels, "more": "2"}) == []


async def _ids(recipe: Backend, labels: Mapping[str, str]) -> list[str]:
    return [info.id for info in await recipe.list(labels)]


async def test_what_an_owner_left_is_told_and_collected_and_nothing_else(
    recipe: Backend, abandon: Abandon
) -> None:
    async with recipe.sandbox() as sandbox:
        left = await abandon(recipe)
        owners = {info.id: info.owner for info in await recipe.list(recipe.labels)}
        assert owners == {left: "gone", sandbox.id: "alive"}
        assert left in await recipe.gc()
        assert await _ids(recipe, recipe.labels) == [sandbox.id]
        assert await recipe.gc() == []
        assert (await sandbox.exec("true")).ok


async def test_what_an_owner_left_is_deleted_by_id_once(recipe: Backend, abandon: Abandon) -> None:
    left = await abandon(recipe)
    assert await recipe.delete(left) is True
    assert await recipe.delete(left) is False
    assert await recipe.list(recipe.labels) == []
    assert await recipe.gc() == []


async def test_deleting_what_is_not_there_is_false(recipe: Backend) -> None:
    async with recipe.sandbox() as sandbox:
        for name in ("", "nothing", "..", "../docker", "*", "a=b", "paddock-"):
            assert await recipe.delete(name) is False, name
        assert (await sandbox.exec("true")).ok


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
