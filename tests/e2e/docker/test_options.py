"""Options of the engine on a real one: volumes, hosts, limits, and what may not be lowered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from paddock import ConfigError, SandboxError
from paddock.backends.docker import DockerBackend
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.docker.engine.client import Engine

pytestmark = pytest.mark.docker


def backend(**options: Any) -> DockerBackend:
    return DockerBackend(network="none", **options)


@pytest.fixture
async def volume(engine: Engine) -> AsyncIterator[str]:
    """The name of a volume that is not there yet."""
    name = f"paddock-test-{uuid4().hex}"
    yield name
    await asyncio.to_thread(engine.client.remove_volume, name)


async def test_a_volume_is_shared_and_stays_and_may_be_read_only(volume: str) -> None:
    async with backend(volumes=[(volume, "/srv/data")]).sandbox() as first:
        await first.fs.write_text("/srv/data/a", "kept")
    async with backend(volumes=[(volume, "/srv/data", "ro")]).sandbox() as second:
        assert await second.fs.read_text("/srv/data/a") == "kept"
        assert not (await second.exec("touch /srv/data/b")).ok
        (fork,) = await second.fork()
        async with fork:
            assert await fork.fs.read_text("/srv/data/a") == "kept"


async def test_hosts_settings_and_limits_are_as_asked_for(engine: Engine) -> None:
    recipe = backend(
        extra_hosts={"db.test": "10.0.0.5", "six.test": "fd00::1"},
        sysctls={"net.core.somaxconn": "321"},
        engine_options={"Ulimits": [{"Name": "nofile", "Soft": 77, "Hard": 99}]},
        resources=Resources(shm_size=2**20),
        platform="linux/amd64",
    )
    async with recipe.sandbox() as sandbox:
        said = await sandbox.exec(
            "cat /etc/hosts; cat /proc/sys/net/core/somaxconn; ulimit -n; df -B1 /dev/shm"
        )
    assert "10.0.0.5\tdb.test" in said.stdout
    assert "fd00::1\tsix.test" in said.stdout
    assert "\n321\n77\n" in said.stdout
    assert "1048576" in said.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"PidMode": "host"}, "PidMode='host' shares a namespace"),
        ({"privileged": True}, "Privileged=True"),
        ({"pRivileged": True}, "Privileged=True"),
        ({"UsernsMode": "host"}, "UsernsMode='host'"),
        ({"MaskedPaths": []}, "MaskedPaths without /proc/kcore"),
        ({"readonlyPaths": ["/none-such"]}, "ReadonlyPaths without /proc/bus"),
        ({"Ulimit": [{"Name": "nofile", "Soft": 77}]}, "Ulimit: this engine does not have it"),
        ({"VolumesFrom": ["none-such"]}, None),
        (
            {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x",
                          "CgroupPermissions": "r"}]},
            "Devices=",
        ),
    ],
)  # fmt: skip
async def test_options_that_lower_the_hardening_are_refused_before_anything_runs(
    engine: Engine, options: dict[str, Any], told: str | None
) -> None:
    with pytest.raises(ConfigError if told else SandboxError) as caught:
        await backend(engine_options=options).create()
    if told:
        assert told in str(caught.value)
        assert "hardening='none' if that is meant" in str(caught.value) or "Ulimit" in told


async def test_a_volume_that_is_a_directory_of_the_machine_is_refused(
    engine: Engine, volume: str
) -> None:
    await asyncio.to_thread(
        engine.client.create_volume,
        volume,
        driver_opts={"type": "none", "o": "bind", "device": "/var/run"},
    )
    recipe = backend(volumes=[(volume, "/x")])
    with pytest.raises(ConfigError, match=r"is /var/run of the engine's machine"):
        await recipe.create()


async def test_isolation_that_is_given_up_is_no_capability(engine: Engine) -> None:
    recipe = backend(
        hardening="none", engine_options={"PidMode": "host", "CapAdd": ["CHOWN", "SYS_PTRACE"]}
    )
    async with recipe.sandbox() as sandbox:
        assert Capability.ISOLATION not in sandbox.capabilities
        assert (await sandbox.exec("ls /proc | grep -c '^[0-9]'")).ok
        joined = await DockerBackend().attach(sandbox.id)
        assert Capability.ISOLATION not in joined.capabilities
        assert (await joined.exec("echo joined")).stdout == "joined\n"
    async with backend(hardening="none").sandbox() as sandbox:
        assert Capability.NETWORK_NONE in sandbox.capabilities


async def test_an_engine_without_gpus_or_of_another_kind_says_so(engine: Engine) -> None:
    with pytest.raises(SandboxError, match="device driver"):
        await backend(gpus="all").create()
    with pytest.raises(SandboxError, match="platform"):
        await backend(platform="linux/s390x").create()
