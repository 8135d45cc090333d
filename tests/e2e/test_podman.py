"""What only Podman's sandboxes have to show: how they end, and what they refuse."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Allow, ConfigError, Image, PodmanBackend, Resources, SandboxLost, Unsupported
from paddock.backends import owner, podman
from paddock.backends.guest.program import call

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

pytestmark = pytest.mark.usefixtures("podman")

END_TIMEOUT = 60.0
"""Seconds in which a container is gone whose maker was killed, on a machine that is very busy."""
MAKER = """
import asyncio
from paddock import PodmanBackend
async def main():
    sandbox = await PodmanBackend(network="none", labels={"made": "to be left"}).create()
    print(sandbox.id, flush=True)
    await sandbox.exec("sleep 986000")
asyncio.run(main())
"""


async def _containers() -> str:
    return await call("podman", "ps", "--all", "--quiet")


async def test_the_container_of_a_maker_that_was_killed_ends_and_goes() -> None:
    maker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKER, stdout=asyncio.subprocess.PIPE
    )
    assert maker.stdout is not None
    name = (await maker.stdout.readline()).decode().strip()
    (info,) = await PodmanBackend().list({"made": "to be left"})
    assert (info.id, info.owner, info.state) == (name, "alive", "running")
    maker.send_signal(signal.SIGKILL)
    await maker.wait()
    async with asyncio.timeout(END_TIMEOUT):
        while await _containers():  # noqa: ASYNC110
            # Podman has nothing to wait by for a container that goes.
            await asyncio.sleep(0.1)


async def test_gc_removes_what_was_created_and_never_started_or_was_paused() -> None:
    recipe = PodmanBackend(network="none")
    lock = owner.OwnerLock.take()
    command = recipe._command(lock.name, frozenset())
    await call(*("create" if word == "run" else word for word in command))
    assert await recipe.gc() == []
    lock.abandon()
    assert await recipe.gc() == [lock.name]
    async with recipe.sandbox() as sandbox:
        await call("podman", "pause", sandbox.id)
        assert await recipe.delete(sandbox.id) is True
        async with asyncio.timeout(END_TIMEOUT):
            with pytest.raises(SandboxLost):
                await sandbox.exec("true")
    assert await _containers() == ""


async def test_limits_are_those_of_the_container_and_are_refused_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    recipe = PodmanBackend(network="none", resources=Resources(memory=2**28, pids=64))
    async with recipe.sandbox() as sandbox:
        told = await sandbox.exec(f"{memory} 2>/dev/null; ulimit -c", timeout=END_TIMEOUT)
        assert told.stdout.split()[0] == str(2**28)

    async def without_groups(*words: str, timeout: float = 60.0) -> str:  # noqa: ASYNC109
        assert words[0] == "info", "nothing is made"
        return "[]"

    monkeypatch.setattr(podman, "_podman", without_groups)
    with pytest.raises(Unsupported, match="a limit on memory"):
        await recipe.create()


async def test_nothing_of_our_environment_is_in_a_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTPS_PROXY", "http_proxy", "PADDOCK_CANARY"):
        monkeypatch.setenv(name, "http://canary-of-podman:1")
    async with PodmanBackend(network="none").sandbox() as sandbox:
        told = await sandbox.exec("env; cat /proc/1/environ; cat /proc/[0-9]*/cmdline")
        assert "canary-of-podman" not in told.stdout


async def test_an_allow_list_is_the_only_way_out() -> None:
    async with PodmanBackend(network=Allow(hosts=["example.org"])).sandbox() as sandbox:
        links = await sandbox.exec("ls /sys/class/net")
        assert links.stdout.split() == ["lo"]
        assert "HTTPS_PROXY" in sandbox.env


@pytest.mark.parametrize(
    ("image", "text"),
    [("paddock:nothing", "docs/podman.md"), ("localhost/nothing:1", "podman failed")],
)
async def test_an_image_that_cannot_be_had_is_an_error_that_leaves_nothing(
    image: str, text: str
) -> None:
    with pytest.raises(Exception, match=text):
        await PodmanBackend(image=image).create()
    assert await _containers() == ""


async def test_an_image_without_python_is_refused() -> None:
    name = "localhost/no-python:1"
    built = b"FROM paddock:base\nRUN rm -f /usr/bin/python3*\n"
    await call("podman", "build", "--network=none", "--tag", name, "-", stdin=built)
    try:
        with pytest.raises(Unsupported, match="Python"):
            await PodmanBackend(image=name, network="none").create()
    finally:
        await call("podman", "rmi", name)
    assert await _containers() == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "-v/:/host"},
        {"image": Image.from_registry("paddock:base").run_commands("true")},
        {"network": "host"},
        {"working_dir": "relative"},
        {"working_dir": 1},
    ],
)
def test_what_makes_no_sense_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PodmanBackend(**wrong)


def test_the_command_line_makes_and_lists_them(paddock: Paddock, podman: dict[str, str]) -> None:
    command = ("exec", "--backend", "podman", "--network", "none", "--", "cat", "/etc/hostname")
    done = paddock(*command, env=podman)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("paddock-")
