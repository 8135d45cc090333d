"""The process that local sandboxes are forks of: nothing passes through or outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import LocalBackend, SandboxLost
from paddock.backends.guest import precompiled
from paddock.backends.guest.inside import landlock
from paddock.backends.isolation import bubblewrap
from tests.e2e.processes import (
    descendants,
    parent_of,
    processes_with,
    wait_until_gone,
    wait_until_there,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock import Sandbox
    from paddock.backends.isolation.levels import Isolation
    from tests.conftest import Require


@pytest.fixture(params=["bubblewrap", "landlock", "none"])
def level(request: pytest.FixtureRequest, require: Require) -> Isolation:
    if request.param == "landlock":
        require("landlock", landlock.abi(), "this kernel has none")
    elif request.param == "bubblewrap":
        require("bubblewrap", bubblewrap.program(), "it is not installed")
        require("root", os.getuid() == 0, "an ordinary user's bubblewrap is started directly")
    chosen: Isolation = request.param
    return chosen


def _server(sandbox: Sandbox) -> int:
    server = parent_of(sandbox._process.pid)  # type: ignore[attr-defined]
    assert server != os.getpid(), "not a fork"
    return server


def _sockets(pid: int) -> Iterator[str]:
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        target = str(fd.readlink())
        if target.startswith(("socket:", "pipe:", "anon_inode:[pidfd]", "/memfd:")):
            yield target


async def test_no_sandbox_has_a_descriptor_of_the_server_or_of_another(level: Isolation) -> None:
    async with (
        LocalBackend(isolation=level).sandbox() as one,
        LocalBackend(isolation=level).sandbox() as other,
    ):
        sandboxes = [{s._process.pid} | descendants(s._process.pid) for s in (one, other)]  # type: ignore[attr-defined]
        held = [{each for pid in pids for each in _sockets(pid)} for pids in sandboxes]
        server = set(_sockets(_server(one)))
        assert server
        assert not held[0] & held[1]
        assert not (held[0] | held[1]) & server


async def test_each_sandbox_has_the_etc_that_it_is_to_have(require: Require) -> None:
    require("bubblewrap", bubblewrap.program(), "it is not installed")
    look = "cat /etc/hosts; ls /etc/resolv.conf; touch /etc/x || mount | grep ' /etc '"
    told: dict[str, set[str]] = {"none": set(), "full": set()}
    for network in ("none", "none", "full", "full", "none", "full", "none"):
        backend = LocalBackend(isolation="bubblewrap", network=network)
        async with backend.sandbox() as sandbox:
            told[network].add((await sandbox.exec(look)).stdout)
    assert [len(answers) for answers in told.values()] == [1, 1], told
    assert "resolv.conf" in told["full"].pop()
    hidden = told["none"].pop()
    assert "resolv.conf" not in hidden
    assert "(ro," in hidden


async def test_what_killed_the_server_ends_its_sandboxes_and_no_later_one(
    level: Isolation,
) -> None:
    async with LocalBackend(isolation=level).sandbox() as sandbox:
        running = asyncio.create_task(sandbox.exec("sleep 984301"))
        while not processes_with("sleep 984301"):
            await sandbox.exec("true")
        os.kill(_server(sandbox), signal.SIGKILL)
        with pytest.raises(SandboxLost):
            await running
        await asyncio.to_thread(wait_until_gone, "sleep 984301")
    async with LocalBackend(isolation=level).sandbox() as later:
        assert (await later.exec("echo on")).stdout == "on\n"


HOST = """
import asyncio, os, sys, time
from paddock import LocalBackend
async def main():
    sandbox = await LocalBackend(isolation=sys.argv[1]).create()
    child = os.fork()  # it inherits what this process has open
    if not child:
        time.sleep(600)
    print(child, flush=True)
    await sandbox.exec(["sleep", "984303"])
asyncio.run(main())
"""
SLEEPER = "sleep\0984303"


async def test_a_killed_host_leaves_no_sandbox_though_a_child_of_it_lives(
    level: Isolation,
) -> None:
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, level, stdout=asyncio.subprocess.PIPE
    )
    assert host.stdout is not None
    child = int(await host.stdout.readline())
    try:
        await asyncio.to_thread(wait_until_there, SLEEPER)
        host.kill()
        await asyncio.to_thread(wait_until_gone, SLEEPER)
    finally:
        os.kill(child, signal.SIGKILL)
        await host.communicate()


async def test_the_second_sandbox_costs_no_compilation_and_no_start_of_python(
    level: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LocalBackend(isolation=level).sandbox() as first:
        server = _server(first)

    def refused(*args: object, **options: object) -> None:
        raise AssertionError(f"called again with {args}")

    monkeypatch.setattr(precompiled, "packed", refused)
    monkeypatch.setattr(os, "posix_spawn", refused)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    async with LocalBackend(isolation=level).sandbox() as second:
        assert _server(second) == server
        assert (await second.exec("echo on")).stdout == "on\n"


async def test_a_command_without_isolation_has_the_umask_that_this_process_has_now() -> None:
    for umask in (0o077, 0o002):
        before = os.umask(umask)
        try:
            async with LocalBackend(isolation="none").sandbox() as sandbox:
                assert (await sandbox.exec("umask")).stdout == f"{umask:04o}\n"
        finally:
            os.umask(before)


CHANGED = """
import asyncio, ctypes
from paddock import LocalBackend
PR_SET_NO_NEW_PRIVS = 38
async def main():
    for _ in range(2):
        async with LocalBackend(isolation="none").sandbox() as sandbox:
            print((await sandbox.exec("grep NoNewPrivs /proc/self/status")).stdout)
        assert ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
asyncio.run(main())
"""


async def test_a_process_that_gave_up_its_rights_gives_them_to_no_sandbox() -> None:
    told = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHANGED, stdout=asyncio.subprocess.PIPE
    )
    assert (await told.communicate())[0].split()[1::2] == [b"0", b"1"]
