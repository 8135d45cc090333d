"""`Sandbox.start(pty=...)`: a command on a terminal of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from paddock.process import Pty
from paddock.sandbox import Capability
from paddock.testing.conformance.base import DEADLINE, Conformance, needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from paddock.sandbox import Process, Sandbox


@contextlib.asynccontextmanager
async def _shown(process: Process) -> AsyncIterator[Callable[[str], asyncio.Future[None]]]:
    """Give what waits until the terminal has shown a text; ends the process with the block."""
    shown = ""
    pieces = process.output()

    async def until(text: str) -> None:
        nonlocal shown
        async with asyncio.timeout(DEADLINE):
            while text not in shown:
                stream, data = await anext(pieces)
                assert stream == "stdout"
                shown += data.decode(errors="replace").replace("\r\n", "\n")
        shown = shown.partition(text)[2]

    async with process:
        yield lambda text: asyncio.ensure_future(until(text))


@needs(Capability.PTY, "shell")
class TerminalTests(Conformance):
    async def test_a_terminal_has_its_size_and_can_be_resized(self, sandbox: Sandbox) -> None:
        command = "stty size; trap 'stty size; exit 3' WINCH; echo on; while :; do read x; done"
        process = await sandbox.start(command, pty=Pty(rows=30, cols=100))
        async with _shown(process) as until:
            await until("30 100\non\n")
            await process.resize(40, 120)
            await until("40 120\n")
            assert (await process.wait()).exit_code == 3
            await process.resize(10, 10)  # which is too late, and does no harm

    async def test_all_three_streams_are_the_terminal(self, sandbox: Sandbox) -> None:
        command = "test -t 0 && test -t 1 && test -t 2 && echo $TERM; echo error >&2"
        process = await sandbox.start(command, pty=Pty(term="vt100"))
        async with process:
            result = await process.wait()
        assert (result.exit_code, result.stdout, result.stderr) == (0, "vt100\r\nerror\r\n", "")

    async def test_a_signal_reaches_the_foreground_and_not_the_shell_behind_it(
        self, sandbox: Sandbox
    ) -> None:
        process = await sandbox.start("PS1='ready> ' ENV= exec sh -i", pty=Pty())
        async with _shown(process) as until:
            await until("ready> ")
            await process.send(b"sh -c 'echo up; exec sleep 986300'\r")
            await until("\nup\n")
            await process.signal(signal.SIGINT)
            await until("ready> ")
            await process.send(b"echo ali''ve; exit 5\r")
            await until("alive\n")
            assert (await process.wait()).exit_code == 5

    async def test_the_end_of_a_file_is_typed_and_more_may_follow(self, sandbox: Sandbox) -> None:
        process = await sandbox.start("cat; echo; echo between; cat; exit 4", pty=Pty())
        async with _shown(process) as until:
            await process.send(b"a whole line\r")
            await process.send_eof()
            await until("between\n")
            await process.send(b"half")
            await process.send_eof()
            assert (await process.wait()).exit_code == 4

    async def test_leaving_ends_an_interactive_shell_and_what_it_started(
        self, sandbox: Sandbox
    ) -> None:
        process = await sandbox.start("PS1='ready> ' ENV= exec sh -i", pty=Pty())
        async with _shown(process) as until:
            await until("ready> ")
            await process.send(b"sleep 986301 & sleep 986302 & echo be''gun\r")
            await until("begun\n")
        assert not (await sandbox.exec("pgrep -f 'slee[p] 98630'")).ok
