"""Attacks from inside a sandbox, over every backend and posture that can run them.

A test takes `sandbox` (or the recipe, `backend`) and runs something hostile in it. With
``@pytest.mark.parametrize("backend", [...], indirect=True)`` it runs over some of `RECIPES` only.
Python 3 is on PATH everywhere, also in the image whose guest cannot use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.engine.client import Engine
from paddock.backends.docker.images.build import ensure
from paddock.backends.guest.inside import landlock
from paddock.backends.local import LocalBackend, probe
from tests.contract.conftest import PATH, WITHOUT_PYTHON
from tests.contract.conftest import _own_temporary_directory as _own_temporary_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox
    from tests.conftest import Require
    from tests.daytona_account import DaytonaAccount

RECIPES: dict[str, Backend] = {
    "docker": DockerBackend(),
    "docker-strict": DockerBackend(hardening="strict"),
    "docker-nobody": DockerBackend(user="nobody", network="none"),
    "local-bubblewrap": LocalBackend(isolation="bubblewrap"),
    "local-landlock": LocalBackend(isolation="landlock"),
}
WITHOUT_ISOLATION: dict[str, Backend] = {"local-none": LocalBackend(isolation="none")}
"""For attacks by fenced commands only: others would reach this machine."""
WITH_GUEST = ["daytona", *RECIPES]
"""Where commands are started by our guest, and not by the engine."""


@pytest.fixture(params=[*WITH_GUEST, "docker-no-python"])
async def backend(request: pytest.FixtureRequest, require: Require) -> AsyncIterator[Backend]:
    """One recipe; skipped, with the reason, where this machine cannot run it."""
    if request.param == "daytona":
        account: DaytonaAccount = request.getfixturevalue("daytona_account")
        yield account.recipe
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
    yield {**RECIPES, **WITHOUT_ISOLATION}[request.param]


@pytest.fixture
async def sandbox(backend: Backend) -> AsyncIterator[Sandbox]:
    """A fresh sandbox of that recipe."""
    async with backend.sandbox() as sandbox:
        yield sandbox
