"""Limits on memory, CPU and processes by control groups, of version 1, version 2 or both.

It finds where this process may make groups, says what a sandbox's groups are, makes
and removes them. Who joins a group, and when, is the launcher's business.

A group of version 1 is made below this process's own, so what limits this process
limits its sandboxes too. In version 2 a group that has processes cannot have children
with limits; there a sandbox's group is made beside this process's own, if nothing that
limits this process would be escaped by that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from paddock.backends.isolation.mounts import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paddock.sandbox import Resources

__all__ = [
    "Controller",
    "Group",
    "Place",
    "belongs_to",
    "make",
    "oom_kills",
    "place",
    "plan",
    "remove",
]

Controller = Literal["memory", "cpu", "pids"]

PREFIX = "paddock-"
PERIOD = 100_000
"""Microseconds in which a sandbox may use its share of CPU time: the kernel's default."""
LEAST_CPU = 0.01
"""Cores: the kernel takes no less than 1000 microseconds of a period."""
OWN_LIMITS = ("memory.max", "memory.high", "cpu.max", "pids.max")
REMOVE_DEADLINE = 10.0
"""Seconds for the processes of a group to end when killed: at once, unless the kernel
holds one in a disk wait."""
AT_ONCE = 64
"""Processes that are killed and watched together. The lowest numbers go first, and with
the first process of a sandbox the kernel ends all others."""
SETTLING = 0.01
"""Seconds until a group that was busy without a process is tried again. The last
process leaves its group a moment after its end is reported, and no event says when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The group below which groups with one `controller` can be made."""

    controller: Controller
    version: Literal[1, 2]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group that limits a sandbox: its directory, and the files to write there, in order."""

    path: Path
    settings: tuple[tuple[str, str], ...]
    optional: frozenset[str] = frozenset()
    """Files that a kernel may lack: the ones that count swap."""


# ------------------------------------------------------------------ where groups can be


def place(controller: Controller, proc: Path = Path("/proc/self")) -> Place | str:
    """Where groups with `controller` can be made by this process, or why nowhere.

    Raise `OSError` for a passing failure, such as a lack of descriptors.
    """
    try:
        mounts = (proc / "mountinfo").read_text()
        membership = (proc / "cgroup").read_text()
    except (FileNotFoundError, PermissionError) as error:
        return f"control groups cannot be read: {error}"
    found = _own_group(controller, mounts, membership)
    if found is None:
        return f"no control groups with the {controller} controller are mounted"
    version, top, own = found
    base = own if version == 1 else _unified_base(controller, top, own)
    if isinstance(base, str):
        return base
    if not (os.access(base, os.W_OK) and os.access(base / "cgroup.procs", os.W_OK)):
        return f"this user may not make control groups in {base}"
    return Place(controller=controller, version=version, path=base)


def _own_group(
    controller: Controller, mounts: str, membership: str
) -> tuple[Literal[1, 2], Path, Path] | None:
    """The version, the mount point and this process's own group where `controller` is."""
    paths = {}
    for line in membership.splitlines():
        _, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(","), path))
    unified: tuple[Literal[2], Path, Path] | None = None
    for mount in parse(mounts):
        first = mount.kind == "cgroup" and controller in mount.options
        member = paths.get(controller if first else "")
        if member is None or not (first or mount.kind == "cgroup2"):
            continue
        own = _below(mount.top, mount.root, member)
        if own is None:
            continue  # another part of the hierarchy is mounted there
        if first:  # a controller that version 1 has is not in version 2
            return 1, mount.top, own
        unified = unified or (2, mount.top, own)
    return unified


def _below(top: Path, root: str, member: str) -> Path | None:
    """Where the group `member` is in a mount at `top` that shows the hierarchy from `root` on."""
    group = PurePosixPath(member)
    if ".." in group.parts or not group.is_relative_to(root):
        return None
    own = top / group.relative_to(root)
    return own if own.is_dir() else None


def _unified_base(controller: Controller, top: Path, own: Path) -> Path | str:
    """Where a group of version 2 can be made, or why nowhere."""
    base = own
    if (own / "cgroup.type").exists():  # only the root of the hierarchy has none
        if own == top:
            return f"this process is in {own} itself, which can so have no groups with limits"
        base = own.parent
        for name in OWN_LIMITS:
            with contextlib.suppress(FileNotFoundError):
                if not (own / name).read_text().startswith("max"):
                    return f"{own} has a limit ({name}) that a group beside it would escape"
    enabled = base / "cgroup.subtree_control"
    try:
        names = enabled.read_text().split()
    except (FileNotFoundError, PermissionError) as error:
        return f"control groups cannot be read: {error}"
    return base if controller in names else f"{enabled} has only: {' '.join(names) or 'nothing'}"


