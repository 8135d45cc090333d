"""`Sandbox.processes` and `Sandbox.join`: processes that are found again by their ids."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from paddock.errors import CommandLost, ConfigError, Unsupported
from paddock.process import Pty
from paddock.sandbox import Capability
from paddock.testing.conformance.base import DEADLINE, Conformance, needs

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.process import Process, ProcessInfo
    from paddock.sandbox import Sandbox

ECHO = "echo ready; while read x; do echo got $x; done; echo end >&2; exit 7"
"""Says that it runs, answers lines, and ends with its input."""


def _id_of(process: Process) -> str:
    assert process.id is not None
    return process.id


async def _until(process: Process, text: bytes) -> bytes:
    """Read stdout up to `text`; return all that was read."""
    said = b""
    async with asyncio.timeout(DEADLINE):
        async for stream, data in process.output():
            said += data if stream == "stdout" else b""
            if text in said:
                return said
    raise AssertionError(f"it ended without {text!r}: {said!r}")


async def _listed(sandbox: Sandbox, process: Process) -> ProcessInfo:
    (found,) = [info for info in await sandbox.processes() if info.id == process.id]
    return found


class JoinTests(Conformance):
    async def test_a_backend_that_keeps_no_processes_says_so(self, sandbox: Sandbox) -> None:
        if Capability.PROCESSES in sandbox.capabilities:
            pytest.skip("it keeps them")
        for asked in (sandbox.processes(), sandbox.join("0" * 12)):
            with pytest.raises(Unsupported, match=sandbox.backend):
                await asked
        with pytest.raises(Unsupported, match="detached=True"):
            await sandbox.start("true", detached=True)
        async with await sandbox.start("true") as process:
            assert process.id is None

    @needs(Capability.PROCESSES, "shell")
    async def test_what_runs_is_listed_with_what_was_asked_for(self, sandbox: Sandbox) -> None:
        async with await sandbox.start(["sh", "-c", ECHO]) as process:
            await _until(process, b"ready\n")
            found = await _listed(sandbox, process)
            assert (found.argv, found.exit_code) == (("sh", "-c", ECHO), None)
            assert (found.detached, found.pty, found.background) == (False, False, False)
        assert found.id not in {info.id for info in await sandbox.processes()}

    @needs(Capability.PROCESSES, "shell")
    async def test_a_detached_process_outlives_its_block_and_is_joined_by_its_id(
        self, sandbox: Sandbox
    ) -> None:
        async with await sandbox.start(ECHO, detached=True) as process:
            await _until(process, b"ready\n")
        with pytest.raises(CommandLost, match="join"):
            await process.wait()
        await process.kill()  # which is no longer his to say
        async with await sandbox.join(_id_of(process)) as joined:
            assert await _until(joined, b"\n") == b"ready\n"
            await joined.send(b"one\n")
            await _until(joined, b"got one\n")
        async with await sandbox.join(_id_of(process)) as again:
            assert await _until(again, b"got one\n") == b"ready\ngot one\n"
            await again.send_eof()
            result = await again.wait()
        assert (result.exit_code, result.stderr) == (7, "end\n")
        assert result.stdout == "ready\ngot one\n"

    @needs(Capability.PROCESSES, "shell")
    async def test_what_ended_with_nobody_there_gives_its_result_to_each_who_asks(
        self, sandbox: Sandbox
    ) -> None:
        async with await sandbox.start("read x; echo said $x; exit 5", detached=True) as process:
            await process.send(b"something\n")
        for _ in range(2):
            async with await sandbox.join(_id_of(process)) as joined:
                result = await joined.wait()
                assert (result.exit_code, result.stdout) == (5, "said something\n")
                await joined.kill()
        found = await _listed(sandbox, process)
        assert (found.exit_code, found.detached) == (5, True)

    @needs(Capability.PROCESSES, "shell")
    async def test_who_joins_shares_the_process_with_who_has_started_it(
        self, sandbox: Sandbox
    ) -> None:
        async with await sandbox.start(ECHO) as process:
            await _until(process, b"ready\n")
            async with await sandbox.join(_id_of(process)) as left:
                await left.send(b"one\n")
                await asyncio.gather(_until(left, b"got one\n"), _until(process, b"got one\n"))
            async with await sandbox.join(_id_of(process)) as joined:
                await process.send(b"two\n")
                await _until(joined, b"got two\n")
                await joined.send_eof()
                results = await asyncio.gather(process.wait(), joined.wait())
        assert [result.exit_code for result in results] == [7, 7]
        assert {result.stdout for result in results} == {"ready\ngot one\ngot two\n"}

    @needs(Capability.PROCESSES, "shell")
    async def test_who_joins_can_signal_it_and_end_its_tree(self, sandbox: Sandbox) -> None:
        command = "trap 'echo caught' USR1; setsid sleep 986003 & echo on; while :; do read x; done"
        async with await sandbox.start(command, detached=True) as process:
            await _until(process, b"on\n")
        async with await sandbox.join(_id_of(process)) as joined:
            await joined.signal(signal.SIGUSR1)
            await _until(joined, b"caught\n")
            await joined.kill()
            assert (await joined.wait()).exit_code in (137, 143)
        assert " 986003" not in (await sandbox.exec("pgrep -a sleep")).stdout

    @needs(Capability.PROCESSES, "shell")
    async def test_of_much_output_the_beginning_and_the_end_are_replayed(
        self, sandbox: Sandbox
    ) -> None:
        async with await sandbox.start("seq 400000; exit 3", detached=True) as process:
            assert (await process.wait()).exit_code == 3
        async with await sandbox.join(_id_of(process), max_output=1000) as joined:
            said = b"".join([data async for _, data in joined.output()])
            result = await joined.wait()
        assert said[:6] == b"1\n2\n3\n"
        assert said.endswith(b"\n400000\n")
        assert len(said) == 1000
        assert joined.missed == result.out.dropped
        printed = sum(len(f"{number}\n") for number in range(1, 400001))
        assert result.out.total == joined.missed + 1000 == printed

    @needs(Capability.PROCESSES, "shell")
    async def test_output_goes_on_where_what_was_kept_ends(self, sandbox: Sandbox) -> None:
        """More than a window of it, and the one who joined first reads nothing for a while."""
        command = "seq 300000; echo middle; read x; seq 300000"
        async with await sandbox.start(command, detached=True, max_output=10_000_000) as process:
            await _until(process, b"middle\n")
        async with await sandbox.join(_id_of(process), max_output=10_000_000) as joined:
            await joined.send(b"\n")
            said = b"".join([data async for _, data in joined.output()])
            assert (await joined.wait()).ok
        half = b"".join(b"%d\n" % number for number in range(1, 300001))
        assert len(said) + joined.missed == 2 * len(half) + len(b"middle\n")
        assert said.endswith(b"\nmiddle\n" + half)

    @needs(Capability.PROCESSES, Capability.PTY, "shell")
    async def test_a_terminal_is_joined_and_resized(self, sandbox: Sandbox) -> None:
        command = "echo ready; read x; stty size; read x"
        started = await sandbox.start(command, pty=Pty(rows=30, cols=100), detached=True)
        async with started as process:
            await _until(process, b"ready\r\n")
            assert (await _listed(sandbox, process)).pty
        async with await sandbox.join(_id_of(process)) as joined:
            await joined.resize(40, 120)
            await joined.send(b"\n")
            await _until(joined, b"40 120\r\n")
            await joined.kill()
        async with (
            await sandbox.start(ECHO) as plain,
            await sandbox.join(_id_of(plain)) as joined,
        ):
            with pytest.raises(ConfigError, match="no terminal"):
                await joined.resize(40, 120)

    @needs(Capability.PROCESSES)
    async def test_an_id_that_nobody_has_is_no_process(self, sandbox: Sandbox) -> None:
        for unknown in ("0" * 12, "nobody", "", "../x", "x" * 100_000):
            with pytest.raises(ProcessLookupError):
                await sandbox.join(unknown)
        for wrong in (None, 7, b"0"):
            with pytest.raises(ConfigError, match="process_id"):
                await sandbox.join(wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="max_output"):
            await sandbox.join("0" * 12, max_output=-1)

    @needs(Capability.PROCESSES, "shell")
    async def test_who_attaches_to_a_sandbox_joins_what_its_maker_started(
        self, backend: Backend, own_sandbox: Sandbox
    ) -> None:
        async with await own_sandbox.start(ECHO) as process:
            await _until(process, b"ready\n")
            try:
                other = await backend.attach(own_sandbox.id)
            except Unsupported as error:
                pytest.skip(str(error))
            try:
                assert (await _listed(other, process)).exit_code is None
                async with await other.join(_id_of(process)) as joined:
                    await joined.send(b"one\n")
                    assert await _until(joined, b"got one\n") == b"ready\ngot one\n"
                kept = await other.start(ECHO, detached=True)
                await _until(kept, b"ready\n")
            finally:
                await other.detach()
            await process.send_eof()
            assert (await process.wait()).stdout == "ready\ngot one\n"
            async with await own_sandbox.join(_id_of(kept)) as joined:
                await joined.send_eof()
                assert (await joined.wait()).exit_code == 7
