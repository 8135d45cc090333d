"""Sessions: one shell that lives on, and runs the commands that it is given in turn.

Each command is a file that the shell sources, with FIFOs as its streams; so ``cd`` and
variables stay, and ``exit``, ``set -e`` or ``exec`` end the shell. As in the daemon nobody then
reports the exit code: a caller that waits for it waits for ever.

Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import uuid
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.testing.daytona.toolbox.journal import STDERR, STDOUT, Journal
from paddock.testing.daytona.toolbox.pipes import Inlet, Outlet
from paddock.testing.daytona.toolbox.replies import DaemonError

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.testing.daytona.toolbox.processes import Command, Processes, Running

__all__ = ["Session", "SessionCommand"]

_READ = os.O_RDONLY | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_NONBLOCK
_HOLD = os.O_RDWR | os.O_NONBLOCK
"""How a FIFO is held open: its other ends can be opened at once and see no end."""


class SessionCommand:
    """A command of a session, queued, running or ended."""

    def __init__(self, text: str, folder: Path, *, takes_input: bool, echoes: bool) -> None:
        self.id = str(uuid.uuid4())
        self.text = text
        self.exit_code: int | None = None
        self.ended = asyncio.Event()
        self.journal = Journal()
        self._folder = folder / self.id
        self._echoes = echoes
        self._takes_input = takes_input
        self._held = contextlib.ExitStack()
        """Our ends of its FIFOs, which are closed when it ends or the shell does."""
        self._outputs = contextlib.AsyncExitStack()
        self._input: int | None = None
        self._labelling: asyncio.Task[None] | None = None

    async def prepare(self, status: Path, acknowledged: Path) -> bytes:
        """Make its files; return what to tell the shell. `discard` undoes it, if cut too."""
        self._folder.mkdir()
        script = self._folder / "command"
        script.write_text(self.text)
        stdin = self._make("stdin") if self._takes_input else os.devnull
        stdout, stderr = self._make("stdout"), self._make("stderr")
        if self._takes_input:
            self._hold(stdin, _HOLD)
            self._input = self._hold(stdin, _WRITE)
        outlets = [await self._listen(path) for path in (stdout, stderr)]
        self._labelling = asyncio.ensure_future(self._label(*outlets))
        return (
            f"{{ . {_quoted(script)}; }} <{_quoted(stdin)} >{_quoted(stdout)} 2>{_quoted(stderr)}\n"
            f"echo {self.id} $? >{_quoted(status)}; read -r _ <{_quoted(acknowledged)}\n"
        ).encode()

    def give(self, data: str) -> None:
        """Write to its standard input; a missing end of line is added. Raises `DaemonError`."""
        if self.exit_code is not None:
            message = f"command has already completed with exit code {self.exit_code}"
            raise DaemonError(410, message, "COMMAND_ALREADY_COMPLETED")
        if self._input is None:
            raise DaemonError(400, "command does not take input")
        line = data.removesuffix("\n").encode() + b"\n"
        try:
            os.write(self._input, line)
        except BlockingIOError:
            raise DaemonError(400, "command does not read its input") from None
        if self._echoes:
            self.journal.append(STDOUT + line)

    async def drain(self) -> None:
        """Let go of its FIFOs and wait until everybody else has."""
        self._held.close()
        self._input = None
        if self._labelling is not None:
            await self._labelling
        await self._outputs.aclose()

    def end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self.ended.set()
        self.journal.close()

    async def discard(self) -> None:
        """Close what is open; followers of its journal come to their end."""
        self._held.close()
        self.journal.close()
        if self._labelling is not None:
            self._labelling.cancel()
            await asyncio.gather(self._labelling, return_exceptions=True)
        await self._outputs.aclose()

    def as_json(self) -> dict[str, Any]:
        known = {"id": self.id, "command": self.text}
        return known if self.exit_code is None else {**known, "exitCode": self.exit_code}

    async def _label(self, stdout: Outlet, stderr: Outlet) -> None:
        await asyncio.gather(self.journal.label(stdout, STDOUT), self.journal.label(stderr, STDERR))

    async def _listen(self, path: str) -> Outlet:
        outlet = Outlet(os.open(path, _READ))
        self._hold(path, _WRITE)  # before the first read, which would see the end
        return await self._outputs.enter_async_context(outlet)

    def _make(self, name: str) -> str:
        path = self._folder / name
        os.mkfifo(path)
        return str(path)

    def _hold(self, path: str, flags: int) -> int:
        descriptor = os.open(path, flags)
        self._held.callback(os.close, descriptor)
        return descriptor


class Session:
    """A shell and its commands. `start` first, `close` last."""

    def __init__(self, identity: str, folder: Path, processes: Processes) -> None:
        self.id = identity
        self.commands: dict[str, SessionCommand] = {}
        self.closed = asyncio.Event()
        self._processes = processes
        self._folder = folder
        self._status = folder / "status"
        self._acknowledged = folder / "acknowledged"
        self._open = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._shell: Running | None = None
        self._inlet: Inlet
        self._acknowledge: int

    async def start(self, command: Command) -> None:
        """Start the shell. Failed or cancelled, nothing of it stays open."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.close)
            os.mkfifo(self._status)
            os.mkfifo(self._acknowledged)
            self._acknowledge = os.open(self._acknowledged, _HOLD)
            self._open.callback(os.close, self._acknowledge)
            statuses = await self._open.enter_async_context(Outlet(os.open(self._status, _HOLD)))
            stdin, feed = os.pipe()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                self._inlet = await self._open.enter_async_context(Inlet(feed))
                self._shell = await self._processes.spawn(
                    command, stdin=stdin, stdout=nowhere, stderr=nowhere
                )
            finally:
                os.close(stdin)
                os.close(nowhere)
            self._tasks = [
                asyncio.ensure_future(self._watch(statuses)),
                asyncio.ensure_future(self._bury(self._shell)),
            ]
            stack.pop_all()

    @property
    def alive(self) -> bool:
        return self._shell is not None and not self._shell.ended.done()

    async def run(self, text: str, *, takes_input: bool, echoes: bool) -> SessionCommand:
        """Queue a command behind those that run. Raises `DaemonError` 410 without a shell."""
        if not self.alive:
            raise DaemonError(410, "session process has exited", "SESSION_ENDED")
        command = SessionCommand(text, self._folder, takes_input=takes_input, echoes=echoes)
        self.commands[command.id] = command
        order = await command.prepare(self._status, self._acknowledged)
        await self._inlet.write(order)
        return command

    async def close(self) -> None:
        """Kill the shell and all below it, and forget its commands. Finishes if cancelled."""
        await finish(self._close())

    async def _close(self) -> None:
        self.closed.set()
        if self._shell is not None:
            self._processes.kill(self._shell, tree=True)
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._open.aclose()
        for command in self.commands.values():
            await command.discard()
        await asyncio.to_thread(shutil.rmtree, self._folder)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _watch(self, statuses: Outlet) -> None:
        """Take the exit codes that the shell tells; it waits each time until it is heard."""
        while line := await statuses.read():
            identity, exit_code = line.decode().split()
            command = self.commands[identity]
            await command.drain()
            command.end(int(exit_code))
            os.write(self._acknowledge, b"\n")

    async def _bury(self, shell: Running) -> None:
        await asyncio.shield(shell.ended)
        for command in list(self.commands.values()):
            if command.exit_code is None:
                await command.drain()


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))
