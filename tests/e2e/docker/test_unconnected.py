"""Containers for which the engine sets up no network: what the guest does instead of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock import Allow, Unsupported
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.plan import ContainerPlan

if TYPE_CHECKING:
    from paddock import Sandbox
    from paddock.backends.docker.engine.client import Engine

pytestmark = pytest.mark.docker

LOOK = """
getent hosts $(hostname) localhost | awk '{print $2}'
stat -c %a:%U /etc/hosts
python3 - <<'END'
import os, socket
server = socket.create_server((socket.gethostname(), 0))
with socket.create_connection(("localhost", server.getsockname()[1])):
    print(*os.listdir("/sys/class/net"))
END
"""


async def _is_spared(engine: Engine, sandbox: Sandbox) -> bool:
    found = await engine.call("inspecting", engine.client.inspect_container, sandbox.id)
    return bool(found["Config"].get("NetworkDisabled"))


async def _check(sandbox: Sandbox) -> None:
    found = (await sandbox.exec(LOOK, check=True)).stdout.split()
    assert found == [sandbox.id, "localhost", "644:root", "lo"]


@pytest.mark.parametrize(
    "options",
    [{"network": "none"}, {"network": Allow(hosts=["example.com"])}, {"user": "1234:1234"}],
    ids=str,
)
async def test_the_guest_makes_the_hostname_resolve_where_the_engine_does_nothing(
    engine: Engine, options: dict[str, Any]
) -> None:
    async with DockerBackend(**{"network": "none", **options}).sandbox() as sandbox:
        assert await _is_spared(engine, sandbox)
        await _check(sandbox)


@pytest.mark.parametrize(
    "options",
    [{"hardening": "strict"}, {"runtime": "runc"}, {"extra_hosts": {"db.test": "10.0.0.5"}}],
    ids=str,
)
async def test_the_engine_sets_up_what_the_guest_cannot(
    engine: Engine, options: dict[str, Any]
) -> None:
    async with DockerBackend(network="none", **options).sandbox() as sandbox:
        assert not await _is_spared(engine, sandbox)
        await _check(sandbox)
        for name in options.get("extra_hosts", ()):
            assert name in (await sandbox.exec(["getent", "hosts", name], check=True)).stdout


async def test_a_fork_has_its_own_hostname_and_a_build_on_a_snapshot_has_a_network(
    engine: Engine,
) -> None:
    async with DockerBackend(network="none").sandbox() as sandbox:
        (fork,) = await sandbox.fork()
        async with fork:
            assert await _is_spared(engine, fork)
            await _check(fork)
        name = f"paddock-test-unconnected:{sandbox.id}"
        await sandbox.snapshot(name)
    try:
        found = await engine.call("inspecting", engine.client.inspect_image, name)
        assert not found["Config"].get("NetworkDisabled")
    finally:
        await engine.call("removing", engine.client.remove_image, name)


async def test_a_container_that_has_a_network_nevertheless_does_not_start(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ContainerPlan.config

    def connected(plan: ContainerPlan, client: Any) -> dict[str, Any]:
        made = config(plan, client)
        made["HostConfig"]["NetworkMode"] = "default"
        return made | {"NetworkDisabled": False}

    monkeypatch.setattr(ContainerPlan, "config", connected)
    with pytest.raises(Unsupported, match="interfaces that are up: eth0, lo; with runtime="):
        await DockerBackend(network="none").create()
