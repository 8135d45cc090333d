"""The process between the guest and a command: it makes what the command leaves behind its own.

A supervisor is a sub-reaper, so a child that calls setsid or forks twice becomes
the supervisor's child and stays in its tree. It runs one command at a time and
takes the next when nothing of the last is left; so a command costs a spawn and no
fork of this interpreter.
"""

from __future__ import annotations

import errno
import os
import resource
import struct

from .files import describe, write_all
from .forks import fork, take_signals
from .light import dumps, loads, signal, socket, suppress
from .programs import find_program
from .shield import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl, redirect_to_null
from .trees import kill_all_below, send_signal
from .wire import LENGTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from .accounts import Account
    from .fence import Folder

    Order = dict[str, Any]

ENDED, EMPTY, FAILED = b"S", b"0", b"E"
"""Reports: the command's leading process ended (wait status, whether others live
on); nothing of it is left; it could not be started (an error as JSON)."""
ENTERED = b"\0"
"""What a child says that is inside its fence."""
PACK_FD = struct.Struct("i")
SURE_TO_FIT = 32 * 1024
"""Bytes that a socket takes at once even if they are not read."""
GIVE_DEADLINE = 2.0
"""Seconds for an idle supervisor to take a long order: one that a process of the sandbox
has stopped takes none, and would hold up the loop."""
RESET_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
)
"""Signals that this interpreter ignores or handles, and a command shall not."""


class Supervisor:
    """The guest's end of one supervisor, which has the rights of `account` or else the guest's."""

    def __init__(self, limits: dict[int, int], account: Account | None) -> None:
        self.socket, inside = socket.socketpair()
        self.account = account
        self.alive = True
        """Until the guest has reaped it: its process id means nothing afterwards."""
        parent = os.getpid()
        try:
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    live(inside, parent, limits, account)
                finally:
                    os._exit(1)
        except OSError:
            self.socket.close()
            raise
        finally:
            inside.close()

    def give(self, order: Order, streams: Sequence[int]) -> None:
        """Send a command and the far ends of its streams; `OSError` if it is dead or stopped."""
        text = dumps(order).encode()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(map(PACK_FD.pack, streams)))
        if len(text) > SURE_TO_FIT:
            self.socket.settimeout(GIVE_DEADLINE)
        self.socket.sendmsg([LENGTH.pack(len(text))], [rights])
        self.socket.sendall(text)
        self.socket.settimeout(None)

    def close(self) -> None:
        """End it, when it has no command; the guest reaps it as it does all its children."""
        self.socket.close()
        if self.alive:
            send_signal(self.pid, signal.SIGKILL)  # it may have been stopped, and see no end


def descriptor_limit() -> int:
    """How many descriptors this process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft != resource.RLIM_INFINITY else 2**31


def limits_by_number(limits: dict[str, int]) -> dict[int, int]:
    """Limits as ``setrlimit`` has them; `AttributeError` for one that is not known here."""
    return {getattr(resource, name): int(value) for name, value in limits.items()}


def live(
    connection: socket.socket, parent: int, limits: dict[int, int], account: Account | None
) -> NoReturn:
    """The whole life of a supervisor."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, stack: kill_all_below(128 + number))
    close_all_but(connection.fileno())
    apply_limits(limits)
    if account is not None:
        account.become()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # after the change of user, which takes this back
    if os.getppid() != parent:
        os._exit(0)
    while True:
        serve(connection)


def serve(connection: socket.socket) -> None:
    """Take one command and stay with it until nothing of it is left."""
    order, streams = receive(connection)
    folder: Folder | None = None
    try:
        os.chdir(order["cwd"])
        if "fence" in order:
            folder = make_folder(order)
        leader = launch(order, streams, connection, folder)
    except Exception as error:  # whatever it is, report it to the guest
        if folder is not None:
            folder.remove()
        connection.sendall(failure(error) + EMPTY)
        return
    finally:
        for fd in streams:
            os.close(fd)
    reap(leader, connection, folder)


def close_all_but(kept: int) -> None:
    """Close the descriptors that the fork brought along; 0, 1 and 2 become /dev/null."""
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else range(1024):
        number = int(name)
        if number > 2 and number != kept:
            with suppress(OSError):  # the listing's own descriptor
                os.close(number)
    redirect_to_null(0, 1, 2)


def apply_limits(limits: dict[int, int]) -> None:
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))


def receive(connection: socket.socket) -> tuple[Order, list[int]]:
    """The next order and its streams; exits when the guest is gone."""
    head, rights, _, _ = connection.recvmsg(
        LENGTH.size, socket.CMSG_SPACE(3 * PACK_FD.size), socket.MSG_CMSG_CLOEXEC
    )
    if not head:
        os._exit(0)
    streams: list[int] = []
    for _, _, data in rights:
        streams += [PACK_FD.unpack_from(data, at)[0] for at in range(0, len(data), PACK_FD.size)]
    size = LENGTH.unpack(head + receive_exactly(connection, LENGTH.size - len(head)))[0]
    return loads(receive_exactly(connection, size)), streams


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    pieces = []
    while size:
        piece = connection.recv(size)
        if not piece:
            os._exit(0)
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def make_folder(order: Order) -> Folder:
    """The temporary directory of a command that is to be fenced."""
    from .fence import Folder  # most sandboxes fence no command

    account = account_of(order)
    return Folder(order["env"], None if account is None else (account.uid, account.gid))


