"""Groups of sandboxes in one prepared state: made together, brought back, and all taken down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, LocalBackend, SandboxClosed
from paddock.errors import SandboxError
from paddock.sandbox import Capability, Sandbox
from tests.unit.runtime.conftest import CountingBackend, CountingSandbox

if TYPE_CHECKING:
    from collections.abc import Sequence


class Forking(CountingSandbox):
    capabilities = frozenset({Capability.FORK})

    async def _fork(self, count: int) -> list[Sandbox]:
        await asyncio.sleep(0)
        forks: Sequence[Sandbox] = [CountingSandbox(self._owner) for _ in range(count)]
        self._owner.live.extend(forks)
        return list(forks)


@dataclass(frozen=True, kw_only=True, eq=False)
class ForkingBackend(CountingBackend):
    async def _make(self, on_progress: Any) -> Sandbox:
        sandbox = Forking(self)
        self.live.append(sandbox)
        self.made.append(sandbox)
        return sandbox


@dataclass(frozen=True, kw_only=True, eq=False)
class Failing(CountingBackend):
    """Makes `most` sandboxes, and fails then."""

    most: int
    asked: list[None] = field(default_factory=list)

    async def _make(self, on_progress: Any) -> Sandbox:
        self.asked.append(None)
        if len(self.asked) > self.most:
            raise SandboxError("no more")
        return await super()._make(on_progress)


async def test_where_a_backend_forks_the_recipe_is_carried_out_once() -> None:
    backend = ForkingBackend()
    async with backend.group(4) as group:
        assert len(backend.made) == 1
        assert len(group.sandboxes) == 4
        before = group.sandboxes
        fresh = await group.reset(before[2])
        assert group.sandboxes == (*before[:2], fresh, before[3])
        assert before[2].closed
        assert len(backend.made) == 1
        with pytest.raises(ConfigError, match="was reset before"):
            await group.reset(before[2])
    assert not backend.live
    with pytest.raises(SandboxClosed):
        await group.reset(fresh)


@pytest.mark.parametrize("most", [0, 1, 3])
async def test_a_group_that_cannot_be_made_leaves_nothing(most: int) -> None:
    backend = Failing(most=most)
    with pytest.raises(SandboxError, match="no more"):
        async with backend.group(5):
            pass
    assert not backend.live


async def test_a_reset_that_fails_can_be_tried_again() -> None:
    backend = Failing(most=2)
    async with backend.group(2) as group:
        first = group.sandboxes[0]
        with pytest.raises(SandboxError, match="no more"):
            await group.reset(first)
        backend.asked.clear()
        assert (await group.reset(first)) is group.sandboxes[0]
    assert not backend.live


async def test_a_local_group_begins_again_from_its_set_up() -> None:
    backend = LocalBackend(isolation="none", setup=["echo 0 > count"])
    async with backend.group(2) as group:
        first, second = group.sandboxes
        for each in group.sandboxes:
            await each.exec("echo 1 > count", check=True)
        fresh = await group.reset(first)
        assert (await fresh.fs.read_text("count")) == "0\n"
        assert (await second.fs.read_text("count")) == "1\n"


def test_a_group_has_a_size() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        LocalBackend().group(0)
