"""The server's end of a sandbox's keeper: commands as objects with an end to wait for.

Knows the keeper's packets, pipes and terminals; nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from paddock.testing.daytona.toolbox import keeper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Command", "Processes", "Running", "SpawnFailed"]

ENDING = 10.0
"""Seconds that killing a whole sandbox may take: milliseconds, but a busy machine is slow."""
STARTS = 64
"""Starts that the keeper has not answered yet: more would not fit into its socket."""
KILLED = -int(signal.SIGKILL)


class SpawnFailed(Exception):
    """The program could not be started: no such program, no such folder, too long."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to start. `env` is the whole environment."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    terminal: bool = False
    """Whether it leads a session of its own with its standard input as the terminal."""


@dataclass(kw_only=True, eq=False)
class Running:
    """A process that was started. `ended` gets its exit code, or the negative signal."""

    id: str
    pid: int
    ended: asyncio.Future[int] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Processes:
    """All processes of one sandbox. `start` first; after `stop` nothing of them is left."""

    def __init__(self) -> None:
        self._keeper: asyncio.subprocess.Process | None = None
        self._wire: socket.socket | None = None
        self._slots = asyncio.Semaphore(STARTS)
        self._starting: dict[str, asyncio.Future[Running]] = {}
        self._running: dict[str, Running] = {}

    @property
    def root(self) -> int | None:
        """The process that all of them are below; None before the start and after the end."""
        return None if self._keeper is None else self._keeper.pid

    async def start(self) -> None:
        """Start the keeper. Cancelled or failed, it leaves none."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._keeper = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    keeper.__file__,
                    stdin=theirs.fileno(),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._wire = ours
        asyncio.get_running_loop().add_reader(ours, self._listen)

    async def stop(self) -> None:
        """Kill every process and wait until none is left. Harmless when nothing runs.

        Raises `TimeoutError` when they are not gone after `ENDING` seconds; the keeper then
        continues killing.
        """
        if self._wire is not None:
            self._hang_up()
        if self._keeper is not None:
            async with asyncio.timeout(ENDING):
                await self._keeper.wait()
            self._keeper = None

    async def spawn(self, command: Command, *, stdin: int, stdout: int, stderr: int) -> Running:
        """Start it with these descriptors, which stay the caller's.

        Raises `SpawnFailed`. Cancelled, the process may run all the same; the sandbox's end is
        its end.
        """
        identity = uuid.uuid4().hex
        started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        self._starting[identity] = started
        try:
            async with self._slots:
                with _specification(command) as spec:
                    order = {"do": "start", "id": identity}
                    self._send(order, [spec.fileno(), stdin, stdout, stderr])
                return await started
        finally:
            del self._starting[identity]

    def kill(self, running: Running, *, tree: bool = False) -> None:
        """SIGKILL its process group, and with `tree` all processes below it. Not waited for."""
        if self._wire is not None and not running.ended.done():
            self._send({"do": "kill", "id": running.id, "tree": tree})

    def _send(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        if self._wire is None:
            raise SpawnFailed("the sandbox is stopped")
        socket.send_fds(self._wire, [json.dumps(order).encode()], descriptors)

    def _listen(self) -> None:
        while self._wire is not None:
            try:
                packet = self._wire.recv(keeper.PACKET)
            except BlockingIOError:
                return
            if not packet:
                self._hang_up()
                return
            self._note(json.loads(packet))

    def _note(self, event: dict[str, Any]) -> None:
        identity = event["id"]
        if "status" in event:
            self._running.pop(identity).ended.set_result(event["status"])
            return
        started = self._starting.get(identity)
        if "pid" in event:
            running = self._running[identity] = Running(id=identity, pid=event["pid"])
            if started is not None and not started.done():
                started.set_result(running)
        elif started is not None and not started.done():
            started.set_exception(SpawnFailed(event["error"]))

    def _hang_up(self) -> None:
        assert self._wire is not None
        asyncio.get_running_loop().remove_reader(self._wire)
        self._wire.close()
        self._wire = None
        for running in self._running.values():
            running.ended.set_result(KILLED)
        self._running.clear()
        for started in self._starting.values():
            if not started.done():
                started.set_exception(SpawnFailed("the sandbox is stopped"))


def _specification(command: Command) -> IO[bytes]:
    """An order's long part, as an open file."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    details = {
        "argv": list(command.argv),
        "cwd": str(command.cwd),
        "env": dict(command.env),
        "terminal": command.terminal,
    }
    file.write(json.dumps(details).encode())
    file.flush()
    return file
