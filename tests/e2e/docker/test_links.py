"""Sandboxes that are paused, cut off or left alone for a while, and live."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING

import pytest

from paddock import CommandLost, ExecTimeout
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.images.build import ensure
from paddock.backends.guest.link import State
from tests.contract.conftest import WITHOUT_PYTHON
from tests.e2e.docker.ours import RECIPE

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine
    from tests.e2e.docker.proxy import EngineProxy

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("base_image")]

DEADLINE = 60.0
LEASE = 2.0
OUTLASTING = "sleep 5"
"""A command that is silent for longer than a lease."""


@pytest.fixture(params=["guest", "no Python"])
async def recipe(request: pytest.FixtureRequest, engine: Engine) -> DockerBackend:
    """A recipe with a short lease, with and without a guest."""
    leased = dataclasses.replace(RECIPE, lease=LEASE)
    if request.param == "guest":
        return leased
    return dataclasses.replace(leased, image=await ensure(engine, WITHOUT_PYTHON))


@pytest.fixture
def over_proxy(engine_proxy: EngineProxy, tmp_path: Path) -> DockerBackend:
    return dataclasses.replace(RECIPE, host=f"unix://{tmp_path}/docker.sock", lease=LEASE)


async def is_cut_off(sandbox: object, proxy: EngineProxy) -> None:
    """Cut the streams, and wait until that is noticed."""
    assert isinstance(sandbox, DockerSandbox)
    proxy.cut()
    async with asyncio.timeout(DEADLINE):
        while sandbox._client.channels.connected:  # noqa: ASYNC110 - it is noticed at once
            await asyncio.sleep(0)


async def test_a_loop_that_is_blocked_for_longer_than_the_lease_loses_nothing(
    recipe: DockerBackend,
) -> None:
    async with recipe.sandbox() as sandbox:
        running = asyncio.create_task(sandbox.exec("sleep 1; echo there"))
        await sandbox.exec("true")
        time.sleep(3 * LEASE)  # noqa: ASYNC251 - an `input()` in a user's callback does just this
        assert (await running).stdout == "there\n"
        assert (await sandbox.exec("echo on")).stdout == "on\n"


async def test_a_holder_that_joined_sends_heartbeats_past_a_blocked_loop(engine: Engine) -> None:
    recipe = dataclasses.replace(RECIPE, lease=LEASE)
    async with recipe.sandbox() as sandbox:
        holder = await recipe.attach(sandbox.id)
        assert isinstance(sandbox, DockerSandbox)
        sandbox._monitor._heartbeat.stop()  # the other holder alone keeps the lease
        time.sleep(3 * LEASE)  # noqa: ASYNC251 - see above
        assert (await holder.exec("echo on")).stdout == "on\n"
        assert (await sandbox.exec("echo on")).stdout == "on\n"
        await holder.aclose()


async def test_a_loop_that_is_blocked_in_the_middle_of_an_upload_loses_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    """Half of a frame is on its way when the loop stops: the heartbeat waits for the rest."""
    (tmp_path / "large").write_bytes(bytes(64 * 1024 * 1024))
    blocked = False

    def sent(done: int, total: int | None) -> None:
        nonlocal blocked
        if done > 8 * 1024 * 1024 and not blocked:
            blocked = True
            time.sleep(3 * LEASE)

    async with dataclasses.replace(RECIPE, lease=LEASE).sandbox() as sandbox:
        await sandbox.fs.upload(tmp_path / "large", "large", on_progress=sent)
        assert blocked
        assert (await sandbox.fs.stat("large")).size == 64 * 1024 * 1024


@pytest.mark.parametrize("stalled", [True, False], ids=["heartbeat in flight", "cut"])
async def test_heartbeats_survive_a_stream_that_breaks(
    engine_proxy: EngineProxy, over_proxy: DockerBackend, stalled: bool
) -> None:
    async with over_proxy.sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        if stalled:
            engine_proxy.flowing.clear()
            async with asyncio.timeout(DEADLINE):
                while not sandbox._client.link.answers_due:  # noqa: ASYNC110 - sent by a thread
                    await asyncio.sleep(0.01)
        await is_cut_off(sandbox, engine_proxy)
        engine_proxy.flowing.set()
        await sandbox.exec(OUTLASTING)
        assert not sandbox.lost


async def test_a_command_whose_output_was_cut_off_is_lost_and_the_sandbox_is_not(
    engine_proxy: EngineProxy, over_proxy: DockerBackend
) -> None:
    async with over_proxy.sandbox() as sandbox:
        begun = asyncio.Event()
        streamed = asyncio.create_task(
            sandbox.exec("echo begun; exec sleep 973", on_output=lambda *_: begun.set())
        )
        await asyncio.wait_for(begun.wait(), DEADLINE)
        engine_proxy.cut()
        with pytest.raises(CommandLost, match="output was lost"):
            await asyncio.wait_for(streamed, DEADLINE)
        assert not sandbox.lost
        assert not (await sandbox.exec("pgrep -f 'sleep 97[3]'")).ok


async def test_a_timeout_while_the_stream_is_broken_is_a_timeout(
    engine_proxy: EngineProxy, over_proxy: DockerBackend
) -> None:
    async with over_proxy.sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        for streams in (False, True):
            on_output = (lambda *_: None) if streams else None
            running = asyncio.create_task(
                sandbox.exec("exec sleep 974", timeout=2, on_output=on_output)
            )
            begun = "until pgrep -f 'sleep 97[4]'; do sleep 0.01; done"
            await sandbox.exec(["timeout", "2", "sh", "-c", begun])
            engine_proxy.cut()
            with pytest.raises((ExecTimeout, CommandLost) if streams else ExecTimeout):
                await asyncio.wait_for(running, DEADLINE)
            await sandbox._link.changed_from(State.RECONNECTING)
            assert not (await sandbox.exec("pgrep -f 'sleep 97[4]'")).ok


async def test_a_pool_keeps_sandboxes_whose_stream_broke(
    engine_proxy: EngineProxy, over_proxy: DockerBackend
) -> None:
    async with over_proxy.pool(size=1) as pool:
        await asyncio.wait_for(pool.wait_ready(), DEADLINE)
        engine_proxy.cut()
        async with pool.sandbox() as sandbox:
            assert (await sandbox.exec("echo on")).stdout == "on\n"
        assert pool.stats().replaced == 0


@pytest.mark.usefixtures("control_groups")
async def test_a_stream_that_breaks_in_a_pause_is_replaced_on_resume(
    engine_proxy: EngineProxy, over_proxy: DockerBackend
) -> None:
    async with over_proxy.sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        await sandbox.pause()
        await is_cut_off(sandbox, engine_proxy)
        assert sandbox._link.state is State.PAUSED
        waiting = asyncio.create_task(sandbox.exec("echo on"))
        with pytest.raises(ExecTimeout):
            await sandbox.exec("echo never", timeout=0.1)
        await sandbox.resume()
        assert (await asyncio.wait_for(waiting, DEADLINE)).stdout == "on\n"


@pytest.mark.usefixtures("control_groups")
async def test_a_pause_by_another_holder_is_no_loss(engine: Engine) -> None:
    maker = await dataclasses.replace(RECIPE, lease=None).create()
    try:
        other = await DockerBackend().attach(maker.id)
        running = asyncio.create_task(maker.exec("echo begun; exec sleep 975", timeout=1))
        await maker.exec("until pgrep -f 'sleep 97[5]'; do sleep 0.01; done")
        await other.pause()
        with pytest.raises(ExecTimeout):
            await asyncio.wait_for(running, DEADLINE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(maker.exec("exec sleep 975"), 0.1)
        await other.resume()
        for holder in (maker, other):
            assert (await holder.exec("echo on")).stdout == "on\n"
        await maker.exec("while pgrep -f 'sleep 97[5]'; do sleep 0.01; done", timeout=DEADLINE)
        await other.detach()
    finally:
        await maker.aclose()


@pytest.mark.usefixtures("control_groups")
async def test_calls_of_a_paused_sandbox_end_in_their_time(recipe: DockerBackend) -> None:
    async with recipe.sandbox() as sandbox:
        running = asyncio.create_task(sandbox.exec("exec sleep 976", timeout=1))
        await sandbox.exec("true")
        await sandbox.pause()
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(ExecTimeout):
                await running
            with pytest.raises(ExecTimeout):
                await sandbox.exec("echo never", timeout=0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sandbox.exec("echo never"), 0.1)
        await sandbox.resume()
        assert (await sandbox.exec("echo on")).stdout == "on\n"


async def test_a_process_that_stays_is_joined_again_after_the_stream_broke(
    engine_proxy: EngineProxy, over_proxy: DockerBackend
) -> None:
    """One that is detached and one that was joined; one that was only started is killed."""
    command = "echo on; read x; echo got $x; exit 5"
    async with over_proxy.sandbox() as sandbox:
        stays = await sandbox.start(command, detached=True)
        other = await DockerBackend().attach(sandbox.id)
        shared = await other.start(command)
        await anext(shared.output())  # it runs: its order and ours take different ways to the guest
        assert stays.id is not None
        assert shared.id is not None
        joined = await sandbox.join(shared.id)
        owned = await sandbox.start("exec sleep 976")
        await asyncio.gather(*(anext(one.output()) for one in (stays, joined)))
        await is_cut_off(sandbox, engine_proxy)
        for one in (stays, joined, owned):
            with pytest.raises(CommandLost):
                await asyncio.wait_for(one.wait(), DEADLINE)
        for one in (stays, joined):
            await one.aclose()
        await asyncio.wait_for(owned.aclose(), DEADLINE)
        running = {info.id for info in await sandbox.processes() if info.exit_code is None}
        assert running == {stays.id, shared.id}
        for found in (stays.id, shared.id):
            async with await sandbox.join(found) as again:
                await again.send(b"it\n")
                result = await asyncio.wait_for(again.wait(), DEADLINE)
            assert (result.exit_code, result.stdout) == (5, "on\ngot it\n")
        assert (await asyncio.wait_for(shared.wait(), DEADLINE)).exit_code == 5
        await other.detach()


async def test_what_a_program_that_was_killed_has_started_is_joined_by_another() -> None:
    maker = await dataclasses.replace(RECIPE, lease=None).create()
    async with maker:
        other = await DockerBackend().attach(maker.id)
        assert isinstance(other, DockerSandbox)
        ending = await other.start("echo said; sleep 6; echo later; exit 4")
        waiting = await other.start("echo on; cat; echo end; exit 6")
        await asyncio.gather(*(anext(one.output()) for one in (ending, waiting)))
        # As when its program is killed: nothing is said, and nobody comes again.
        other._client.link.fail("its program was killed")
        for process, code, said in ((waiting, 6, "on\nend\n"), (ending, 4, "said\nlater\n")):
            assert process.id is not None
            async with await maker.join(process.id) as joined:
                result = await asyncio.wait_for(joined.wait(), DEADLINE)
            assert (result.exit_code, result.stdout) == (code, said)
        await other.detach()
