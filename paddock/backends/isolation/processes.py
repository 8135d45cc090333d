"""The processes of isolated sandboxes, as the host has them: made by its fork server.

The fork server is started when it is first needed, and again when something has ended it; it
ends with this process.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.backends.guest import inside, precompiled
from paddock.backends.isolation.forkserver import ENDED, REPORT, STARTED

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ForkServer", "ForkedProcess", "fork_server"]

ORDER_TIMEOUT = 20.0
"""Seconds for the fork server to take an order. It needs 2 ms for one, and may have 50 to do on
a machine that is busy."""

PARTS = ("copies", "forkserver", "launcher", "warden")
"""Modules of this package that run in the fork server."""


class ForkedProcess(asyncio.Protocol):
    """A process that the fork server started; `connect` it in the event loop that uses it.

    `returncode` is None while it runs, and negative for the signal that ended it.
    """

    def __init__(self, report: socket.socket) -> None:
        self.pid = 0
        """Known once it has been started."""
        self.returncode: int | None = None
        self._report = report
        self._said = b""
        self._transport: asyncio.Transport | None = None

    async def connect(self) -> None:
        """Begin to follow it."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        await loop.create_unix_connection(lambda: self, sock=self._report)

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        await asyncio.wait([self._ended])
        assert self.returncode is not None, "ended without an exit code"
        return self.returncode

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError(f"process {self.pid} has ended")
        if self._transport is not None:
            self._transport.write(bytes([number]))

    # the report

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "made of a socket"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._said += data
        while len(self._said) >= REPORT.size:
            kind, value = REPORT.unpack_from(self._said)
            self._said = self._said[REPORT.size :]
            if kind == STARTED:
                self.pid = value
            elif kind == ENDED:
                self._end(value)

    def connection_lost(self, exc: Exception | None) -> None:
        # If nothing was reported, then the fork server was killed, and all that it had started.
        self._end(-signal.SIGKILL)

    def _end(self, code: int) -> None:
        if self.returncode is None:
            self.returncode = code
            self._ended.set_result(None)
        if self._transport is not None:
            self._transport.close()


class ForkServer:
    """The one of this process. May be used by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._owner = 0
        self._pid = 0
        self._rights: Rights | None = None

    def start(self, orders: dict[str, Any], descriptors: Sequence[int]) -> ForkedProcess:
        """Start a process with these orders, with duplicates of the descriptors: its stdin and
        stdout, its stderr, and those that are to keep their numbers. Blocks for some microseconds.
        """
        passed = list(descriptors[2:])
        packet = json.dumps({**orders, "passed": passed}).encode()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._send(packet, [theirs.fileno(), *descriptors])
            except BaseException:
                ours.close()
                raise
        return ForkedProcess(ours)

    def umask(self) -> int | None:
        """Return the umask for a fork that keeps the rights of this process.

        None if there can be no such fork: the system is another one, or the rights of this
        process have changed since the fork server was started.
        """
        found = _process_status() if _can_fork() else {}
        started = self._control is not None and self._owner == os.getpid()
        if not found or (started and _rights_in(found) != self._rights):
            return None
        return int(found["Umask"], 8)

    def _send(self, packet: bytes, descriptors: Sequence[int]) -> None:
        with self._lock:
            if self._owner == os.getpid() and self._control is not None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    socket.send_fds(self._control, [packet], descriptors)
                    return
            self._restart()
            assert self._control is not None, "it has just been started"
            socket.send_fds(self._control, [packet], descriptors)

    def _restart(self) -> None:
        self.close()
        program = _program()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = program.descriptor()
        try:
            ours.settimeout(ORDER_TIMEOUT)
            os.set_inheritable(fd, True)
            command = program.command(fd, str(os.getpid()))
            self._pid = os.posix_spawn(
                command[0],
                command,
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD],
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(fd)
        self._control, self._owner = ours, os.getpid()
        self._rights = _rights_in(_process_status())

    def close(self) -> None:
        """End it, and all that it has started; `start` starts another one."""
        control, self._control = self._control, None
        if control is not None:
            control.close()
            if self._owner == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self._pid, 0)


@functools.cache
def _can_fork() -> bool:
    """Whether the fork server runs on this system: Linux 5.4 and newer, with /proc."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return "Umask" in _process_status()


Rights = tuple[str | None, ...]


def _rights_in(status: dict[str, str]) -> Rights:
    names = ("Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
    return tuple(status.get(name) for name in names)


def _process_status() -> dict[str, str]:
    """What the kernel says of this process, by name; nothing where it does not."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in lines}


fork_server = ForkServer()
atexit.register(fork_server.close)


@functools.cache
def _program() -> precompiled.Program:
    """The fork server, with all that its forks may become."""
    backends = Path(inside.__file__).parents[2]
    files = [
        *(backends / "__init__.py", backends / "guest" / "__init__.py"),
        *(backends / "guest" / "inside").glob("*.py"),
        *(backends / "isolation" / f"{name}.py" for name in ("__init__", *PARTS)),
    ]
    modules = {precompiled.module_name(path, above=backends.parent): path for path in files}
    return precompiled.packed("backends.isolation.forkserver", modules)