# ------------------------------------------------------------------- what a group says


def plan(places: Iterable[Place], sandbox: str, wanted: Resources) -> tuple[Group, ...]:
    """The groups that hold a sandbox to what is `wanted`, as far as there are `places`."""
    settings: dict[Path, list[tuple[str, str]]] = {}
    for spot in places:
        if lines := _settings(spot, wanted):
            settings.setdefault(spot.path / (PREFIX + sandbox), []).extend(lines)
    swap = frozenset({"memory.memsw.limit_in_bytes", "memory.swap.max"})
    return tuple(
        Group(path=path, settings=tuple(lines), optional=swap) for path, lines in settings.items()
    )


def _settings(spot: Place, wanted: Resources) -> list[tuple[str, str]]:
    match spot.controller:
        case "memory":
            return _memory(spot.version, wanted.memory)
        case "cpu":
            return _cpu(spot.version, wanted.cpu)
        case "pids":
            return [] if wanted.pids is None else [("pids.max", str(wanted.pids))]


def _memory(version: Literal[1, 2], limit: int | None) -> list[tuple[str, str]]:
    if limit is None:
        return []
    if version == 2:
        return [("memory.max", str(limit)), ("memory.swap.max", "0")]
    # In this order: memory and swap together may never be less than memory alone.
    return [("memory.limit_in_bytes", str(limit)), ("memory.memsw.limit_in_bytes", str(limit))]


def _cpu(version: Literal[1, 2], cores: float | None) -> list[tuple[str, str]]:
    if cores is None:
        return []
    quota = round(cores * PERIOD)
    if version == 2:
        return [("cpu.max", f"{quota} {PERIOD}")]
    return [("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", str(quota))]


# --------------------------------------------------------------------- making, removing


def make(groups: Iterable[Group]) -> None:
    """Make the groups; on a failure the caller removes what there is."""
    for group in groups:
        group.path.mkdir()
        for name, value in group.settings:
            file = group.path / name
            if name not in group.optional or file.exists():
                file.write_text(value)


def oom_kills(groups: Iterable[Group]) -> int:
    """How many processes the kernel has killed there because memory had run out."""
    count = 0
    for group in groups:
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError):
                text = (group.path / name).read_text()
                count += sum(
                    int(found) for found in re.findall(r"^oom_kill (\d+)$", text, re.MULTILINE)
                )
    return count


def belongs_to(path: Path, sandbox: str) -> bool:
    """Return whether `path` is, or would be, a group that we made for this sandbox.

    It has its name, and is our user's in a hierarchy of control groups, reached without links.
    """
    if path.name != PREFIX + sandbox or os.path.realpath(path) != str(path):
        return False
    try:
        tops = [
            mount.top
            for mount in parse(Path("/proc/self/mountinfo").read_text())
            if mount.kind in ("cgroup", "cgroup2")
        ]
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return False
    return owner == os.getuid() and any(path.is_relative_to(top) for top in tops)


def remove(paths: Sequence[Path]) -> None:
    """Kill what is left in the groups, wait for its end, remove them; missing ones are well.

    Raises OSError (EBUSY) if processes have not ended after `REMOVE_DEADLINE` seconds.
    """
    deadline = time.monotonic() + REMOVE_DEADLINE
    for path in paths:
        while not _removed(path):
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "its processes do not end", str(path))
            if not _end_processes(path, deadline):
                time.sleep(SETTLING)


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _end_processes(path: Path, deadline: float) -> bool:
    """Kill processes of a group and wait for their end; False if there are none."""
    with contextlib.ExitStack() as opened:
        watched = {}
        for process in sorted(_members(path))[:AT_ONCE]:
            with contextlib.suppress(OSError):
                watched[process] = os.pidfd_open(process)
                opened.callback(os.close, watched[process])
        # A number may have passed to a stranger before it was opened, so look again.
        members = _members(path)
        ours = {fd for process, fd in watched.items() if process in members}
        waiting = select.poll()
        for fd in ours:
            waiting.register(fd, select.POLLIN)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        left = len(ours)
        while left and (patience := deadline - time.monotonic()) > 0:
            for fd, _ in waiting.poll(patience * 1000):
                waiting.unregister(fd)
                left -= 1
        return bool(ours)


def _members(path: Path) -> set[int]:
    try:
        return {int(line) for line in (path / "cgroup.procs").read_text().split()}
    except OSError:  # it has just been removed
        return set()
