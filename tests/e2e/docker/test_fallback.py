"""Images without Python: how they are found out, and what only they have.

The contract's own tests run over one of them too; here are others: one of nothing but
busybox, one whose Python lacks a module, one in which nothing can be written but memory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.guests import start_guest
from paddock.backends.docker.engine.client import Engine
from paddock.backends.docker.fallback import launch
from paddock.backends.docker.fallback.sandbox import FallbackSandbox
from paddock.backends.docker.images.build import ensure
from paddock.backends.guest.inside.folders import remove_tree
from paddock.errors import ConfigError, ExecTimeout, SandboxClosed, SandboxLost, Unsupported
from paddock.image import Image
from paddock.network import Allow
from paddock.sandbox import Capability
from tests.e2e.docker.ours import forks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.sandbox import Sandbox
    from tests.conftest import Require

BASE = Image.from_registry("paddock:base")
HIDDEN = BASE.run_commands("mkdir -p /opt/python/bin && mv /usr/bin/python3* /opt/python/bin")
BUSYBOX = "paddock-test:busybox"
SHELL = "paddock-test:no-shell"


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these sandboxes leave behind on this machine is told apart from everybody else's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


async def _recipe(image: Image) -> DockerBackend:
    return DockerBackend(image=await ensure(await Engine.connect(), image), network="none")


@pytest.fixture
async def recipe(base_image: str) -> DockerBackend:
    """One without a Python where an engine looks for it."""
    return await _recipe(HIDDEN)


@pytest.fixture
async def busybox(docker_engine: Engine, require: Require) -> AsyncIterator[Sandbox]:
    """A sandbox of nothing but one program."""
    program = shutil.which("busybox")
    require("busybox", program, "it is the only program of an image")
    assert program is not None
    await _import(docker_engine, BUSYBOX, _busybox_root(program))
    async with DockerBackend(image=BUSYBOX, network="none").sandbox() as sandbox:
        yield sandbox


def _busybox_root(program: str) -> bytes:
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    root = io.BytesIO()
    with tarfile.open(fileobj=root, mode="w") as archive:
        archive.add(os.path.realpath(program), "bin/busybox")
        for name in set(applets.stdout.split()) - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return root.getvalue()


async def _import(engine: Engine, image: str, root: bytes) -> None:
    name, tag = image.split(":")
    await engine.call(
        "importing", engine.client.import_image_from_data, root, repository=name, tag=tag
    )


# ------------------------------------------------------------------------- finding out


async def test_an_image_is_tried_with_a_guest_once(
    recipe: DockerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_without_python", {})
    tried = []
    start = start_guest

    async def counting(*args: object) -> object:
        tried.append(args)
        return await start(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(launch, "start_guest", counting)
    for _ in range(2):
        async with recipe.sandbox() as sandbox:
            assert isinstance(sandbox, FallbackSandbox)
    assert len(tried) == 1


BROKEN = {
    "modules": "rm -r /usr/lib/python3*/json",
    "library": "rm /lib/*/libexpat.so.1",
    "program": "head -c 5000 /usr/bin/python3.11 > /python3",
    "script": r"printf '#!/bin/sh\necho no version >&2; exit 1\n' > /python3",
}
REPLACE = "[ ! -e /python3 ] || { chmod 755 /python3; mv /python3 /usr/bin/; }"


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_python_that_cannot_start_is_none(base_image: str, broken: str) -> None:
    recipe = await _recipe(BASE.run_commands(f"{BROKEN[broken]}; {REPLACE}"))
    async with recipe.sandbox() as sandbox:
        assert isinstance(sandbox, FallbackSandbox)
        assert (await sandbox.exec("echo 1")).stdout == "1\n"


async def test_what_takes_a_guest_is_refused_and_leaves_nothing(recipe: DockerBackend) -> None:
    labels = {"test": "refused"}
    for wish in ({"network": Allow(hosts=["example.org"])}, {"lease": None}):
        asking = dataclasses.replace(recipe, labels=labels, **wish)
        with pytest.raises(Unsupported, match="without Python; use an image that has Python"):
            await asking.create()
        assert await recipe.list(labels) == []
    async with recipe.sandbox() as sandbox:
        with pytest.raises(Unsupported):
            await sandbox.url(80)


async def test_an_image_without_a_shell_is_refused(docker_engine: Engine) -> None:
    nothing = io.BytesIO()
    with tarfile.open(fileobj=nothing, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    await _import(docker_engine, SHELL, nothing.getvalue())
    with pytest.raises(Unsupported, match="neither Python nor a shell"):
        await DockerBackend(image=SHELL, network="none").create()


# ------------------------------------------------------------------------- what it can


async def test_one_program_is_enough_for_commands_and_files(
    busybox: Sandbox, tmp_path: Path
) -> None:
    fs = busybox.fs
    result = await busybox.exec("echo out; echo err >&2; exit 3", cwd="/")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    await fs.write_bytes("a/\udcff\n", b"one\r\ntwo")
    assert await fs.read_bytes("a/\udcff\n", offset=2, limit=3) == b"e\r\n"
    assert (await fs.read_lines("a/\udcff\n")).lines == ("one", "two")
    assert [entry.size for entry in await fs.list("a")] == [8]
    assert (await fs.glob("a/*")).paths == (busybox.path("a/\udcff\n"),)
    assert [line.line for line in (await fs.grep("tw.$")).lines] == [2]
    with pytest.raises(FileExistsError):
        await fs.write_bytes("a/\udcff\n", b"", exclusive=True)
    with pytest.raises(NotADirectoryError):
        await fs.stat("/etc/hosts/x")
    (tmp_path / "up" / "b").mkdir(parents=True)
    (tmp_path / "up" / "b" / ("n" * 200)).write_text("long")
    (tmp_path / "up" / "link").symlink_to("b")
    await fs.upload(tmp_path / "up", "a")
    await fs.download("a", tmp_path / "down")
    assert (tmp_path / "down" / "link" / ("n" * 200)).read_text() == "long"
    assert (tmp_path / "down" / "\udcff\n").read_bytes() == b"one\r\ntwo"


DEEP = "mkdir deep; cd deep; echo x > f; for i in $(seq 1500); do mkdir ddd; cd -P ./ddd; done"


async def test_paths_that_are_too_long_for_its_tools_are_left_out_and_removed(
    busybox: Sandbox, tmp_path: Path
) -> None:
    await busybox.exec(DEEP, check=True)
    await busybox.exec("ln deep/f deep/hard; mkfifo deep/pipe; ln -s /etc deep/out", check=True)
    got = await busybox.fs.download("deep", tmp_path / "deep", ignore=["nothing"])
    assert (tmp_path / "deep" / "hard").read_text() == "x\n"
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["ddd", "f", "hard"]
    reasons = {str(each.path).rpartition("/")[2]: each.reason for each in got.left_out}
    assert set(reasons) == {"ddd", "pipe", "out"}
    await busybox.fs.remove("deep", recursive=True)
    assert not await busybox.fs.exists("deep")
    remove_tree(str(tmp_path / "deep"))  # too deep for shutil


async def test_a_tree_dies_in_it_too(busybox: Sandbox) -> None:
    tree = "trap '' TERM; setsid sleep 984001 & env -i setsid sleep 984002 & (sleep 984003 &); "
    with pytest.raises(ExecTimeout):
        await busybox.exec(tree + "sleep 984000; sleep 984004", timeout=0.5)
    assert "98400" not in (await busybox.exec("ps | grep 98400[0-9]")).stdout


async def test_with_a_read_only_root_files_are_those_that_commands_see(
    recipe: DockerBackend,
) -> None:
    strict = dataclasses.replace(recipe, hardening="strict")
    async with strict.sandbox() as sandbox:
        await sandbox.exec("mkdir d; echo in memory > d/f", check=True)
        assert await sandbox.fs.read_text("d/f") == "in memory\n"
        await sandbox.fs.write_text("d/f", "written")
        assert (await sandbox.exec("cat d/f; id -u")).stdout == "written65534\n"
        with pytest.raises(OSError, match="Read-only"):
            await sandbox.fs.write_text("/etc/x", "")
        assert Capability.USER not in sandbox.capabilities


async def test_a_command_runs_as_another_user_and_dies_as_one(recipe: DockerBackend) -> None:
    async with recipe.sandbox() as sandbox:
        assert (await sandbox.exec("id -un", user="nobody")).stdout == "nobody\n"
        with pytest.raises(ConfigError, match="user='nosuch'"):
            await sandbox.exec("id", user="nosuch")
        with pytest.raises(ExecTimeout):
            await sandbox.exec("setsid sleep 984010 & sleep 984011", user="nobody", timeout=0.5)
        assert not (await sandbox.exec("pgrep -f 'sleep 98401[0-9]'")).ok


async def test_a_background_child_goes_on_when_the_engine_has_stopped_reading(
    recipe: DockerBackend,
) -> None:
    """An engine reads on for two seconds after what it has started, and no longer."""
    async with recipe.sandbox() as sandbox:
        started = await sandbox.exec("(while :; do echo line; echo >>count; done) & :")
        assert started.background
        await asyncio.sleep(3)
        before = (await sandbox.fs.stat("count")).size
        await sandbox.exec("sleep 0.5")
        assert (await sandbox.fs.stat("count")).size > before


async def test_orphans_are_reaped(recipe: DockerBackend) -> None:
    async with recipe.sandbox() as sandbox:
        await sandbox.exec("for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.1 &); done; sleep 0.5")
        states = await sandbox.exec("grep -h State: /proc/[0-9]*/status")
        assert "zombie" not in states.stdout


async def test_a_pattern_that_takes_for_ever_holds_up_nobody(recipe: DockerBackend) -> None:
    async with recipe.sandbox() as sandbox:
        await sandbox.fs.write_text("trap", "a" * 64 + "b\n")
        searching = asyncio.create_task(sandbox.fs.grep("(a|a)+$"))
        for _ in range(10):
            assert (await sandbox.exec("true")).ok
        assert not searching.done()
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching


# ------------------------------------------------------------------------- how it ends


async def test_it_ends_when_its_owner_is_silent(recipe: DockerBackend) -> None:
    async with dataclasses.replace(recipe, lease=1).sandbox() as sandbox:
        assert isinstance(sandbox, FallbackSandbox)
        sandbox._monitor._heartbeat.stop()
        async with asyncio.timeout(60):
            with pytest.raises(SandboxLost, match=r"ended \(exit 0\)"):
                await sandbox.exec("sleep 100")


OWNER = """
import asyncio, sys
from paddock import DockerBackend

