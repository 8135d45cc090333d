"""Before bubblewrap starts: join control groups, mount, drop root's rights, become it.

All that a sandbox runs is a child of this process, so what has joined a group here is
held by its limits from the start. The mounts and the rights are root's part:
bubblewrap run by root keeps the rights of root over files of the kernel such as
``core_pattern``, whatever it drops; so the user is changed before it starts.
A user without rights cannot reach a directory below one that is closed to others;
so all that bubblewrap needs is mounted at `STAGE` first, in a mount namespace that
only this process has. A working directory is mounted with its owner mapped to
the sandbox's user (mount_setattr(2), MOUNT_ATTR_IDMAP): nothing on disk is chowned.

Runs in a fork of the fork server; standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from typing import TYPE_CHECKING, Any

from . import copies

if TYPE_CHECKING:
    from typing import NoReturn

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 1, 6
FS_CLOEXEC = 1
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_SLAVE = 0x4000, 0x80000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, AT_RECURSIVE, AT_EMPTY_PATH = 1, 0o2000000, 0x8000, 0x1000
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_IDMAP = 2, 4, 0x00100000
PR_SET_NO_NEW_PRIVS = 38
AT_FDCWD = -100

STAGE = "/tmp"
"""Where the mounts are put, over what is there, for bubblewrap to find by name."""

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def join(group: str) -> None:
    fd = os.open(f"{group}/cgroup.procs", os.O_WRONLY)
    try:
        os.write(fd, b"0")  # this process
    except OSError as error:
        raise OSError(error.errno, error.strerror, group) from None
    finally:
        os.close(fd)


def id_mapping(owner: int, group: int, uid: int) -> int:
    """A user namespace, as a descriptor, that maps `owner` on disk to `uid` in the mount."""
    ready, say_ready = os.pipe()
    wait, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            checked(libc.unshare(CLONE_NEWUSER), "unshare")
            os.write(say_ready, b"1")
            os.close(let_go)
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(say_ready)
    try:
        if not os.read(ready, 1):
            raise OSError("user namespaces are not available")
        for name, inside in (("uid_map", owner), ("gid_map", group)):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(f"{inside} {uid} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    finally:
        for fd in (ready, wait, let_go):
            os.close(fd)
        os.waitpid(child, 0)


def picked(source: str, mapping: int | None) -> int:
    """A detached mount of `source`, with its owner mapped if a `mapping` is given."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (0 if mapping is not None else AT_RECURSIVE)
    tree = checked(libc.syscall(OPEN_TREE, AT_FDCWD, os.fsencode(source), flags), source)
    attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    if mapping is not None:
        attributes |= MOUNT_ATTR_IDMAP
    wanted = struct.pack("QQQQ", attributes, 0, 0, mapping or 0)
    checked(
        libc.syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, wanted, len(wanted)),
        f"{source} cannot be mounted with another owner",
    )
    return tree


def put(tree: int, target: str) -> None:
    """Attach a detached mount at `target`."""
    flags = MOVE_MOUNT_F_EMPTY_PATH
    checked(libc.syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), flags), target)
    os.close(tree)


def become(uid: int, gid: int) -> None:
    """Drop every right for good."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def new_stage(etc: dict[str, Any]) -> int:
    """A detached mount of a new file system in memory.

    It has an `etc` of new files, and with places for what is mounted in it.
    """
    context = checked(libc.syscall(FSOPEN, b"tmpfs", FS_CLOEXEC), "fsopen")
    try:
        for key, value in ((b"mode", b"755"), (b"size", b"4m")):
            setting = (context, FSCONFIG_SET_STRING, key, value, 0)
            checked(libc.syscall(FSCONFIG, *setting), "fsconfig")
        made = libc.syscall(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        checked(made, "a file system in memory")
        tree = checked(libc.syscall(FSMOUNT, context, FS_CLOEXEC, 0), "fsmount")
    finally:
        os.close(context)
    copies.write(f"/proc/self/fd/{tree}/etc", **etc)
    return tree


def stage(mounts: list[tuple[str, str, bool]], made: int, uid: int) -> None:
    """Mount each source at its name below `STAGE`, with its owner mapped to `uid` if so told.

    What else is there is what `new_stage` has made.
    """
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    checked(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None), "mount")
    trees = {}
    for name, source, mapped in mounts:
        mapping = None
        if mapped:
            info = os.stat(source)
            mapping = id_mapping(info.st_uid, info.st_gid, uid)
        trees[name] = picked(source, mapping)
    # Sources may lie below the stage, so it is covered only now.
    put(made, STAGE)
    for name, tree in trees.items():
        target = f"{STAGE}/{name}"
        if not os.path.exists(target):
            os.mkdir(target)
        put(tree, target)


def launch(orders: dict[str, Any]) -> NoReturn:
    """Become bubblewrap; raise `OSError` that names what could not be done."""
    for group in orders["groups"]:
        join(group)
    if orders["uid"] is not None:
        made = orders["stage"] if "stage" in orders else new_stage(orders["etc"])
        stage(orders["mounts"], made, orders["uid"])
        become(orders["uid"], orders["uid"])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which this interpreter ignores
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(orders["argv"][0], orders["argv"], {})
    except OSError as error:
        what = f"{orders['argv'][0]} cannot be run"
        raise OSError(error.errno, error.strerror, what) from None
