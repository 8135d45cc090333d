"""System calls that a fenced command may not make, as a BPF program for seccomp(2).

Landlock decides which files a command may write. It knows nothing of modes, owners, times
and attributes, of sockets other than TCP, of System V IPC, and of limits and priorities of
other processes; and before its sixth version nothing of signals. This filter refuses those.
What widens or bypasses a fence (namespaces, mounts, io_uring, other processes' memory) is
refused as well, since not every sandbox has a filter of its own.

Numbers are those of Linux's ``unistd`` tables, by architecture.
"""

from __future__ import annotations

import errno
import struct

INSTRUCTION = struct.Struct("=HBBI")
LOAD, JUMP_EQ, JUMP_GE, JUMP_SET, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
OFFSET_NUMBER, OFFSET_ARCH, OFFSET_ARGUMENTS = 0, 4, 16
ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
REFUSE = 0x00050000 | errno.EPERM
NO_TERMINAL = 0x00050000 | errno.ENOTTY
ABSENT = 0x00050000 | errno.ENOSYS
X32 = 0x40000000
"""Bit of the x32 variants, which would pass by the table."""
LAST_KNOWN = 470
"""Calls above this number are younger than the table; they answer as on an older kernel."""

SAME_EVERYWHERE = """
io_uring_setup=425 io_uring_enter=426 io_uring_register=427 open_tree=428 move_mount=429
fsopen=430 fsconfig=431 fsmount=432 fspick=433 pidfd_getfd=438 process_madvise=440
mount_setattr=442 quotactl_fd=443 process_mrelease=448 fchmodat2=452 setxattrat=463
removexattrat=466 open_tree_attr=467 file_setattr=469
"""
ON_X86_64 = """
chmod=90 fchmod=91 chown=92 fchown=93 lchown=94 fchownat=260 fchmodat=268 utime=132 utimes=235
futimesat=261 utimensat=280 setxattr=188 lsetxattr=189 fsetxattr=190 removexattr=197
lremovexattr=198 fremovexattr=199 ptrace=101 process_vm_readv=310 process_vm_writev=311
kcmp=312 setpriority=141 ioprio_set=251 sched_setparam=142 sched_setscheduler=144
sched_setaffinity=203 sched_setattr=314 migrate_pages=256 move_pages=279 shmget=29 shmat=30
shmctl=31 semget=64 semop=65 semctl=66 semtimedop=220 msgget=68 msgsnd=69 msgrcv=70 msgctl=71
mq_open=240 mq_unlink=241 add_key=248 request_key=249 keyctl=250 mount=165 umount2=166
pivot_root=155 chroot=161 swapon=167 swapoff=168 unshare=272 setns=308 reboot=169 acct=163
quotactl=179 settimeofday=164 clock_settime=227 clock_adjtime=305 adjtimex=159
sethostname=170 setdomainname=171 iopl=172 ioperm=173 init_module=175 delete_module=176
finit_module=313 kexec_load=246 kexec_file_load=320 uselib=134 vhangup=153 syslog=103 bpf=321
userfaultfd=323 perf_event_open=298 fanotify_init=300 open_by_handle_at=304
"""
ON_AARCH64 = """
fchmod=52 fchmodat=53 fchownat=54 fchown=55 utimensat=88 setxattr=5 lsetxattr=6 fsetxattr=7
removexattr=14 lremovexattr=15 fremovexattr=16 ptrace=117 process_vm_readv=270
process_vm_writev=271 kcmp=272 setpriority=140 ioprio_set=30 sched_setparam=118
sched_setscheduler=119 sched_setaffinity=122 sched_setattr=274 migrate_pages=238
move_pages=239 shmget=194 shmctl=195 shmat=196 semget=190 semctl=191 semtimedop=192 semop=193
msgget=186 msgctl=187 msgrcv=188 msgsnd=189 mq_open=180 mq_unlink=181 add_key=217
request_key=218 keyctl=219 mount=40 umount2=39 pivot_root=41 chroot=51 swapon=224 swapoff=225
unshare=97 setns=268 reboot=142 acct=89 quotactl=60 settimeofday=170 clock_settime=112
clock_adjtime=266 adjtimex=171 sethostname=161 setdomainname=162 init_module=105
delete_module=106 finit_module=273 kexec_load=104 kexec_file_load=294 vhangup=58 syslog=116
bpf=280 userfaultfd=282 perf_event_open=241 fanotify_init=262 open_by_handle_at=265
"""
SIGNALLING = {
    "x86_64": "kill=62 tkill=200 tgkill=234 rt_sigqueueinfo=129 rt_tgsigqueueinfo=297 "
    "pidfd_send_signal=424",
    "aarch64": "kill=129 tkill=130 tgkill=131 rt_sigqueueinfo=138 rt_tgsigqueueinfo=240 "
    "pidfd_send_signal=424",
}
"""Refused where Landlock does not confine signals."""
TRUNCATE = {"x86_64": 76, "aarch64": 45}
"""Refused where Landlock does not confine it."""
WITH_ARGUMENTS = {
    "x86_64": {"clone": 56, "clone3": 435, "socket": 41, "socketpair": 53, "ioctl": 16,
               "fcntl": 72, "prlimit64": 302},
    "aarch64": {"clone": 220, "clone3": 435, "socket": 198, "socketpair": 199, "ioctl": 29,
                "fcntl": 25, "prlimit64": 261},
}  # fmt: skip
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
REFUSED = {"x86_64": ON_X86_64, "aarch64": ON_AARCH64}