async def main():
    sandbox = await DockerBackend(image=sys.argv[1], network="none").create()
    print(sandbox.id, flush=True)
    await sandbox.exec("setsid sleep 1000 & sleep 1000")

asyncio.run(main())
"""


async def test_it_ends_with_its_owner(recipe: DockerBackend, docker_engine: Engine) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(recipe.image)), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    async with asyncio.timeout(60):
        name = (await owner.stdout.readline()).decode().strip()
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
        while await _exists(docker_engine, name):  # noqa: ASYNC110 - the engine is asked
            await asyncio.sleep(0.1)


async def _exists(engine: Engine, name: str) -> bool:
    found = await engine.call(
        "looking for it", engine.client.containers, all=True, filters={"name": name}
    )
    return bool(found)


@pytest.mark.usefixtures("control_groups")
async def test_the_engine_keeps_forks_pauses_and_measures_it(
    recipe: DockerBackend, docker_engine: Engine
) -> None:
    async with dataclasses.replace(recipe, lease=2).sandbox() as sandbox:
        await sandbox.fs.write_text("kept", "yes")
        (fork,) = await sandbox.fork()
        async with fork:
            assert isinstance(fork, FallbackSandbox)
            assert await fork.fs.read_text("kept") == "yes"
        await sandbox.pause()
        running = asyncio.create_task(sandbox.exec("echo on"))
        done, _ = await asyncio.wait([running], timeout=3)  # longer than the lease
        assert not done
        await sandbox.resume()
        assert (await running).stdout == "on\n"
        assert (await sandbox.stats()).memory_limit == 4 * 1024**3
        image = await sandbox.snapshot("paddock-test:kept")
    async with dataclasses.replace(recipe, image=image).sandbox() as again:
        assert await again.fs.read_text("kept") == "yes"
    assert await forks(docker_engine) == []


@pytest.mark.usefixtures("control_groups")
async def test_a_call_that_waits_for_a_paused_sandbox_ends_with_it(recipe: DockerBackend) -> None:
    async with recipe.sandbox() as sandbox:
        await sandbox.pause()
        running = asyncio.create_task(sandbox.exec("echo never"))
        await asyncio.sleep(0)
    with pytest.raises(SandboxClosed):
        await running
