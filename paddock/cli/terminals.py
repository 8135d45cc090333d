"""This process's own terminal, lent to a program in a sandbox: raw mode, size, keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import termios
import tty
from typing import TYPE_CHECKING

import typer

from paddock.cli.pipes import write_output
from paddock.errors import PaddockError
from paddock.process import Pty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from paddock.redaction import Redactor
    from paddock.sandbox import Process

__all__ = ["converse", "own_terminal"]

READ_BYTES = 64 * 1024
"""Bytes read at once: what somebody pastes."""
KEYS_WAITING = 64
"""Reads that wait for the sandbox; more stay in the terminal."""
GUARD = "trap '' HUP INT TERM TTOU; read -r line || stty \"$1\" <&3"
"""Outlives this process, and gives the terminal back if it was killed: then nothing is read."""
GUARD_TIMEOUT = 5.0
"""Seconds for the guard to end, which only has to read one line."""
RESET = b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[0m\r\n"
"""Takes back what a program that was cut off may have set: its own screen, mouse, paste, colour."""


def own_terminal() -> Pty:
    """A terminal like ours. Raise `BadParameter` if stdin or stdout is not one."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        raise typer.BadParameter("it needs a terminal on stdin and stdout", param_hint="--tty")
    rows, cols = _size()
    return Pty(rows=rows, cols=cols, term=os.environ.get("TERM") or "xterm-256color")


def _size() -> tuple[int, int]:
    cols, rows = os.get_terminal_size(sys.stdout.fileno())
    return rows or 24, cols or 80  # some terminals do not know their size


async def converse(process: Process, redactor: Redactor, *, interactive: bool) -> int:
    """Pass keys and screen on until the process has ended; return its exit code.

    The terminal is as it was afterwards, also when this process is killed.
    """
    with _raw():
        async with _typing(process, interactive=interactive), _resizing(process):
            try:
                return await _show(process, redactor)
            except BaseException:
                await write_output("stdout", RESET)
                raise


async def _show(process: Process, redactor: Redactor) -> int:
    held = redactor.stream()
    async for _, data in process.output():
        if told := held.feed(data):
            await write_output("stdout", told)
    await write_output("stdout", held.close())
    return (await process.wait()).exit_code


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Pass every key on as it is typed, and what was typed before.

    A guard process restores the terminal if we cannot.
    """
    before = termios.tcgetattr(0)
    saved = subprocess.run(["stty", "-g"], stdin=0, capture_output=True, text=True, check=True)
    terminal = os.dup(0)
    guard = subprocess.Popen(
        ["sh", "-c", f"exec 3<&{terminal}; {GUARD}", "sh", saved.stdout.strip()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(terminal,),
    )
    os.close(terminal)
    try:
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        with contextlib.suppress(BrokenPipeError):
            guard.communicate(b"\n", timeout=GUARD_TIMEOUT)


@contextlib.asynccontextmanager
async def _typing(process: Process, *, interactive: bool) -> AsyncIterator[None]:
    """Send what is typed, as fast as the process takes it."""
    if not interactive:
        yield
        return
    loop = asyncio.get_running_loop()
    keys: asyncio.Queue[bytes] = asyncio.Queue()

    def on_key() -> None:
        try:
            data = os.read(0, READ_BYTES)
        except OSError:
            data = b""  # the terminal has gone
        keys.put_nowait(data)
        if not data or keys.qsize() >= KEYS_WAITING:
            loop.remove_reader(0)

    async def send() -> None:
        while data := await keys.get():
            with contextlib.suppress(BrokenPipeError, PaddockError):  # `output` reports the end
                await process.send(data)
            if keys.empty():
                loop.add_reader(0, on_key)
        await process.kill()

    loop.add_reader(0, on_key)
    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        loop.remove_reader(0)
        sending.cancel()
        await asyncio.wait([sending])


@contextlib.asynccontextmanager
async def _resizing(process: Process) -> AsyncIterator[None]:
    """Let the process's terminal have the size of ours."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def on_continued() -> None:
        """We were stopped, and the shell has had the terminal meanwhile."""
        tty.setraw(0, termios.TCSADRAIN)
        changed.set()

    async def resize() -> None:
        while True:
            await changed.wait()
            changed.clear()
            with contextlib.suppress(PaddockError, OSError):  # it has just ended
                await process.resize(*_size())

    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    loop.add_signal_handler(signal.SIGCONT, on_continued)
    resizing = asyncio.create_task(resize())
    try:
        yield
    finally:
        for number in (signal.SIGWINCH, signal.SIGCONT):
            loop.remove_signal_handler(number)
        resizing.cancel()
        await asyncio.wait([resizing])
