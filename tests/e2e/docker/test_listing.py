"""What of ours is on an engine that others use too: told apart, and only ours is touched."""

from __future__ import annotations

import dataclasses
import secrets
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends import base
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers import inventory, owner
from paddock.backends.docker.containers.control import remove_container
from paddock.backends.docker.containers.creation import create_container
from paddock.backends.docker.engine.client import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.docker


@pytest.fixture
def recipe(base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DockerBackend:
    """A recipe whose sandboxes can be told from all others, and an owner's place of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return DockerBackend(image=base_image, network="none", labels={"test": secrets.token_hex(6)})


@pytest.fixture
async def engine(recipe: DockerBackend) -> AsyncIterator[Engine]:
    yield await Engine.connect()
    assert await recipe.list(recipe.labels) == []


@pytest.fixture
async def foreign(engine: Engine) -> AsyncIterator[Foreign]:
    foreign = Foreign(engine)
    yield foreign
    for name in foreign.names:
        await remove_container(engine, name)


class Foreign:
    """Containers that somebody else makes on the same engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.names: list[str] = []

    async def create(self, labels: dict[str, str]) -> str:
        name = f"foreign-{secrets.token_hex(6)}"
        self.names.append(name)
        create = self._engine.client.create_container
        await self._engine.call(
            "creating", create, "paddock:base", "true", name=name, labels=labels
        )
        return name

    async def inspect(self, name: str) -> Any:
        return await self._engine.call("looking", self._engine.client.inspect_container, name)


async def abandon(recipe: DockerBackend) -> str:
    """What a process leaves that is killed between creating a container and starting it."""
    lock = owner.OwnerLock.take()
    plan = recipe._plan(lock.name, "paddock:base", {})
    await create_container(await Engine.connect(), plan)
    lock.abandon()
    return lock.name


async def _ids(recipe: DockerBackend, labels: Mapping[str, str] | None) -> list[str]:
    return [info.id for info in await recipe.list(labels)]


@pytest.mark.usefixtures("control_groups")
async def test_a_paused_container_and_one_that_was_not_started_are_told(
    recipe: DockerBackend, engine: Engine
) -> None:
    async with recipe.sandbox() as sandbox:
        await engine.call("pausing", engine.client.pause, sandbox.id)
        (info,) = await recipe.list(recipe.labels)
        assert info.state == "paused"
        await engine.call("resuming", engine.client.unpause, sandbox.id)
    left = await abandon(recipe)
    (info,) = await recipe.list(recipe.labels)
    assert (info.id, info.state) == (left, "starting")
    await recipe.delete(left)


async def test_containers_of_others_are_neither_listed_nor_deleted(
    recipe: DockerBackend, foreign: Foreign
) -> None:
    plain = await foreign.create({})
    assert plain not in await _ids(recipe, None)
    assert await recipe.delete(plain) is False
    assert await foreign.inspect(plain)


async def test_a_container_of_an_image_that_was_a_sandbox_is_not_a_sandbox(
    recipe: DockerBackend, foreign: Foreign
) -> None:
    """It has inherited the labels, as a commit of a container keeps them."""
    was = f"paddock-{secrets.token_hex(6)}"
    name = await foreign.create({owner.LABEL: was, owner.HOST_LABEL: owner.host_id()})
    assert not {was, name} & set(await _ids(recipe, None))
    assert await recipe.delete(was) is False
    assert await recipe.gc() == []
    assert await foreign.inspect(name)


async def test_a_container_of_another_place_is_listed_and_deleted_but_never_collected(
    recipe: DockerBackend, engine: Engine
) -> None:
    name = f"paddock-{secrets.token_hex(6)}"
    plan = recipe._plan(name, "paddock:base", {})
    elsewhere = dataclasses.replace(
        plan, labels={**plan.labels, owner.HOST_LABEL: "another boot:1:2"}
    )
    await create_container(engine, elsewhere)
    try:
        (info,) = await recipe.list(recipe.labels)
        assert info.owner == "unknown"
        assert name not in await recipe.gc()
    finally:
        assert await recipe.delete(name) is True


async def test_one_that_cannot_be_removed_hinders_no_other_and_no_new_one(
    recipe: DockerBackend,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck, _ = await abandon(recipe), await abandon(recipe)
    inspect = engine.client.inspect_container
    stuck_id = (await engine.call("looking", inspect, stuck))["Id"]

    async def remove(engine: Engine, container: str, name: str) -> bool:
        if container == stuck_id:
            raise EngineError(f"removing {name}: device or resource busy", status=500)
        return await remove_container(engine, container)

    with monkeypatch.context() as patched:
        patched.setattr(inventory, "remove_container", remove)
        with pytest.raises(EngineError, match="busy"):
            await recipe.gc()
        patched.setattr(base, "_collected", set())
        async with recipe.sandbox():
            assert f"removing {stuck}: device or resource busy" in caplog.text
    assert await _ids(recipe, recipe.labels) == [stuck]
    assert await recipe.gc() == [stuck]


async def rename(engine: Engine, sandbox_id: str) -> None:
    await engine.call("renaming", engine.client.rename, sandbox_id, f"renamed-{sandbox_id}")


async def test_a_renamed_container_is_listed_attached_and_deleted_by_its_id(
    recipe: DockerBackend, engine: Engine
) -> None:
    async with recipe.sandbox() as sandbox:
        await rename(engine, sandbox.id)
        assert await _ids(recipe, recipe.labels) == [sandbox.id]
        other = await recipe.attach(sandbox.id)
        assert (await other.exec("echo here")).stdout == "here\n"
        await other.detach()
        assert (await sandbox.exec("echo here")).stdout == "here\n"
        assert await recipe.delete(sandbox.id)
        assert await _ids(recipe, recipe.labels) == []
        assert not await recipe.delete(sandbox.id)


async def test_a_renamed_container_is_removed_when_its_sandbox_is_closed(
    recipe: DockerBackend, engine: Engine
) -> None:
    async with recipe.sandbox() as sandbox:
        await rename(engine, sandbox.id)
    assert await _ids(recipe, recipe.labels) == []


async def test_gc_removes_a_renamed_container(recipe: DockerBackend, engine: Engine) -> None:
    left = await abandon(recipe)
    await rename(engine, left)
    assert await recipe.gc() == [left]