def account_of(order: Order) -> Account | None:
    """The user that an order names, if it names one. Raise `UnknownUser` if there is none such."""
    if order.get("user") is None:
        return None
    from .accounts import find_account  # most sandboxes have one user

    return find_account(order["user"])


def launch(
    order: Order, streams: Sequence[int], connection: socket.socket, folder: Folder | None
) -> int:
    """Start the command in a session of its own; return the id of its leading process."""
    if "job" in order:
        return fork_job(order, streams, connection)
    if folder is not None:
        return fork_fenced(order, streams, folder)
    if "pty" in order:
        from .terminals import take_terminal  # few commands have one

        return fork_command(order, streams, take_terminal)
    if order.get("user") is not None:
        return fork_command(order, streams)
    argv, env = order["argv"], order["env"]
    try:
        return os.posix_spawn(
            find_program(argv[0], env.get("PATH", os.defpath)),
            argv,
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)],
            setsid=True,
            setsigmask=[],
            setsigdef=RESET_SIGNALS,
        )
    except OSError as error:
        return complain(argv[0], error, streams)


def complain(program: str, error: OSError, streams: Sequence[int]) -> int:
    """A program that cannot be run ends as the shell has it: a line on stderr and 126 or 127."""
    leader = os.fork()
    if leader == 0:
        try:
            os._exit(say(program, error, streams[2]))
        finally:
            os._exit(126)
    return leader


def say(program: str, error: OSError, stderr: int) -> int:
    """Tell why a program cannot be run; return the exit code that goes with it."""
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    text = f"{program}: {'command not found' if missing else error.strerror}\n"
    write_all(stderr, text.encode("utf-8", "surrogateescape"))
    return 127 if missing else 126


def fork_command(
    order: Order, streams: Sequence[int], prepare: Callable[[], None] | None = None
) -> int:
    """Start a command with a fork: as another user, or after `prepare` in the child.

    Raise `UnknownUser` if there is no such user.
    """
    argv, env = order["argv"], order["env"]
    account = account_of(order)
    if account is not None:
        inherited = (name for name in order["login"] if env.get(name) == os.environ.get(name))
        account.log_in(env, inherited)
    leader = fork()
    if leader == 0:
        try:
            os.setsid()
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
            for number in RESET_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            take_signals()
            if account is not None:
                account.become()
            if prepare is not None:
                prepare()
            os.execve(find_program(argv[0], env.get("PATH", os.defpath)), argv, env)
        except OSError as error:
            os._exit(say(argv[0], error, 2))
        finally:
            os._exit(126)
    return leader


def fork_fenced(order: Order, streams: Sequence[int], folder: Folder) -> int:
    """Start a command inside a fence; raise `FenceUnavailable` if that fails."""
    from .fence import FenceUnavailable, enter

    reader, writer = os.pipe()  # closed by the exec

    def prepare() -> None:
        try:
            enter(folder, bool(order["fence"]["network"]))
        except FenceUnavailable as error:
            write_all(writer, str(error).encode())
            os._exit(126)
        os.write(writer, ENTERED)

    try:
        leader = fork_command(order, streams, prepare)
    finally:
        os.close(writer)
    try:
        said = read_all(reader)
    finally:
        os.close(reader)
    if said != ENTERED:
        os.waitpid(leader, 0)
        raise FenceUnavailable(said.decode() or "what was to fence it was killed")
    return leader


def read_all(fd: int) -> bytes:
    pieces: list[bytes] = []
    while True:
        piece = os.read(fd, 4096)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def fork_job(order: Order, streams: Sequence[int], connection: socket.socket) -> int:
    from .jobs import load, load_all, run_job

    load(order["job"])
    account = account_of(order)
    if account is not None:
        load_all()
    leader = fork()
    if leader == 0:
        try:
            os.setsid()
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
                os.close(fd)
            if account is not None:
                account.become()
            run_job(order["job"], order["args"], lambda error: connection.sendall(failure(error)))
        finally:
            os._exit(1)
    return leader


def failure(error: BaseException) -> bytes:
    text = dumps(describe(error)).encode()
    return FAILED + LENGTH.pack(len(text)) + text


def reap(leader: int, connection: socket.socket, folder: Folder | None) -> None:
    """Reap until nothing is left; tell when the leading process has ended and when all have.

    The command's temporary directory is gone when all have.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            if folder is not None:
                folder.remove()
            connection.sendall(EMPTY)
            return
        if pid == leader:
            leader = 0  # the number may come again
            report = ENDED + LENGTH.pack(status)
            if not others_live():
                if folder is not None:
                    folder.remove()
                connection.sendall(report + b"0" + EMPTY)
                return
            connection.sendall(report + b"1")


def others_live() -> bool:
    """Whether there are children that have not ended yet; reaps those that have."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
