"""Users of a sandbox: found in its own lists, and become.

The lists are read as container engines read them, without the system's name service: a guest
that is root then loads no code of the sandbox's for it, and waits for no daemon.
"""

from __future__ import annotations

import os
import sys

from .files import open_regular
from .shield import hide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping, Sequence

USERS, GROUPS = "/etc/passwd", "/etc/group"
LIST_MAX = 4 * 1024 * 1024
"""Bytes that are read of a list: a command may have written it."""
ID_MAX = 2**31 - 1
"""The largest that container engines take."""
LOADER = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT")
"""Variables that name what is loaded into a program."""


class UnknownUser(Exception):
    """The sandbox has no such user or group."""


class Account:
    """A user as a process has it."""

    def __init__(self, uid: int, gid: int, groups: Sequence[int], name: str, home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.name = name
        """Empty for a number that has none."""
        self.home = home

    def become(self) -> None:
        """Give up all other rights for good; until it executes a program, nothing looks inside."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        hide()  # a fork has all that the guest has open

    def log_in(self, env: MutableMapping[str, str], names: Iterable[str]) -> None:
        """Set those variables of `LOGIN` in `env` that are in `names`."""
        for name in names:
            value = self.home if name == "HOME" else self.name
            if value:
                env[name] = value
            else:
                env.pop(name, None)

    def acting(self) -> Acting:
        """Touch files with this user's rights, and no others, in this process of root's.

        Its real and saved ids stay root's, so that the user can neither signal nor trace it.
        """
        return Acting(self.uid)

    def can_replace(self, path: str) -> bool:
        """Whether this user could put something else where `path` leads to; call it `acting`."""
        while not os.path.exists(path):
            path = os.path.dirname(path)
        while True:
            if os.stat(path).st_uid == self.uid or os.access(path, os.W_OK, effective_ids=True):
                return True
            if path == "/":
                return False
            path = os.path.dirname(path)


class Acting:
    """The block in which root has a user's rights."""

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def __enter__(self) -> None:
        os.seteuid(self.uid)

    def __exit__(self, *error: object) -> None:
        os.seteuid(0)
        hide()  # a kernel whose fs.suid_dumpable is 1 takes the change for a reason not to


def foundations() -> set[str]:
    """Return what this interpreter was found by and is made of: files and directories."""
    paths = [path for path in sys.path if path]
    for name in ("PATH", *LOADER):
        for folder in os.environ.get(name, "").replace(" ", ":").split(":"):
            paths.append(folder)
            if name == "PATH" and os.path.exists(os.path.join(folder, "python3")):
                break
    with open("/proc/self/maps", errors="surrogateescape") as file:
        for line in file:
            paths += line.split(None, 5)[5:]
    return {os.path.realpath(path.strip()) for path in paths if path.startswith("/")}


def find_account(wanted: str) -> Account:
    """``name``, ``uid``, ``name:group`` or ``uid:gid``, as container engines take them.

    With a group, that is the only one; without, the user's own and those that list the user.
    Raise `UnknownUser` if the sandbox does not have it.
    """
    user, _, group = wanted.partition(":")
    name, uid, gid, home = find_user(user)
    groups = [each for each in entries(GROUPS, 4) if number_of(each[2]) is not None]
    if group:
        gid = number_of(group)
        for each in groups:
            if group in (each[0], each[2]):
                gid = number_of(each[2])
                break
    if uid is None or gid is None:
        raise UnknownUser(wanted)
    listed = {int(each[2]) for each in groups if name and not group and name in each[3].split(",")}
    return Account(uid, gid, sorted({gid, *listed}), name, home)


def find_user(wanted: str) -> tuple[str, int | None, int | None, str]:
    """Return a user's name, ids and home; no id for an unknown name."""
    number = number_of(wanted)
    for name, _, uid, gid, _, home in entries(USERS, 6):
        ids = number_of(uid), number_of(gid)
        if None not in ids and (name == wanted or (number is not None and ids[0] == number)):
            return name, *ids, home or "/"
    return "", number, 0, "/"


def find_user_id(wanted: str) -> int:
    """Return the number of a user. Raise `UnknownUser`."""
    uid = find_user(wanted)[1]
    if uid is None:
        raise UnknownUser(wanted)
    return uid


def find_group_id(wanted: str) -> int:
    """Return the number of a group. Raise `UnknownUser`."""
    for name, _, gid in entries(GROUPS, 3):
        found = number_of(gid)
        if name == wanted and found is not None:
            return found
    number = number_of(wanted)
    if number is None:
        raise UnknownUser(wanted)
    return number


def entries(path: str, count: int) -> Iterator[list[str]]:
    """The first `count` fields of a list's entries; none where there is no list."""
    try:
        fd = open_regular(path)
    except OSError:
        return
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        for line in file.read(LIST_MAX).splitlines():
            fields = line.strip().split(":")
            if len(fields) >= count:
                yield fields[:count]


def number_of(text: str) -> int | None:
    """The id that is written in `text`, if one is."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(ID_MAX)):
        return None
    return int(text) if int(text) <= ID_MAX else None
