"""The process between the guest and a command: it makes what the command leaves behind its own.

A supervisor is a sub-reaper, so a child that calls setsid or forks twice becomes
the supervisor's child and stays in its tree. It runs one command at a time and
takes the next when nothing of the last is left; so a command costs a spawn and no
fork of this interpreter.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct

from .files import describe, write_all
from .trees import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    kill_all_below,
    prctl,
    reset_signals,
)
from .wire import LENGTH

try:
    import resource
except ImportError:  # pragma: no cover - not on a Unix
    resource = None

ENDED, EMPTY, FAILED = b"S", b"0", b"E"
"""Reports: the command's leading process ended (wait status, whether others live
on); nothing of it is left; it could not be started (an error as JSON)."""


PACK_FD = struct.Struct("i")


class Supervisor:
    """The guest's end of one supervisor."""

    def __init__(self, limits):
        self.socket, inside = socket.socketpair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                live(inside, parent, limits)
            finally:
                os._exit(1)
        inside.close()

    def give(self, order, streams):
        """Send a command and the far ends of its streams; False if the supervisor is dead."""
        text = json.dumps(order).encode()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(map(PACK_FD.pack, streams)))
        try:
            self.socket.sendmsg([LENGTH.pack(len(text))], [rights])
            self.socket.sendall(text)
        except OSError:
            return False
        return True

    def close(self):
        """Let it go, or bury it; return its wait status."""
        self.socket.close()
        return os.waitpid(self.pid, 0)[1]


def live(connection, parent, limits):
    """The whole life of a supervisor; does not return."""
    close_all_but(connection.fileno())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, stack: kill_all_below())
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)
    apply_limits(limits)
    while True:
        order, streams = receive(connection)
        try:
            leader = launch(order, streams, connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the guest is told
            connection.sendall(failure(error))
        else:
            reap(leader, connection)
        finally:
            for fd in streams:
                os.close(fd)
        connection.sendall(EMPTY)


def close_all_but(kept):
    """Close the descriptors that the fork brought along; 0, 1 and 2 become /dev/null."""
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else range(256):
        number = int(name)
        if number > 2 and number != kept:
            try:
                os.close(number)
            except OSError:
                pass  # the listing's own descriptor
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def apply_limits(limits):
    for name, value in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))


def receive(connection):
    """The next order and its streams; exits when the guest is gone."""
    head, rights, _, _ = connection.recvmsg(
        LENGTH.size, socket.CMSG_SPACE(3 * PACK_FD.size), socket.MSG_CMSG_CLOEXEC
    )
    if not head:
        os._exit(0)
    streams = []
    for _, _, data in rights:
        streams += [PACK_FD.unpack_from(data, at)[0] for at in range(0, len(data), PACK_FD.size)]
    size = LENGTH.unpack(head + receive_exactly(connection, LENGTH.size - len(head)))[0]
    return json.loads(receive_exactly(connection, size)), streams


def receive_exactly(connection, size):
    pieces = []
    while size:
        piece = connection.recv(size)
        if not piece:
            os._exit(0)
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def launch(order, streams, connection):
    """Start the command in a session of its own; return the id of its leading process."""
    os.chdir(order["cwd"])
    if "job" in order:
        return fork_job(order, streams, connection)
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)]
    argv, env = order["argv"], order["env"]
    refused = None
    for program in candidates(argv[0], env.get("PATH", os.defpath)):
        try:
            return os.posix_spawn(
                program,
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=reset_signals,
            )
        except OSError as error:
            if refused is None or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                refused = error
    return complain(argv[0], refused, streams)


def candidates(program, path):
    """Where a program may be, in the order of PATH, as execvp has it."""
    if "/" in program:
        return [program]
    return [os.path.join(folder or ".", program) for folder in path.split(":")]


def complain(program, error, streams):
    """A program that cannot be run ends as the shell has it: a line on stderr and 126 or 127."""
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    leader = os.fork()
    if leader == 0:
        try:
            text = "%s: %s\n" % (program, "command not found" if missing else error.strerror)
            write_all(streams[2], text.encode("utf-8", "surrogateescape"))
        finally:
            os._exit(127 if missing else 126)
    return leader


def fork_job(order, streams, connection):
    from .jobs import run_job

    leader = os.fork()
    if leader == 0:
        try:
            os.setsid()
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
                os.close(fd)
            run_job(order["job"], order["args"], lambda error: connection.sendall(failure(error)))
        finally:
            os._exit(1)
    return leader


def failure(error):
    text = json.dumps(describe(error)).encode()
    return FAILED + LENGTH.pack(len(text)) + text


def reap(leader, connection):
    """Reap until nothing is left; tell when the leading process ends."""
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if pid == leader:
            background = b"1" if has_children() else b"0"
            connection.sendall(ENDED + LENGTH.pack(status) + background)


def has_children():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
