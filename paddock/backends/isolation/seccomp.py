"""The system calls that a fenced process may not make, as a BPF program.

A deny list over the ones that reach outside a sandbox or widen the kernel's attack
surface: namespaces, mounts, other processes' memory, kernel keys and modules,
io_uring, sockets of unusual families, and whatever puts a set-user-id bit or a device on
a disk that outlives the sandbox. Calls newer than this table answer ENOSYS, as on an
older kernel.

Numbers are those of Linux's ``unistd`` tables; the layout of ``seccomp_data`` and the
actions are those of seccomp(2).
"""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.backends.guest.inside.calls import (
    ABSENT,
    ALLOW,
    AND,
    INSTRUCTION,
    JUMP_EQ,
    JUMP_GE,
    JUMP_SET,
    KILL_PROCESS,
    LAST_KNOWN,
    LOAD,
    OFFSET_ARCH,
    OFFSET_ARGUMENTS,
    OFFSET_NUMBER,
    REFUSE,
    RETURN,
    X32,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["filter_program", "supported"]

CLONE_NEW = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
AF_UNIX = 1
FAMILIES = (AF_UNIX, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: all bound to the sandbox's own network namespace."""
PAIR_TYPES = (1, 5)
"""SOCK_STREAM and SOCK_SEQPACKET: a pair of these stays connected to itself for good, one of
datagrams can be connected to a path."""
TYPE_MASK = 0xF
ACCESS_MODE, TRUNCATING = 0o3, 0o1000
"""O_ACCMODE and O_TRUNC: open(2) truncates even a file that it opens for reading."""
SET_ID = 0o6000
DEVICE = 0o020000
"""The bit that character and block devices have, and pipes, sockets and files have not. Without
any right a process may make the device 0, 0, by which overlay file systems mark what is removed."""
CREATING = 0o100 | 0o20000000
"""O_CREAT, and what O_TMPFILE adds to O_DIRECTORY: with one of them open(2) takes a mode."""
RENAME_WHITEOUT = 4
"""Leaves such a device behind."""
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: they type into a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """One architecture: its audit number and its numbers for the calls in question.

    `modes` and `nodes` map a call to the index of its mode argument, `renames` to that of its
    flags, and `creates` to the indexes of both.
    """

    arch: int
    refused: tuple[int, ...]
    absent: tuple[int, ...]
    clone: int
    socket: int
    socketpair: int
    truncate: int
    ioctl: int
    modes: dict[int, int]
    nodes: dict[int, int]
    creates: dict[int, tuple[int, int]]
    renames: dict[int, int]


# The same on every architecture: io_uring_*, open_tree, move_mount, fsopen, fsconfig,
# fsmount, fspick, pidfd_getfd, mount_setattr, quotactl_fd, process_mrelease,
# open_tree_attr.
_COMMON = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443, 448, 467)
# clone3 hides its flags behind a pointer, openat2 its mode; both have older twins.
_HIDDEN = (435, 437)

_TABLES = {
    "x86_64": _Table(
        arch=0xC000003E,
        refused=(
            *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(165, 166, 155, 161, 167, 168),  # mount, umount2, pivot_root, chroot, swapon, swapoff
            *(272, 308, 170, 171),  # unshare, setns, sethostname, setdomainname
            *(175, 176, 313, 246, 320),  # init_module, delete_module, finit_module, kexec_*
            *(169, 163, 179, 164, 227, 305, 159),  # reboot, acct, quotactl, clock setting
            *(172, 173, 134, 153, 103, 180, 212),  # iopl, ioperm, uselib, vhangup, syslog, ...
            *(248, 249, 250),  # add_key, request_key, keyctl
            *(321, 323, 298, 300),  # bpf, userfaultfd, perf_event_open, fanotify_init
            *(303, 304),  # name_to_handle_at, open_by_handle_at
            *_COMMON,
        ),
        absent=_HIDDEN,
        clone=56,
        socket=41,
        socketpair=53,
        truncate=76,
        ioctl=16,
        modes={90: 1, 91: 1, 268: 2, 452: 2, 85: 1},  # chmod fchmod fchmodat fchmodat2 creat
        nodes={133: 1, 259: 2},  # mknod, mknodat
        creates={2: (1, 2), 257: (2, 3)},  # open, openat
        renames={316: 4},  # renameat2
    ),
    "aarch64": _Table(
        arch=0xC00000B7,
        refused=(
            *(117, 270, 271, 272),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(40, 39, 41, 51, 224, 225),  # mount, umount2, pivot_root, chroot, swapon, swapoff
            *(97, 268, 161, 162),  # unshare, setns, sethostname, setdomainname
            *(105, 106, 273, 104, 294),  # init_module, delete_module, finit_module, kexec_*
            *(142, 89, 60, 170, 112, 266, 171),  # reboot, acct, quotactl, clock setting
            *(58, 116, 42, 18),  # vhangup, syslog, nfsservctl, lookup_dcookie
            *(217, 218, 219),  # add_key, request_key, keyctl
            *(280, 282, 241, 262),  # bpf, userfaultfd, perf_event_open, fanotify_init
            *(264, 265),  # name_to_handle_at, open_by_handle_at
            *_COMMON,
        ),
        absent=_HIDDEN,
        clone=220,
        socket=198,
        socketpair=199,
        truncate=45,
        ioctl=29,
        modes={52: 1, 53: 2, 452: 2},  # fchmod, fchmodat, fchmodat2
        nodes={33: 2},  # mknodat
        creates={56: (2, 3)},  # openat
        renames={276: 4},  # renameat2
    ),
}


def supported() -> bool:
    """Whether there is a table for this machine."""
    return platform.machine() in _TABLES


def _do(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return INSTRUCTION.pack(code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    # The low half: the calls in question take 32-bit values, on little-endian machines.
    return _do(LOAD, OFFSET_ARGUMENTS + 8 * index)


def _refuse_bits(index: int, bits: int) -> bytes:
    """Refuse the call if its argument `index` has one of `bits`."""
    return _argument(index) + _do(JUMP_SET, bits, 0, 1) + _do(RETURN, REFUSE)


def _refuse_others(values: Sequence[int]) -> bytes:
    """Refuse the call unless what was loaded is one of `values`."""
    jumps = (_do(JUMP_EQ, value, len(values) - at, 0) for at, value in enumerate(values))
    return b"".join(jumps) + _do(RETURN, REFUSE) + _do(AND, 0)


def _no_truncation(table: _Table) -> list[bytes]:
    """Refuse truncate(2), and open(2) to truncate without the right to write."""
    refused = [_do(JUMP_EQ, table.truncate, 0, 1), _do(RETURN, REFUSE)]
    for number, (flags, _) in table.creates.items():
        writing = _argument(flags) + _do(JUMP_SET, ACCESS_MODE, 2, 0)
        refused.append(
            _for_call(number, writing + _do(JUMP_SET, TRUNCATING, 0, 1) + _do(RETURN, REFUSE))
        )
    return refused


def _for_call(number: int, body: bytes) -> bytes:
    """`body`, reached with the call's number only; it starts from a fresh load."""
    length = len(body) // INSTRUCTION.size
    reload = _do(LOAD, OFFSET_NUMBER)
    return _do(JUMP_EQ, number, 0, length + 1) + body + reload


@functools.cache
def filter_program(
    machine: str | None = None, *, unix_sockets: bool = True, truncation: bool = True
) -> bytes:
    """The program for this machine (or the named one), as ``bwrap --seccomp`` reads it.

    Without `unix_sockets` only pairs of them can be made, which lead nowhere else. Without
    `truncation` a file can be emptied only by a process that has it open for writing.
    """
    table = _TABLES[machine or platform.machine()]
    program = [
        _do(LOAD, OFFSET_ARCH),
        _do(JUMP_EQ, table.arch, 1, 0),
        _do(RETURN, KILL_PROCESS),
        _do(LOAD, OFFSET_NUMBER),
        _do(JUMP_GE, X32, 0, 1),
        _do(RETURN, ABSENT),
    ]
    for numbers, action in ((table.refused, REFUSE), (table.absent, ABSENT)):
        for number in numbers:
            program += [_do(JUMP_EQ, number, 0, 1), _do(RETURN, action)]
    program.append(
        _for_call(
            table.clone,
            _argument(0) + _do(JUMP_SET, CLONE_NEW, 0, 1) + _do(RETURN, REFUSE),
        )
    )
    families = FAMILIES if unix_sockets else tuple(set(FAMILIES) - {AF_UNIX})
    program.append(_for_call(table.socket, _argument(0) + _refuse_others(families)))
    if not unix_sockets:
        kind = _argument(1) + _do(AND, TYPE_MASK) + _refuse_others(PAIR_TYPES)
        program.append(_for_call(table.socketpair, kind))
    if not truncation:
        program += _no_truncation(table)
    typing = b"".join(
        _do(JUMP_EQ, request, 0, 1) + _do(RETURN, REFUSE) for request in TERMINAL_INPUT
    )
    program.append(_for_call(table.ioctl, _argument(1) + typing))
    for number, mode in table.modes.items():
        program.append(_for_call(number, _refuse_bits(mode, SET_ID)))
    for number, mode in table.nodes.items():
        program.append(_for_call(number, _refuse_bits(mode, SET_ID | DEVICE)))
    for number, flags in table.renames.items():
        program.append(_for_call(number, _refuse_bits(flags, RENAME_WHITEOUT)))
    for number, (flags, mode) in table.creates.items():
        creating = _argument(flags) + _do(JUMP_SET, CREATING, 0, 3)
        program.append(_for_call(number, creating + _refuse_bits(mode, SET_ID)))
    program += [_do(JUMP_GE, LAST_KNOWN + 1, 0, 1), _do(RETURN, ABSENT), _do(RETURN, ALLOW)]
    return b"".join(program)
