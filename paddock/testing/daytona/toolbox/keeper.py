"""The parent of all processes of one sandbox: starts them, tells their ends, leaves none behind.

A program of its own, run as ``python -P keeper.py`` with a packet socket as its standard input.
It adopts what leaves the tree of its parent (daemons that called setsid or forked twice).
When the other end of the socket closes, for whatever reason, it kills every process below it
until nothing is left, and ends: the server may die by SIGKILL and nothing stays.

Packets in: ``{"do": "start", "id"}`` with four descriptors (a file with the rest of the order
in JSON, then the three standard streams), ``{"do": "kill", "id", "tree"}``.
Packets out: ``{"id", "pid"}`` or ``{"id", "error"}`` for each start, ``{"id", "status"}`` for
each end of what was started, with the status of `os.waitstatus_to_exitcode`.

Knows nothing of HTTP, shells or sessions.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.inside import shield, trees

if TYPE_CHECKING:
    from types import FrameType

PACKET = 4096
"""Bytes; what is longer travels as a file."""


class Keeper:
    """One sandbox's processes."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._ids: dict[int, str] = {}
        """Pid -> id, of what was started and is not yet reaped: such a pid is not taken anew."""

    def run(self) -> None:
        """Serve until the other end closes."""
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _wake_only)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._wire.fileno(), woken], [], [])
            if woken in ready:
                os.read(woken, PACKET)
                self._reap()
            if self._wire.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        packet, descriptors, _, _ = socket.recv_fds(self._wire, PACKET, 4)
        if not packet:
            return False
        order = json.loads(packet)
        try:
            if order["do"] == "start":
                self._start(order["id"], *descriptors)
            else:
                self._kill(order["id"], tree=order["tree"])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, identity: str, spec: int, *streams: int) -> None:
        try:
            process = _spawn(json.loads(os.pread(spec, os.fstat(spec).st_size, 0)), *streams)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._tell({"id": identity, "error": _reason(error)})
            return
        process.returncode = 0  # reaped here, not by subprocess
        self._ids[process.pid] = identity
        self._tell({"id": identity, "pid": process.pid})

    def _kill(self, identity: str, *, tree: bool) -> None:
        for pid in [pid for pid, known in self._ids.items() if known == identity]:
            if tree:
                trees.stop_and_kill(lambda pid=pid: [pid])  # type: ignore[misc]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if (identity := self._ids.pop(pid, None)) is not None:
                    self._tell({"id": identity, "status": os.waitstatus_to_exitcode(status)})

    def _tell(self, event: dict[str, Any]) -> None:
        self._wire.send(json.dumps(event).encode())


def _spawn(spec: dict[str, Any], stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    terminal: bool = spec["terminal"]
    return subprocess.Popen(
        spec["argv"],
        cwd=spec["cwd"],
        env=spec["env"],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=terminal,
        process_group=None if terminal else 0,
        preexec_fn=_take_terminal if terminal else None,  # noqa: PLW1509 - one thread, ours
    )


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def _wake_only(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor tells the loop; a handler has to be there for that."""


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit()


if __name__ == "__main__":
    shield.prctl(shield.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _end)
    try:
        # The server may be gone while an end is reported to it.
        with socket.socket(fileno=0) as server, contextlib.suppress(BrokenPipeError):
            Keeper(server).run()
    finally:
        trees.kill_all_below()
