"""A Docker Engine on which nothing of a test may be left, and a sandbox there."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker.containers.sandbox import DockerSandbox
from tests.e2e.docker.ours import RECIPE, forks, names
from tests.e2e.docker.proxy import EngineProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine


@pytest.fixture
async def engine(
    docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engine]:
    """The engine; fails the test that leaves one of its own containers or images on it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield docker_engine
    assert await names(docker_engine) == set()
    assert await forks(docker_engine) == []


@pytest.fixture
async def engine_proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[EngineProxy]:
    """A proxy in front of the engine, at ``docker.sock`` in `tmp_path`."""
    if not engine.endpoint.url.startswith("unix://"):
        pytest.skip(f"the engine is at {engine.endpoint.url}, which is no socket")
    proxy = EngineProxy(engine.endpoint.url.removeprefix("unix://"))
    async with proxy.serving(tmp_path / "docker.sock"):
        yield proxy


@pytest.fixture
async def sandbox(engine: Engine) -> AsyncIterator[DockerSandbox]:
    async with RECIPE.sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        yield sandbox
