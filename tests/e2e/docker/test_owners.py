"""Who a container belongs to: leases, several owners, and owners that die, on a real engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError, SandboxClosed, SandboxLost, Unsupported
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.engine.attach import join_stream
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.link import State
from tests.e2e.docker.ours import names

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine

pytestmark = pytest.mark.docker


async def _begun(program: str, folder: str | Path) -> tuple[asyncio.subprocess.Process, str]:
    """Run `program` with its temporary files in `folder`; return it and its first line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def test_a_sandbox_without_a_lease_outlives_its_maker_and_is_found_again(
    engine: Engine,
) -> None:
    recipe = DockerBackend(network="none", lease=None, labels={"job": "7"})
    maker = await recipe.create()
    await maker.fs.write_text("kept", "yes")
    await maker.exec("(sleep 0.5; echo finished > late) & true")
    await maker.detach()
    with pytest.raises(SandboxClosed):
        await maker.exec("true")
    try:
        assert await recipe.gc() == []
        again = await DockerBackend().attach(maker.id)
        assert again.labels == {"job": "7"}
        assert again.working_dir == maker.working_dir
        assert await again.fs.read_text("kept") == "yes"
        assert (await again.exec("while ! [ -e late ]; do sleep 0.05; done; cat late")).ok
        await again.detach()
        (found,) = await recipe.list({"job": "7"})
        assert (found.id, found.state) == (maker.id, "running")
    finally:
        assert await recipe.delete(maker.id)


async def test_a_maker_without_a_lease_that_is_killed_leaves_its_sandbox(
    engine: Engine, tmp_path: Path
) -> None:
    making = (
        "import asyncio\nfrom paddock import DockerBackend\n"
        "async def main():\n"
        "    sandbox = await DockerBackend(network='none', lease=None).create()\n"
        "    await sandbox.exec('echo on; sleep 0.7; echo ended > file',\n"
        "        on_output=lambda *_: print(sandbox.id, flush=True))\n"
        "asyncio.run(main())"
    )
    maker, name = await _begun(making, tmp_path)
    maker.kill()
    await maker.wait()
    async with await DockerBackend().attach(name) as again:
        waiting = 'while [ "$(cat file)" != ended ]; do sleep 0.05; done'
        assert (await again.exec(waiting, timeout=20)).ok
    assert name not in {info.id for info in await DockerBackend().list()}


async def test_a_lifetime_ends_a_sandbox_whose_maker_was_killed(
    engine: Engine, tmp_path: Path
) -> None:
    making = (
        "import asyncio\nfrom paddock import DockerBackend\n"
        "async def main():\n"
        "    sandbox = await DockerBackend(network='none', lease=None, lifetime=3).create()\n"
        "    print(sandbox.id, flush=True)\n"
        "    await sandbox.exec('sleep 1000')\n"
        "asyncio.run(main())"
    )
    maker, name = await _begun(making, tmp_path)
    maker.kill()
    await maker.wait()
    async with asyncio.timeout(60):
        while (name, "running") in {  # noqa: ASYNC110 - the guest ends, and no event says so here
            (one.id, one.state) for one in await DockerBackend().list()
        }:
            await asyncio.sleep(0.5)
    await DockerBackend().delete(name)


async def test_a_sandbox_that_was_joined_outlives_its_maker(engine: Engine) -> None:
    making = (
        "import asyncio\nfrom paddock import DockerBackend\n"
        "async def main():\n"
        "    sandbox = await DockerBackend(network='none').create()\n"
        "    print(sandbox.id, flush=True)\n"
        "    await sandbox.exec('sleep 1000')\n"
        "asyncio.run(main())"
    )
    maker, name = await _begun(making, tempfile.gettempdir())
    async with await DockerBackend().attach(name) as joined:
        maker.kill()
        await maker.wait()
        assert await DockerBackend().gc() == []
        owners = {info.id: info.owner for info in await DockerBackend().list()}
        assert owners[name] == "alive"
        assert (await joined.exec("echo here")).stdout == "here\n"
        await joined.detach()
    async with asyncio.timeout(60):
        while await names(engine):  # noqa: ASYNC110 - the engine removes it: nobody holds it
            await asyncio.sleep(0.05)


async def test_who_joins_has_the_environment_that_the_maker_gave(engine: Engine) -> None:
    recipe = DockerBackend(
        network="none", env_vars={"A": "maker's", "B": "2"}, secrets={"KEY": "not to be kept"}
    )
    told = 'echo "$A, $B, $C, $KEY"'
    async with recipe.sandbox() as made:
        other = await DockerBackend(env_vars={"B": "own", "C": "3"}).attach(made.id)
        assert (await other.exec(told)).stdout == "maker's, own, 3, \n"
        (fork,) = await other.fork()
        async with fork:
            assert (await fork.exec(told)).stdout == "maker's, own, 3, \n"
        found = await engine.call("inspecting", engine.client.inspect_container, made.id)
        await other.aclose()
    assert "maker's" not in str(found)
    assert "not to be kept" not in str(found)


