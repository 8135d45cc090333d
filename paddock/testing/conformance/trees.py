"""Whole trees of processes: what ends them, and what leaves them alone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ExecTimeout, Unsupported
from paddock.sandbox import Capability, Resources
from paddock.testing.conformance.base import DEADLINE, Conformance, needs, vary
from paddock.testing.conformance.watch import MARK, alive

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox, Stream

TREE = """
sleep 987001 &
setsid sleep 987002 &
python3 -c 'import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "987003"])
    os._exit(0)
os.wait()'
(trap "" TERM INT HUP; sleep 987004; sleep 987005) &
env -i setsid sh -c 'sleep 987006 & sleep 987007' &
echo ready
""".replace("98700", MARK)


class TreeTests(Conformance):
    async def test_a_timeout_ends_what_runs_in_the_background_too(self, sandbox: Sandbox) -> None:
        with pytest.raises(ExecTimeout):
            await sandbox.exec(f"sleep {MARK}1 & sleep {MARK}2", timeout=0.3)
        assert await alive(sandbox) == []

    async def test_a_cancelled_command_has_ended(self, sandbox: Sandbox) -> None:
        started = asyncio.Event()
        task = asyncio.create_task(
            sandbox.exec(f"echo on; exec sleep {MARK}1", on_output=lambda *_: started.set())
        )
        async with asyncio.timeout(DEADLINE):
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await alive(sandbox) == []

    @needs("shell")
    async def test_a_timeout_kills_the_whole_tree_before_it_is_told(self, sandbox: Sandbox) -> None:
        started = time.monotonic()
        with pytest.raises(ExecTimeout) as caught:
            await sandbox.exec(TREE + f"sleep {MARK}0", timeout=1)
        overshoot = time.monotonic() - started - 1
        assert caught.value.result.stdout == "ready\n"
        assert await alive(sandbox) == []
        assert overshoot < 20

    @needs("shell")
    async def test_a_cancellation_kills_the_whole_tree_before_it_arrives(
        self, sandbox: Sandbox
    ) -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(
            sandbox.exec(TREE + f"sleep {MARK}0", on_output=lambda *_: ready.set())
        )
        async with asyncio.timeout(60):
            await ready.wait()
            while len(await alive(sandbox)) < 7:
                pass  # the last of them are still being started
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await alive(sandbox) == []

    @needs("shell")
    async def test_a_command_that_ignores_sigterm_dies(self, sandbox: Sandbox) -> None:
        with pytest.raises(ExecTimeout):
            await sandbox.exec(
                f"trap '' TERM INT HUP; while :; do sleep {MARK}0; done", timeout=0.5
            )
        assert await alive(sandbox) == []

    @needs("shell")
    async def test_a_command_may_clean_up_after_sigterm(self, sandbox: Sandbox) -> None:
        with pytest.raises(ExecTimeout) as caught:
            await sandbox.exec(
                f"trap 'echo cleaned; exit' TERM; echo on; sleep {MARK}0", timeout=0.5
            )
        assert caught.value.result.stdout == "on\ncleaned\n"

    async def test_a_background_child_does_not_hold_the_call_and_lives_on(
        self, own_sandbox: Sandbox
    ) -> None:
        held, free = [], []
        for _ in range(3):
            async with asyncio.timeout(60):
                result = await own_sandbox.exec(f"sleep {MARK}0 & echo started")
            assert result.stdout == "started\n"
            assert result.background
            held.append(result.duration)
            free.append((await own_sandbox.exec("echo started")).duration)
        assert len(await alive(own_sandbox)) == 3
        assert min(held) - min(free) < 2

    async def test_a_background_child_that_keeps_printing_neither_blocks_nor_dies(
        self,
        own_sandbox: Sandbox,
    ) -> None:
        async with asyncio.timeout(60):
            result = await own_sandbox.exec("yes & echo $!")
        pid = result.stdout.split()[0] if result.stdout.split()[0] != "y" else None
        assert result.background
        if pid is not None:
            assert (await own_sandbox.exec(["kill", "-0", pid])).ok

    @needs("shell")
    async def test_many_commands_run_at_once(self, sandbox: Sandbox) -> None:
        here = 0
        all_here = asyncio.Event()

        def count(stream: Stream, data: bytes) -> None:
            nonlocal here
            here += data.count(b"here")
            if here == 40:
                all_here.set()

        await sandbox.exec("mkfifo gate", check=True)
        # Each reads one of the lines that are written when all of them wait.
        holder = "exec 3<>gate; read x; yes '' | head -n 40 >&3; read x"
        async with await sandbox.start(holder) as gate, asyncio.timeout(60):
            commands = [
                asyncio.create_task(
                    sandbox.exec(f"echo here; read x <gate; echo {n}", on_output=count)
                )
                for n in range(40)
            ]
            await all_here.wait()
            await gate.send(b"\n")
            results = await asyncio.gather(*commands)
        assert [result.stdout for result in results] == [f"here\n{n}\n" for n in range(40)]

    async def test_a_fork_bomb_ends_and_the_sandbox_goes_on(
        self, backend: Backend, sandbox: Sandbox
    ) -> None:
        recipe = vary(backend, resources=Resources(pids=64))
        if Capability.LIMIT_PIDS not in sandbox.capabilities:  # where it would end this machine
            with pytest.raises(Unsupported, match="processes"):
                await recipe.create()
            return
        bomb = "import os\nwhile True:\n try: os.fork()\n except OSError: pass"
        async with recipe.sandbox() as bombed:
            with pytest.raises(ExecTimeout):
                await bombed.exec(["python3", "-c", bomb], timeout=1)
            assert (await bombed.exec("echo fine", timeout=60)).stdout == "fine\n"
