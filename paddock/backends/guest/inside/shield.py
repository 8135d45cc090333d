"""Keep the guest's memory, descriptors and wire from the other processes of its sandbox.

Linux lets a process open what another one has open (``/proc/PID/fd``), write to its memory
(``/proc/PID/mem``) and trace it, if both have the same user, or the one is root. Who could do
that to a guest could write frames in its name. A process that is not dumpable is closed to all
that have no CAP_SYS_PTRACE, which no command of a sandbox has; a fork of it is, too, until it
executes another program.
"""

from __future__ import annotations

import os

from .light import suppress

try:
    # Not `ctypes`, which takes longer to import than all of the guest.
    from _ctypes import call_function, dlopen, dlsym

    _prctl = dlsym(dlopen(None, 0), "prctl")  # type: ignore[arg-type]  # None: this program
except (ImportError, OSError) as error:
    if os.uname().sysname == "Linux":
        raise ImportError("this Python has no ctypes, which a guest needs") from error
    _prctl = 0  # nothing is isolated on such a system

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
PR_SET_CHILD_SUBREAPER = 36

can_adopt = _prctl != 0
"""Whether a process can become a sub-reaper here; without, what leaves its tree is lost."""


def prctl(option: int, value: int) -> int:
    return int(call_function(_prctl, (option, value, 0, 0, 0))) if can_adopt else 0


def hide() -> None:
    """Close this process and its forks to other processes; `OSError` if that is impossible.

    From now on the files below ``/proc/self`` are root's, except to read.
    """
    prctl(PR_SET_DUMPABLE, 0)
    if prctl(PR_GET_DUMPABLE, 0) != 0:
        raise OSError("the kernel does not protect this process from others")


def take_wire() -> tuple[int, int]:
    """Move stdin and stdout to descriptors that no child inherits; leave /dev/null in their place.

    So nothing that is started or printed by mistake reads from the wire or writes to it.
    """
    wire = os.dup(0), os.dup(1)
    redirect_to_null(0, 1)
    return wire


def redirect_to_null(*numbers: int) -> None:
    """Point these descriptors to /dev/null, so that no pipe ever gets their numbers."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in numbers:
        os.dup2(null, number)
    os.close(null)


class OomScore:
    """How early the kernel ends this process when memory runs out, for its children to inherit.

    To be opened before `hide`: afterwards a process that is not root's can no longer open the
    file of its own, nor can its children. Does nothing where there is no such file.
    """

    def __init__(self) -> None:
        self._fd: int | None = None
        self._own = 0
        with suppress(OSError):
            self._fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
            self._own = int(os.read(self._fd, 16))

    def raise_to(self, score: int) -> None:
        """What is forked until `restore` has at least this score, out of 1000."""
        self._write(max(score, self._own))

    def restore(self) -> None:
        """Have the score again that this process began with."""
        self._write(self._own)

    def _write(self, score: int) -> None:
        if self._fd is not None:
            with suppress(OSError):  # a system that does not allow the change
                os.write(self._fd, str(score).encode())