async def test_two_hosts_share_a_sandbox_until_its_maker_closes_it(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    other = await DockerBackend().attach(sandbox.id)
    try:
        first, second = await asyncio.gather(
            sandbox.exec("sleep 0.2; echo one"), other.exec("sleep 0.2; echo two")
        )
        assert (first.stdout, second.stdout) == ("one\n", "two\n")
        with pytest.raises(Unsupported, match="lease"):
            await sandbox.detach()
        await sandbox.aclose()
        async with asyncio.timeout(60):
            with pytest.raises(SandboxLost):
                await other.exec("sleep 100")
    finally:
        await other.aclose()


async def test_joining_takes_the_token_and_a_sandbox_of_ours(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    client = GuestClient()
    with pytest.raises(EngineError, match="joining"):
        await join_stream(engine, sandbox.id, client.connect(), "a guess", user=None)
    client.link.fail("test over")
    assert (await sandbox.exec("echo untouched")).stdout == "untouched\n"
    with pytest.raises(ConfigError, match="no sandbox of ours is called nobody"):
        await DockerBackend().attach("nobody")


async def test_a_silent_owner_loses_its_sandbox_after_the_lease(engine: Engine) -> None:
    sandbox = await DockerBackend(network="none", lease=2).create()
    try:
        assert isinstance(sandbox, DockerSandbox)
        sandbox._monitor._heartbeat.stop()  # the owner hangs, but its connection stands
        async with asyncio.timeout(60):
            await sandbox._link.changed_from(State.RUNNING, State.RECONNECTING)
        with pytest.raises(SandboxLost, match="ended"):
            await sandbox.exec("true")
    finally:
        await sandbox.aclose()


async def test_an_idle_sandbox_with_a_living_owner_outlives_its_lease(engine: Engine) -> None:
    async with DockerBackend(network="none", lease=2).sandbox() as sandbox:
        await asyncio.sleep(5)
        assert (await sandbox.exec("echo here")).stdout == "here\n"


@pytest.mark.usefixtures("control_groups")
async def test_a_sandbox_that_was_paused_and_left_goes_on_for_who_finds_it(engine: Engine) -> None:
    backend = DockerBackend(network="none", lease=None)
    sandbox = await backend.create()
    await sandbox.fs.write_text("kept", "yes")
    await sandbox.pause()
    await sandbox.detach()
    async with await backend.attach(sandbox.id) as found:
        assert await found.fs.read_text("kept") == "yes"


@pytest.mark.usefixtures("control_groups")
async def test_a_paused_sandbox_that_another_joins_goes_on_for_its_maker(engine: Engine) -> None:
    async with DockerBackend(network="none", lease=2).sandbox() as sandbox:
        await sandbox.pause()
        joined = await DockerBackend().attach(sandbox.id)
        assert (await joined.exec("echo there")).stdout == "there\n"
        await joined.detach()
        await asyncio.sleep(4)  # the maker has to have noticed before the lease ends
        await sandbox.resume()
        assert (await sandbox.exec("echo here")).stdout == "here\n"


PAUSER = """
import asyncio
from paddock.backends.docker import DockerBackend

async def main():
    async with DockerBackend(network="none").sandbox() as sandbox:
        await sandbox.pause()
        print("paused", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.usefixtures("control_groups")
async def test_a_paused_sandbox_goes_with_a_maker_that_is_killed(
    engine: Engine, tmp_path: Path
) -> None:
    host, said = await _begun(PAUSER, tmp_path)
    assert said == "paused"
    host.send_signal(signal.SIGKILL)
    await host.wait()
    async with asyncio.timeout(60):
        while await names(engine):  # noqa: ASYNC110 - its reaper removes it
            await asyncio.sleep(0.05)


HOST = """
import asyncio
from paddock.backends.docker import DockerBackend

async def main():
    async def one(number):
        async with DockerBackend(network="none").sandbox() as sandbox:
            print("up", flush=True)
            await sandbox.exec("setsid sleep 1000 & sleep 1000")
    await asyncio.gather(*(one(number) for number in range(3)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [0, 1, 3], ids=["while making", "while starting", "at work"])
async def test_a_host_that_is_killed_leaves_no_container(
    engine: Engine, tmp_path: Path, lines: int
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, stdout=subprocess.PIPE, env=environment
    )
    assert host.stdout is not None
    for _ in range(lines):
        await host.stdout.readline()
    if not lines:
        async with asyncio.timeout(60):
            while not await names(engine):  # noqa: ASYNC110 - somebody else makes them
                await asyncio.sleep(0.01)
    host.send_signal(signal.SIGKILL)
    await host.wait()
    # Nobody else uses the engine: what was never started has no guest, but a reaper.
    async with asyncio.timeout(60):
        while await names(engine):  # noqa: ASYNC110 - the engine removes them
            await asyncio.sleep(0.05)
