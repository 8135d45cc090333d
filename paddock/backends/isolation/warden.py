"""Guests that stay forks of the fork server: with its rights, or confined by Landlock.

A warden is started instead of a guest that Landlock shall confine, to end what that leaves.

The warden stays outside of the fence, as the parent that all of the sandbox's orphans get,
so a command that kills its guest leaves nothing behind: no process of the sandbox can
outlive the warden's guest, nor the host. The guest is a fork of the warden, in which all
its modules are loaded, so it needs no file of ours from within the fence.

Runs in a fork of the fork server, which has loaded all modules of the guest; standard library
only.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ..guest.inside import landlock, loop, shield, trees
from .launcher import become, checked, join, libc

if TYPE_CHECKING:
    from typing import NoReturn

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
INSTRUCTION_BYTES = 8


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine(orders: dict[str, Any]) -> None:
    """Give up everything that a sandbox shall not have."""
    program = os.read(orders["filter"], 1 << 20)
    os.close(orders["filter"])
    for group in orders["groups"]:
        join(group)
    # The rules are made before the user changes, who may not reach what is below our folders.
    with landlock.RuleSet(
        readable=orders["readable"], writable=orders["writable"], tcp=True
    ) as rules:
        if orders["user"] is not None:
            become(*orders["user"])
        rules.restrict()
    wanted = Program(len(program) // INSTRUCTION_BYTES, program)
    checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0), "seccomp")


def be_guest(orders: dict[str, Any]) -> NoReturn:
    """The whole life of the guest."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.enable()
        confine(orders)
        # After the change of user, which takes this back.
        shield.prctl(shield.PR_SET_PDEATHSIG, signal.SIGKILL)
        loop.main()
    except OSError as failure:
        what = failure.filename or "starting under Landlock"
        sys.stderr.write(f"paddock: {what}: {failure.strerror or failure}\n")
    finally:
        sys.stderr.flush()
        os._exit(1)


def be_plain_guest(orders: dict[str, Any], parent: int) -> NoReturn:
    """The whole life of a guest that has the rights of the host."""
    os.umask(orders["umask"])
    shield.prctl(shield.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the host has ended")
    gc.enable()
    loop.main()
    os._exit(1)


def wait_for(guest: int) -> int:
    """Reap children until the guest has ended; return its status as a shell has it."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == guest:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def guard(orders: dict[str, Any], parent: int) -> NoReturn:
    """The whole life of a warden, whose parent is the process of that id."""
    shield.prctl(shield.PR_SET_CHILD_SUBREAPER, 1)
    shield.prctl(shield.PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, stack: trees.kill_all_below(128 + number))
    if os.getppid() != parent:
        sys.exit("the host has ended")
    guest = os.fork()
    if guest == 0:
        be_guest(orders)
    os.close(orders["filter"])
    shield.redirect_to_null(0, 1)  # the stream ends with the guest
    trees.kill_all_below(wait_for(guest))
