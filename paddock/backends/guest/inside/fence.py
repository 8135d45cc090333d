"""A fence around one command: it reads, and writes to a temporary directory of its own only.

A supervisor makes the `Folder`, and the forked child calls `enter` before it becomes the
command. The kernel keeps both for all that the command starts: a Landlock rule set for
files, TCP and signals, and a filter of system calls for what Landlock does not know.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal

from .calls import filter_program
from .folders import remove_tree
from .landlock import SCOPE_ABI, TCP_ABI, TRUNCATE_ABI, RuleSet, abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
"""What may be opened for writing outside the folder: nothing stays of what is written."""
REMOVE_TIMEOUT = 5.0
"""Seconds: a command may leave a million files, and its killer waits for this process."""
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2


class FenceUnavailable(Exception):
    """This command cannot be fenced here, for this reason."""


class Folder:
    """A command's directory for temporary files."""

    def __init__(self, env: dict[str, str], owner: tuple[int, int] | None) -> None:
        """Make it below TMPDIR or /tmp, for a user and group by number; set TMPDIR to it."""
        above = env.get("TMPDIR", "")
        if not os.path.isabs(above):
            above = "/tmp"
        self.path = os.path.join(above, "paddock-" + os.urandom(8).hex())
        try:
            os.mkdir(self.path, 0o700)
            if owner is not None:
                os.chown(self.path, *owner, follow_symlinks=False)
        except OSError as error:
            raise FenceUnavailable(
                f"no temporary directory can be made in {above} ({error.strerror})"
            ) from None
        env["TMPDIR"] = self.path

    def remove(self) -> None:
        """Remove it with all that is in it, as far as `REMOVE_TIMEOUT` suffices."""
        with contextlib.suppress(OSError):
            os.rmdir(self.path)
            return
        signal.signal(signal.SIGALRM, give_up)
        try:
            signal.setitimer(signal.ITIMER_REAL, REMOVE_TIMEOUT)
            remove_tree(self.path)
        except OSError:  # TimeoutError, too: what is left goes with the sandbox
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


def give_up(number: int, frame: object) -> NoReturn:
    raise TimeoutError


def enter(folder: Folder, network: bool) -> None:
    """Fence this process and what it becomes or starts, for good; else `FenceUnavailable`."""
    try:
        found = abi()
        if not found:
            raise FenceUnavailable("Landlock is not available (it takes Linux 5.13 or newer)")
        program = filter_program(
            os.uname().machine,
            network=network,
            signals=found >= SCOPE_ABI,
            truncation=found >= TRUNCATE_ABI,
        )
        # The filter knows no sockets at all without `network`, also where Landlock has no TCP.
        tcp = network or found < TCP_ABI
        with RuleSet(readable=["/"], writable=[folder.path, *DEVICES], tcp=tcp) as rules:
            rules.restrict()
        refuse_calls(program)
    except KeyError as error:
        raise FenceUnavailable(f"system calls of the architecture {error} are unknown") from None
    except OSError as error:
        raise FenceUnavailable(f"the kernel refuses to fence it ({error.strerror})") from None


def refuse_calls(program: bytes) -> None:
    """Apply a filter of system calls to this process, which may have no new privileges."""
    import ctypes  # there is Landlock, so there is this

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    filter_ = Program(len(program) // 8, program)
    if prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0):
        raise OSError(ctypes.get_errno() or errno.EINVAL, "no filter of system calls")
