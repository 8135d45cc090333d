"""Images, snapshots, forks, pauses and numbers of Docker's sandboxes, on a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from paddock import ExecTimeout, Image
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.build import ensure
from paddock.backends.docker.sandbox import DockerSandbox
from tests.e2e.docker.ours import forks, names

if TYPE_CHECKING:
    from paddock import Progress
    from paddock.backends.docker.engine import Engine

pytestmark = pytest.mark.docker


async def test_a_snapshot_keeps_files_and_is_nobodys_sandbox(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    await sandbox.fs.write_text("kept", "yes")
    name = f"paddock-test-snapshot:{sandbox.id}"
    await sandbox.snapshot(name)
    try:
        async with DockerBackend(image=name, network="none").sandbox() as again:
            assert await again.fs.read_text("kept") == "yes"
        found = await engine.call("inspecting", engine.client.inspect_image, name)
        assert found["Config"]["Labels"]["dev.paddock.sandbox"] == ""
    finally:
        await engine.call("removing", engine.client.remove_image, name)
    assert (await sandbox.exec("cat kept")).stdout == "yes"


async def test_forks_have_the_files_and_lives_of_their_own(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    await sandbox.fs.write_text("shared", "1")
    first, second = await sandbox.fork(2)
    try:
        await first.fs.write_text("shared", "2")
        texts = [await one.fs.read_text("shared") for one in (sandbox, first, second)]
        assert texts == ["1", "2", "1"]
    finally:
        await asyncio.gather(first.aclose(), second.aclose())
    assert await forks(engine) == []


async def test_a_cancelled_fork_leaves_neither_sandbox_nor_image(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    for delay in (0.0, 0.3, 0.8):
        forking = asyncio.create_task(sandbox.fork(2))
        await asyncio.wait([forking], timeout=delay)
        forking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            for made in await forking:
                await made.aclose()
    assert await names(engine) == {f"/{sandbox.id}"}
    assert await forks(engine) == []


@pytest.mark.usefixtures("control_groups")
async def test_a_paused_sandbox_stands_still_and_goes_on(engine: Engine) -> None:
    async with DockerBackend(network="none", lease=1.5).sandbox() as sandbox:
        await sandbox.exec("(while sleep 0.05; do date +%s%N > tick; done) & true")
        await sandbox.pause()
        running = asyncio.create_task(sandbox.exec("echo on"))
        done, _ = await asyncio.wait([running], timeout=2.5)  # longer than the lease
        assert not done
        await sandbox.resume()
        assert (await running).stdout == "on\n"


@pytest.mark.usefixtures("control_groups")
async def test_the_lease_is_renewed_until_it_is_paused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DockerBackend(network="none", lease=1.0).sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        client = sandbox._engine.client
        pause = client.pause

        def slowly(container: str) -> None:
            time.sleep(2.0)  # an engine that has much to do
            pause(container)

        monkeypatch.setattr(client, "pause", slowly)
        await sandbox.pause()
        await sandbox.resume()
        assert (await sandbox.exec("echo on")).stdout == "on\n"


@pytest.mark.usefixtures("control_groups")
async def test_a_call_of_a_paused_sandbox_ends_by_its_timeout_and_by_cancellation(
    sandbox: DockerSandbox,
) -> None:
    running = asyncio.create_task(sandbox.exec("echo begun; sleep 100", timeout=1))
    await sandbox.pause()
    async with asyncio.timeout(20):
        with pytest.raises(ExecTimeout):
            await running
        with pytest.raises(ExecTimeout):
            await sandbox.exec("touch late; sleep 100", timeout=0.1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sandbox.exec("sleep 100"), 0.1)
    await sandbox.resume()
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    async with asyncio.timeout(20):
        while "sleep 100" in (await sandbox.exec(look)).stdout:  # noqa: ASYNC110 - they are killed
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("control_groups")
async def test_a_sandbox_that_somebody_else_pauses_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.docker.sandbox.ANSWER_DEADLINE", 0.3)
    async with DockerBackend(network="none", lease=2).sandbox() as sandbox:
        await engine.call("pausing", engine.client.pause, sandbox.id)
        await asyncio.sleep(3)  # longer than the deadline, and than the lease
        await engine.call("resuming", engine.client.unpause, sandbox.id)
        assert (await sandbox.exec("echo on")).stdout == "on\n"


@pytest.mark.usefixtures("control_groups")
async def test_a_cancelled_pause_leaves_it_running(sandbox: DockerSandbox) -> None:
    for delay in (0, 0.001, 0.005, 0.02, 0.05, 0.2):
        pausing = asyncio.create_task(sandbox.pause())
        await asyncio.wait([pausing], timeout=delay)
        pausing.cancel()
        await asyncio.wait([pausing])
        if not pausing.cancelled():
            await sandbox.resume()
        async with asyncio.timeout(10):
            assert (await sandbox.exec("echo on")).stdout == "on\n"


@pytest.mark.usefixtures("control_groups")
async def test_stats_are_numbers_of_this_sandbox(sandbox: DockerSandbox) -> None:
    stats = await sandbox.stats()
    assert stats.memory_limit == 4 * 1024**3
    assert 0 < stats.memory < 200 * 1024**2
    assert 0 < stats.cpu < 60
    assert 1 <= stats.pids < 20


async def test_a_recipe_may_say_what_is_in_its_image(engine: Engine) -> None:
    image = Image.from_registry("paddock:base").run_commands("echo built > /built").env({"B": "2"})
    recipe = DockerBackend(image=image, network="none", env_vars={"E": "3"})
    steps: list[Progress] = []
    try:
        async with recipe.sandbox(on_progress=steps.append) as sandbox:
            assert (await sandbox.exec("cat /built; echo $B$E")).stdout == "built\n23\n"
        assert any(step.step == "image" for step in steps)
        async with recipe.sandbox(on_progress=steps.append) as sandbox:
            assert (await sandbox.exec("cat /built")).stdout == "built\n"
    finally:
        name = await asyncio.to_thread(image.reference)
        await engine.call("removing", engine.client.remove_image, name)


async def test_the_agent_image_works_as_a_ci_user_starts_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container of testcontainers, which is not ours, Paddock runs by itself."""
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)  # it would be pulled
    agent = await ensure(engine, "paddock:agent")
    command = "paddock exec --isolation none -- sh -c 'echo inside; exit 3'; echo code $?"

    def run() -> str:
        with DockerContainer(agent, entrypoint="sleep", command="60") as container:
            return str(container.exec(["sh", "-c", command]).output, "utf-8")

    assert await asyncio.to_thread(run) == "inside\ncode 3\n"
