"""What a backend cannot do it says, and refuses: no sandbox runs under a policy that is not held
to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.errors import Unsupported
from paddock.network import Allow
from paddock.sandbox import Capability, Resources
from paddock.testing.conformance.base import Conformance, vary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox

GIBIBYTE = 1024**3
NETWORKS: dict[str, Allow | str] = {
    "none": "none",
    "nobody": Allow(hosts=[]),
    "names": Allow(hosts=["example.org", "*.example.com"]),
    "ports": Allow(hosts=["example.org:8443"]),
    "addresses": Allow(hosts=["[2001:db8::1]:80"]),
}
BOUNDS = {
    Capability.LIMIT_PIDS: Resources(pids=64),
    Capability.LIMIT_DISK: Resources(disk=GIBIBYTE),
}


async def _resumed(sandbox: Sandbox) -> None:
    await sandbox.pause()
    await sandbox.resume()


async def _forked(sandbox: Sandbox) -> None:
    (fork,) = await sandbox.fork()
    await fork.aclose()


CALLS: dict[Capability, Callable[[Sandbox], Awaitable[object]]] = {
    Capability.URL: lambda sandbox: sandbox.url(8000),
    Capability.PAUSE: _resumed,
    Capability.FORK: _forked,
    Capability.STATS: lambda sandbox: sandbox.stats(),
    Capability.USER: lambda sandbox: sandbox.exec("true", user="root"),
}


class PolicyTests(Conformance):
    @pytest.fixture
    def held(self) -> frozenset[str] | None:
        """The names in `NETWORKS` that the backend enforces; None believes the backend."""
        return None

    @pytest.mark.parametrize("policy", NETWORKS)
    async def test_a_network_is_held_to_or_nothing_starts(
        self, backend: Backend, policy: str, held: frozenset[str] | None
    ) -> None:
        recipe = vary(backend, network=NETWORKS[policy])
        if held is not None and policy not in held:
            with pytest.raises(Unsupported, match=r"network|Allow|isolation"):
                await recipe.create()
            return
        wanted = Capability.NETWORK_NONE if policy == "none" else Capability.NETWORK_ALLOWLIST
        try:
            sandbox = await recipe.create()
        except Unsupported:
            assert held is None
            return
        async with sandbox:
            assert wanted in sandbox.capabilities
            assert sandbox.network_log == ()
            assert (await sandbox.exec("echo fine")).stdout == "fine\n"

    async def test_without_a_list_there_is_no_proxy_and_no_log(self, backend: Backend) -> None:
        async with backend.sandbox() as sandbox:
            assert (await sandbox.exec("echo $HTTP_PROXY $http_proxy")).stdout.strip() == ""
            assert sandbox.network_log == ()

    @pytest.mark.parametrize("capability", CALLS)
    async def test_a_call_does_what_is_told_of_it_or_is_refused(
        self, sandbox: Sandbox, capability: Capability
    ) -> None:
        if capability in sandbox.capabilities:
            await CALLS[capability](sandbox)
        else:
            with pytest.raises(Unsupported):
                await CALLS[capability](sandbox)
        assert (await sandbox.exec("echo on")).stdout == "on\n"

    async def test_a_snapshot_is_refused_where_there_are_none(self, sandbox: Sandbox) -> None:
        if Capability.SNAPSHOT not in sandbox.capabilities:  # else it would stay
            with pytest.raises(Unsupported, match="snapshot"):
                await sandbox.snapshot("kept")

    @pytest.mark.parametrize("capability", BOUNDS)
    async def test_a_bound_that_cannot_be_enforced_is_refused(
        self, backend: Backend, sandbox: Sandbox, capability: Capability
    ) -> None:
        if capability not in sandbox.capabilities:
            with pytest.raises(Unsupported):
                await vary(backend, resources=BOUNDS[capability]).create()
