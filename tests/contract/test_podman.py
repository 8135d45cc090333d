"""Podman passes the kit; what only it has is in ``tests/e2e/test_podman.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.program import call
from paddock.backends.podman import PodmanBackend
from paddock.testing import BackendConformance

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


@pytest.fixture(scope="module")
def backend(podman: dict[str, str]) -> PodmanBackend:
    return PodmanBackend(network="none")


class TestPodman(BackendConformance):
    async def kill(self, sandbox: Sandbox) -> None:
        await call("podman", "kill", sandbox.id)
