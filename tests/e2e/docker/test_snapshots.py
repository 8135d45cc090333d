"""Images, snapshots, forks, pauses and numbers of Docker's sandboxes, on a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from paddock import ExecTimeout, Image
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.commits import COMMIT_DEADLINE
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.images.build import ensure
from paddock.backends.docker.images.store import identity
from paddock.errors import ConfigError
from tests.e2e.docker.ours import RECIPE, forks, names

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import Progress
    from paddock.backends.docker.engine.client import Engine

pytestmark = pytest.mark.docker


async def test_a_snapshot_keeps_files_and_is_nobodys_sandbox(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    await sandbox.fs.write_text("kept", "yes")
    name = f"paddock-test-snapshot:{sandbox.id}"
    await sandbox.snapshot(name)
    recipe = DockerBackend(image=name, network="none")
    try:
        async with recipe.sandbox() as again:
            assert await again.fs.read_text("kept") == "yes"
            assert [info.id for info in await recipe.list(RECIPE.labels)] == [sandbox.id]
        found = await engine.call("inspecting", engine.client.inspect_image, name)
        inherited = found["Config"]["Labels"]
        assert {
            inherited[f"dev.paddock.{name}"] for name in ("sandbox", "join-token", "lease")
        } == {""}
    finally:
        await engine.call("removing", engine.client.remove_image, name)
    assert (await sandbox.exec("cat kept")).stdout == "yes"


async def test_a_name_that_is_taken_again_means_the_new_files_and_leaves_no_old_ones(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    name = f"paddock-test-again:{sandbox.id}"
    before = None
    try:
        for text in ("1", "2"):
            await sandbox.fs.write_text("kept", text)
            image = await sandbox.snapshot(name)
            async with DockerBackend(image=image, network="none").sandbox() as again:
                assert await again.fs.read_text("kept") == text
            assert before is None or await identity(engine, before) is None
            before = await identity(engine, name)
    finally:
        await engine.call("removing", engine.client.remove_image, name)


async def test_an_image_of_somebody_else_loses_its_name_and_stays(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    name = f"paddock-test-other:{sandbox.id}"
    base = await identity(engine, "paddock:base")
    await engine.call("naming", engine.client.tag, base, *name.split(":"))
    await sandbox.snapshot(name)
    await engine.call("removing", engine.client.remove_image, name)
    assert await identity(engine, "paddock:base") == base


async def test_a_name_that_no_image_can_have_is_refused_before_anything_is_written(
    sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = await sandbox._engine.with_timeout(COMMIT_DEADLINE)
    monkeypatch.setattr(patient.client, "commit", None)
    with pytest.raises(ConfigError, match="'A:1' is not a name"):
        await sandbox.snapshot("A:1")


@pytest.mark.parametrize("taken", [False, True], ids=["new name", "taken name"])
@pytest.mark.parametrize("step", ["commit", "tag"])
async def test_a_cancelled_snapshot_leaves_the_name_as_it_was_and_nothing_else(
    engine: Engine,
    sandbox: DockerSandbox,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    taken: bool,
) -> None:
    name = f"paddock-test-cancelled:{sandbox.id}"
    if taken:
        await sandbox.snapshot(name)
    before = await identity(engine, name)
    writer = (await sandbox._engine.with_timeout(COMMIT_DEADLINE)).client
    client = writer if step == "commit" else sandbox._engine.client
    commit, work, written = writer.commit, getattr(client, step), []
    loop = asyncio.get_running_loop()

    def remember(*args: Any, **kwargs: Any) -> Any:
        written.append(commit(*args, **kwargs))
        return written[0]

    def cancelled(*args: Any, **kwargs: Any) -> Any:
        answer = remember(*args, **kwargs) if step == "commit" else work(*args, **kwargs)
        loop.call_soon_threadsafe(taking.cancel)
        monkeypatch.setattr(client, step, work)
        return answer

    monkeypatch.setattr(writer, "commit", remember)
    monkeypatch.setattr(client, step, cancelled)
    taking = asyncio.create_task(sandbox.snapshot(name))
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert await identity(engine, name) == before
    assert await identity(engine, written[0]["Id"]) is None
    if taken:
        await engine.call("removing", engine.client.remove_image, name)


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


async def test_there_are_no_fewer_than_no_forks(sandbox: DockerSandbox) -> None:
    assert await sandbox.fork(0) == []
    with pytest.raises(ConfigError, match="count=-1"):
        await sandbox.fork(-1)


@pytest.mark.parametrize("joined", [False, True], ids=["deleted", "closed by who joined it"])
async def test_the_image_of_forks_goes_with_the_last_of_those_that_were_let_go(
    engine: Engine, joined: bool
) -> None:
    recipe = DockerBackend(network="none", lease=None)
    async with recipe.sandbox() as maker:
        made = await maker.fork(2)
    for fork in made:
        assert len(await forks(engine)) == 1
        await fork.detach()
        assert await recipe.gc() == []
        if joined:
            await (await recipe.attach(fork.id)).aclose()
        else:
            assert await recipe.delete(fork.id)
    assert await forks(engine) == []


FORKING = """
import asyncio
from paddock.backends.docker import DockerBackend

async def main():
    async with DockerBackend(network="none").sandbox() as sandbox:
        await sandbox.fork(2)
        print("forked", flush=True)
        await sandbox.exec("sleep 1000")

asyncio.run(main())
"""


@pytest.mark.parametrize("forked", [False, True], ids=["while forking", "with forks"])
async def test_a_maker_that_is_killed_leaves_no_image_of_forks(
    engine: Engine, tmp_path: Path, forked: bool
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    maker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FORKING, stdout=subprocess.PIPE, env=environment
    )
    assert maker.stdout is not None
    async with asyncio.timeout(60):
        if forked:
            await maker.stdout.readline()
        while not await forks(engine):  # noqa: ASYNC110 - somebody else makes them
            await asyncio.sleep(0.01)
    maker.kill()
    await maker.wait()
    async with asyncio.timeout(60):
        while await forks(engine) or await names(engine):  # noqa: ASYNC110 - its reaper does it
            await asyncio.sleep(0.05)


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
    async with asyncio.timeout(60):
        with pytest.raises(ExecTimeout):
            await running
        with pytest.raises(ExecTimeout):
            await sandbox.exec("touch late; sleep 100", timeout=0.1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sandbox.exec("sleep 100"), 0.1)
    await sandbox.resume()
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    async with asyncio.timeout(60):
        while "sleep 100" in (await sandbox.exec(look)).stdout:  # noqa: ASYNC110 - they are killed
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("control_groups")
async def test_a_sandbox_that_somebody_else_pauses_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.guest.monitor.ANSWER_TIMEOUT", 0.3)
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
        async with asyncio.timeout(60):
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
    """In a container of testcontainers, which is not ours, with nothing else installed."""
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)  # it would be pulled
    agent = await ensure(engine, "paddock:agent")
    command = (
        "paddock --version | cut -c 1-7; paddock doctor; npx -y left-pad; npx -y runtimeuse -h"
    )

    def run() -> str:
        with DockerContainer(agent, entrypoint="sleep", command="60") as container:
            return str(container.exec(["sh", "-c", command]).output, "utf-8")

    said = await asyncio.to_thread(run)
    assert said.startswith("paddock\npaddock: of the command line only `paddock serve`")
    assert "npx: this image has no Node.js" in said
    assert "usage: paddock serve" in said
