"""Names of the test's own; 127.0.0.1 stands for the public internet."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.egress.outside import Outside
from paddock.backends.local import LocalBackend, probe
from tests.contract.network.sites import Site, confined, site_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from paddock.network import Address
    from paddock.sandbox import Sandbox
    from tests.conftest import Require

LOOPBACK = ip_address("127.0.0.1")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Where site.test leads."""
    async with site_on("127.0.0.1") as site:
        yield site


@pytest.fixture
async def canary() -> AsyncIterator[Site]:
    """A service of this machine that no sandbox may reach, by whatever address."""
    async with site_on("0.0.0.0") as site:
        yield site


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Where names lead, address after address for each time that they are looked up."""
    names = {"site.test": ["127.0.0.1"], "other.site.test": ["127.0.0.1"]}

    async def lookup(self: Outside, name: str) -> Sequence[Address]:
        answers = names[name]
        return [ip_address(answers.pop(0) if len(answers) > 1 else answers[0])]

    real = Outside.objection

    def object_to(self: Outside, address: Address) -> str | None:
        return None if address == LOOPBACK else real(self, address)

    monkeypatch.setattr(Outside, "lookup", lookup)
    monkeypatch.setattr(Outside, "objection", object_to)
    return names


@pytest.fixture(params=["docker", "local-bubblewrap"])
async def backend(request: pytest.FixtureRequest, require: Require) -> DockerBackend | LocalBackend:
    """The recipes by which an allow list is enforced."""
    if request.param == "docker":
        request.getfixturevalue("base_image")
        return DockerBackend(network="none")
    found = await probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    return LocalBackend(isolation="bubblewrap")


@pytest.fixture
async def sandbox(backend: DockerBackend | LocalBackend, site: Site) -> AsyncIterator[Sandbox]:
    async with confined(backend, f"site.test:{site.port}").sandbox() as sandbox:
        yield sandbox
