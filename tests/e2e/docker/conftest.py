"""A Docker Engine on which nothing of a test may be left, and a sandbox there."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker.sandbox import DockerSandbox
from tests.e2e.docker.ours import RECIPE, forks, names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.backends.docker.engine import Engine


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
async def sandbox(engine: Engine) -> AsyncIterator[DockerSandbox]:
    async with RECIPE.sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        yield sandbox
