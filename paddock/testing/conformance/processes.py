"""`Sandbox.start`: a command one talks to."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance.base import Conformance, needs

if TYPE_CHECKING:
    from paddock.sandbox import Process, Sandbox


async def _line(process: Process) -> bytes:
    """The next piece of stdout."""
    async for stream, data in process.output():
        if stream == "stdout":
            return data
    return b""


class ProcessTests(Conformance):
    @needs("shell")
    async def test_talk_to_a_process_and_wait_for_its_end(self, sandbox: Sandbox) -> None:
        async with await sandbox.start("while read x; do echo got $x; done; exit 7") as process:
            await process.send(b"one\n")
            assert await _line(process) == b"got one\n"
            await process.send(b"two\n")
            assert await _line(process) == b"got two\n"
            await process.send_eof()
            result = await process.wait()
        assert result.exit_code == 7
        assert result.stdout == "got one\ngot two\n"

    async def test_wait_drains_unread_output(self, sandbox: Sandbox) -> None:
        async with await sandbox.start("seq 500000") as process:
            result = await process.wait()
        assert result.ok
        assert result.stdout.endswith("\n500000\n")

    @pytest.mark.parametrize("kept", [False, True], ids=["dropped", "kept"])
    async def test_who_stops_reading_and_waits_does_not_hold_up_the_command(
        self, sandbox: Sandbox, kept: bool
    ) -> None:
        """As a caller waits for a server's "ready" line; also with the iterator at hand."""
        command = "echo ready; head -c 5000000 /dev/zero; echo end >&2"
        async with await sandbox.start(command) as process:
            output = process.output()
            async for _, data in output:
                if b"ready" in data:
                    break
            if not kept:
                del output
            async with asyncio.timeout(60):
                result = await process.wait()
        assert (result.exit_code, result.stderr) == (0, "end\n")

    async def test_a_slow_reader_in_another_task_gets_everything(self, sandbox: Sandbox) -> None:
        async with await sandbox.start("head -c 3000000 /dev/zero") as process:

            async def count() -> int:
                size = 0
                async for _, data in process.output():
                    size += len(data)
                    await asyncio.sleep(0)
                return size

            counting = asyncio.create_task(count())
            await asyncio.sleep(0)
            assert (await asyncio.wait_for(process.wait(), 60)).ok
            assert await asyncio.wait_for(counting, 60) == 3000000

    async def test_output_stops_at_the_end_and_wait_is_repeatable(self, sandbox: Sandbox) -> None:
        async with await sandbox.start("echo a; echo b >&2") as process:
            pieces = [piece async for piece in process.output()]
            assert await process.wait() == await process.wait()
        assert sorted(pieces) == [("stderr", b"b\n"), ("stdout", b"a\n")]

    @needs("shell")
    async def test_a_signal_reaches_the_leading_process(self, sandbox: Sandbox) -> None:
        async with await sandbox.start("trap 'echo caught; exit 5' USR1; echo on; cat") as process:
            assert await _line(process) == b"on\n"
            await process.signal(signal.SIGUSR1)
            await process.send_eof()
            result = await process.wait()
        assert result.exit_code == 5
        assert result.stdout == "on\ncaught\n"

    async def test_leaving_the_block_ends_the_tree_and_what_it_left_behind(
        self, sandbox: Sandbox
    ) -> None:
        async with await sandbox.start("setsid sleep 986001 & echo on; sleep 986000") as process:
            await _line(process)
        assert (await process.wait()).exit_code == 143
        async with await sandbox.start("setsid sleep 986002 & true") as process:
            assert (await process.wait()).background
        found = await sandbox.exec("pgrep -a sleep")
        assert " 9860" not in found.stdout

    async def test_kill_is_idempotent_and_fine_after_the_end(self, sandbox: Sandbox) -> None:
        async with await sandbox.start("exec sleep 986000") as process:
            await asyncio.gather(process.kill(), process.kill(grace=0))
            assert (await process.wait()).exit_code in (137, 143)
            await process.kill()
        async with await sandbox.start("true") as process:
            await process.wait()
            await process.kill()
            await process.signal(signal.SIGTERM)

    @needs("shell")
    async def test_stdin_of_a_command_that_has_ended_is_a_broken_pipe(
        self, sandbox: Sandbox
    ) -> None:
        async with await sandbox.start("exec 0<&-; echo closed; sleep 986000") as process:
            assert await _line(process) == b"closed\n"
            with pytest.raises(BrokenPipeError):
                async with asyncio.timeout(60):
                    while True:
                        await process.send(b"x" * 65536)

    async def test_a_reader_that_stops_stops_the_command(self, sandbox: Sandbox) -> None:
        async with await sandbox.start("yes | head -c 10000000; echo done >&2") as process:
            reading = process.output()
            await anext(reading)
            # The output is not read, so the command cannot end, however long it is given.
            await asyncio.sleep(0.5)
            assert (await sandbox.exec("pgrep -f 'head -c 1000000[0]'")).ok
            total = 0
            async for _, data in reading:
                total += len(data)
            assert (await process.wait()).out.total == 10_000_000
