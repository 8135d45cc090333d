"""Landlock: a process gives up rights, for itself and for its children.

The kernel needs no privileges for it and the rules cannot be taken back. What a kernel
can restrict depends on its Landlock ABI; a right that it does not know stays unrestricted,
so a caller whose promise needs a certain ABI compares `abi()` first:

- 1 (Linux 5.13): opening, making, renaming and removing files; ptrace, which also guards
  other processes' memory, environment, descriptors and working directory in /proc.
- 2 (5.19): links and renames between directories; before, they always fail.
- 3 (6.2): truncation; before, any file that the user may write can be emptied.
- 4 (6.7): TCP, connecting and binding.
- 5 (6.10): ioctl on devices.
- 6 (6.12): signals and abstract Unix sockets that lead out of the domain.

Never restricted: looking at names and metadata, changing modes, owners, times and
attributes of files, Unix sockets that have a path, UDP, and what was open before.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

try:
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)
except (ImportError, OSError):  # no libffi, no dynamic libc
    _libc = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls; their numbers are the same on every architecture."""
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
FIRST_FILES = (1 << 13) - 1
"""All rights to files of ABI 1."""
TCP = 0b11
"""BIND_TCP and CONNECT_TCP."""
SCOPES = 0b11
"""ABSTRACT_UNIX_SOCKET and SIGNAL."""
TRUNCATE_ABI, TCP_ABI, SCOPE_ABI = 3, 4, 6
"""The first ABI that restricts truncation, TCP, and signals with abstract sockets."""

ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that a rule for something other than a directory may have."""
READING = EXECUTE | READ_FILE | READ_DIR
DEVICES = MAKE_CHAR | MAKE_BLOCK


def abi() -> int:
    """Return the kernel's Landlock ABI; 0 where there is none, or no way to call it.

    Raise `OSError` for a failure that says nothing about the kernel, as a lack of memory.
    """
    try:
        return _call(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION)
    except OSError as error:
        # EOPNOTSUPP: built in, and turned off at boot. EPERM: a seccomp filter.
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


class RuleSet:
    """What a process may still do; a context manager, closed on leaving it.

    Everything that is not allowed is refused, as far as the kernel's ABI goes. One rule set
    may be made in a parent and applied in many children.

    `readable` and `writable` are paths of files or of directories, with all below them; the
    writable ones can be read, too. Programs in both can be run. Paths that do not exist are
    left out. `tcp` leaves TCP as it is; without it, it raises `OSError` (ENOTSUP) on a
    kernel that cannot restrict TCP, rather than to leave it open.
    """

    def __init__(
        self, *, readable: Iterable[str], writable: Iterable[str], tcp: bool = False
    ) -> None:
        found = abi()
        if not found or (not tcp and found < TCP_ABI):
            what = "TCP cannot be restricted" if found else "Landlock is not available"
            raise OSError(errno.ENOTSUP, f"{what} by this kernel (Landlock ABI {found})")
        self.files = handled_files(found)
        attributes = struct.pack(
            "=QQQ", self.files, 0 if tcp else TCP, SCOPES if found >= SCOPE_ABI else 0
        )
        # An older kernel takes a longer structure if what it does not know is 0.
        self.fd = _call(CREATE_RULESET, attributes, len(attributes), 0)
        try:
            os.set_inheritable(self.fd, False)
            for path in readable:
                self._allow(path, READING)
            for path in writable:
                self._allow(path, self.files & ~DEVICES)
        except BaseException:
            self.close()
            raise

    def _allow(self, path: str, rights: int) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= ON_FILES
            rule = struct.pack("=Qi", rights & self.files, fd)
            _call(ADD_RULE, self.fd, RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(fd)

    def restrict(self) -> None:
        """Apply the rules to the calling thread and to what it starts, for good.

        Call it where there is one thread: after a fork, before exec.
        """
        _checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _call(RESTRICT_SELF, self.fd, 0)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> RuleSet:  # noqa: PYI034 - Python 3.8 has no Self
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def handled_files(found: int) -> int:
    """Return all rights to files that a kernel with the ABI `found` can restrict."""
    rights = FIRST_FILES
    for right, since in ((REFER, 2), (TRUNCATE, 3), (IOCTL_DEV, 5)):
        if found >= since:
            rights |= right
    return rights


def _call(number: int, *arguments: int | bytes | None) -> int:
    if _libc is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _checked(
        _libc.syscall(
            ctypes.c_long(number),
            *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments),
        )
    )


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
