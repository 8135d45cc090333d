"""What becomes of commands when the stream, the container, memory or the engine goes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from paddock import CommandLost, SandboxLost
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.backends.guest.bundle import boot
from paddock.backends.guest.link import State
from paddock.sandbox import Resources
from tests.e2e.docker.ours import RECIPE, names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.docker.proxy import EngineProxy

pytestmark = pytest.mark.docker


async def test_results_outlive_the_stream_that_they_were_asked_over(
    engine_proxy: EngineProxy, tmp_path: Path
) -> None:
    recipe = DockerBackend(network="none", host=f"unix://{tmp_path}/docker.sock")
    async with recipe.sandbox() as sandbox:
        long = "touch 1; seq 100; sleep 1; seq 100000; echo end >&2"
        running = asyncio.create_task(sandbox.exec(long))
        counting = asyncio.create_task(sandbox.exec("touch 2; echo once >> count; sleep 1"))
        ended = asyncio.create_task(sandbox.exec("touch 3; sleep 0.3; echo soon"))
        streamed = asyncio.create_task(
            sandbox.exec("touch 4; sleep 100", on_output=lambda *_: None)
        )
        await sandbox.exec("until [ -e 1 ] && [ -e 2 ] && [ -e 3 ] && [ -e 4 ]; do :; done")
        engine_proxy.cut()
        assert isinstance(sandbox, DockerSandbox)
        await sandbox._link.changed_from(State.RUNNING)
        meanwhile = asyncio.create_task(sandbox.exec("echo asked while there was no stream"))
        whole = "".join(f"{n}\n" for n in [*range(1, 101), *range(1, 100001)])
        async with asyncio.timeout(60):
            result = await running
            assert (result.stdout, result.stderr) == (whole, "end\n")
            assert (await ended).stdout == "soon\n"
            assert (await meanwhile).stdout == "asked while there was no stream\n"
            await counting
            with pytest.raises(CommandLost, match="output was lost"):
                await streamed
        assert await sandbox.fs.read_text("count") == "once\n"
        assert not (await sandbox.exec("pgrep -f 'sleep 10[0]'")).ok


async def test_an_engine_that_is_gone_is_a_lost_sandbox_and_no_container(
    engine_proxy: EngineProxy, engine: Engine, tmp_path: Path
) -> None:
    recipe = DockerBackend(network="none", host=f"unix://{tmp_path}/docker.sock")
    sandbox = await recipe.create()
    running = asyncio.create_task(sandbox.exec("sleep 100"))
    await asyncio.sleep(0.05)
    engine_proxy.refusing = True
    engine_proxy.cut()
    async with asyncio.timeout(60):
        with pytest.raises(SandboxLost, match=r"engine|Engine"):
            await running
    with contextlib.suppress(EngineError):
        await sandbox.aclose()
    async with asyncio.timeout(60):
        while await names(engine):  # noqa: ASYNC110 - the engine removes it
            await asyncio.sleep(0.05)


async def test_a_removed_container_is_lost_with_that_reason(engine: Engine) -> None:
    async with RECIPE.sandbox() as sandbox:
        running = asyncio.create_task(sandbox.exec("sleep 100"))
        await sandbox.exec("true")
        await engine.call("removing", engine.client.remove_container, sandbox.id, force=True)
        async with asyncio.timeout(60):
            with pytest.raises(SandboxLost, match="from outside"):
                await running


@pytest.mark.usefixtures("control_groups")
async def test_a_sandbox_whose_memory_runs_out_goes_on_or_says_so(engine: Engine) -> None:
    recipe = DockerBackend(network="none", resources=Resources(memory=64 * 1024**2))
    async with recipe.sandbox() as sandbox:
        hog = await sandbox.exec(["python3", "-c", "x = bytearray(10**9)"])
        assert (hog.exit_code, hog.oom_killed) == (137, True)
        behind = await sandbox.exec("python3 -c 'x = bytearray(10**9)'; exit $?")
        assert (behind.exit_code, behind.oom_killed) == (137, True)
        assert not (await sandbox.exec("kill -9 $$")).oom_killed
        assert (await sandbox.exec("echo goes on")).stdout == "goes on\n"


@pytest.mark.usefixtures("control_groups")
async def test_what_ended_a_sandbox_is_not_the_memory_that_ran_out_in_a_command(
    engine: Engine,
) -> None:
    recipe = DockerBackend(network="none", resources=Resources(memory=64 * 1024**2))
    async with recipe.sandbox() as sandbox:
        assert (await sandbox.exec(["python3", "-c", "x = bytearray(10**9)"])).oom_killed
        await engine.call("stopping", engine.client.stop, sandbox.id)
        async with asyncio.timeout(60):
            with pytest.raises(SandboxLost, match=r"from outside \(exit 143\)"):
                await sandbox.exec("true")


@pytest.mark.usefixtures("control_groups")
async def test_memory_that_does_not_hold_a_guest_is_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = "hold = b'x' * (64 << 20)\n"  # a guest fits into the least memory that an engine gives
    monkeypatch.setattr(
        "paddock.backends.docker.containers.plan.boot", lambda code: greedy + boot(code)
    )
    recipe = DockerBackend(network="none", resources=Resources(memory=6 * 1024**2))
    with pytest.raises(SandboxLost, match="its guest did not start: its memory ran out"):
        await recipe.create()


async def test_an_engine_that_hangs_is_told_within_its_deadline(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: list[asyncio.Task[None] | None] = []

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(asyncio.current_task())
        await reader.read()
        writer.close()

    address = tmp_path / "docker.sock"
    defaults = Engine.connect.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "deadline", 0.5)
    async with await asyncio.start_unix_server(never_answer, address):
        with pytest.raises(EngineError, match=r"did not answer|no Docker Engine answers"):
            await DockerBackend(host=f"unix://{address}").create()
    async with asyncio.timeout(60):
        await asyncio.gather(*filter(None, callers))  # whoever asked has given up, too
    assert callers