CLONE_NEW = 0x7E020000
"""The flags of clone(2) that make a namespace."""
INTERNET = (2, 10)
"""AF_INET and AF_INET6. A socket of AF_UNIX could ask a daemon outside the fence to write."""
SOCK_TYPE, SOCK_DGRAM = 0xF, 2
SET_OWNER = (8, 15)
"""F_SETOWN and F_SETOWN_EX: they have signals sent to another process."""
READING = (
    *(0x5401, 0x540F, 0x5411, 0x5413, 0x541B, 0x5429),  # TCGETS ... FIONREAD, TIOCGSID
    *(0x5421, 0x5450, 0x5451, 0x5452, 0x5460),  # FIONBIO, FIO(N)CLEX, FIOASYNC, FIOQSIZE
    *(0x802C542A, 0x80045430, 2),  # TCGETS2, TIOCGPTN, FIGETBSZ
    *(0x80086601, 0x801C581F, 0xC020660B),  # FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FIEMAP
    *(0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933),  # SIOCGIF*
)
"""What ioctl(2) may ask for. Others change attributes or subvolumes, also of a file that is
only open for reading."""


def filter_program(machine: str, *, network: bool, signals: bool, truncation: bool) -> bytes:
    """The filter for a kind of machine; `KeyError` where there is no table for it.

    With `network` there are TCP and UDP; `signals` and `truncation` tell that Landlock
    confines these.
    """
    tables = [SAME_EVERYWHERE, REFUSED[machine], "" if signals else SIGNALLING[machine]]
    refused = [int(entry.partition("=")[2]) for entry in " ".join(tables).split()]
    refused += [] if truncation else [TRUNCATE[machine]]
    program = [
        _do(LOAD, OFFSET_ARCH),
        _do(JUMP_EQ, ARCHITECTURES[machine], 1, 0),
        _do(RETURN, KILL_PROCESS),
        _do(LOAD, OFFSET_NUMBER),
        _do(JUMP_GE, X32, 0, 1),
        _do(RETURN, ABSENT),
    ]
    for number in refused:
        program += [_do(JUMP_EQ, number, 0, 1), _do(RETURN, REFUSE)]
    program += _by_arguments(WITH_ARGUMENTS[machine], INTERNET if network else ())
    program += [_do(JUMP_GE, LAST_KNOWN + 1, 0, 1), _do(RETURN, ABSENT), _do(RETURN, ALLOW)]
    return b"".join(program)


def _by_arguments(numbers: dict[str, int], families: tuple[int, ...]) -> list[bytes]:
    refuse, allow, absent = _do(RETURN, REFUSE), _do(RETURN, ALLOW), _do(RETURN, ABSENT)
    bodies = {
        "clone": _argument(0) + _do(JUMP_SET, CLONE_NEW, 0, 1) + refuse + allow,
        "clone3": absent,  # its flags are behind a pointer; it has an older twin
        "socket": _argument(0) + _one_of(families, allow) + refuse,
        # A pair of datagram sockets can send to any other by its name.
        "socketpair": _argument(1) + _do(AND, SOCK_TYPE) + _one_of((SOCK_DGRAM,), refuse) + allow,
        "ioctl": _argument(1) + _one_of(READING, allow) + _do(RETURN, NO_TERMINAL),
        "fcntl": _argument(1) + _one_of(SET_OWNER, refuse) + allow,
        "prlimit64": _argument(0) + _one_of((0,), allow) + refuse,  # others' limits
    }
    return [_for_call(numbers[name], body) for name, body in bodies.items()]


def _one_of(values: tuple[int, ...], verdict: bytes) -> bytes:
    return b"".join(_do(JUMP_EQ, value, 0, 1) + verdict for value in values)


def _for_call(number: int, body: bytes) -> bytes:
    return _do(JUMP_EQ, number, 0, len(body) // INSTRUCTION.size) + body


def _argument(index: int) -> bytes:
    # The low half: the calls in question take 32-bit values, on little-endian machines.
    return _do(LOAD, OFFSET_ARGUMENTS + 8 * index)


def _do(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return INSTRUCTION.pack(code, if_true, if_false, value)
