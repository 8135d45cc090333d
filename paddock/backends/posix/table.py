"""The processes of a container, and which of them belong to a command; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from paddock.process import SignalTarget

__all__ = ["Entry", "members", "parse", "targets"]

STAT = re.compile(
    r"(\S+) (\d+) \(.*\) (\S) (\d+) (\d+) (\d+) \S+ (-?\d+) (?:\S+ ){13}(\d+) .*", re.DOTALL
)
"""A key and a line of ``/proc/PID/stat``: of its fields the number, the state, parent, group,
session, the foreground group of its terminal and the time of its start. The name, which may hold
anything, ends at the last `)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One process. `key` is the command's that its environment names."""

    key: str
    pid: int
    parent: int
    group: int
    session: int
    foreground: int
    """The foreground group of its terminal; not positive without one."""
    started: int


def parse(lines: Iterable[str]) -> list[Entry]:
    """The processes that a scan has seen, but for those that are only waiting to be reaped."""
    found = []
    for line in lines:
        match = STAT.fullmatch(line)
        if match is None or match[3] == "Z":
            continue
        pid, parent, group, session, foreground, started = (
            int(match[n]) for n in (2, 4, 5, 6, 7, 8)
        )
        found.append(
            Entry(
                key=match[1],
                pid=pid,
                parent=parent,
                group=group,
                session=session,
                foreground=foreground,
                started=started,
            )
        )
    return found


def members(
    table: Collection[Entry], *, key: str, root: int | None, known: Collection[tuple[int, int]]
) -> list[Entry]:
    """Those of a command: with its `key` in their environment, of the session that `root` leads,
    `known` from before by number and start, or with a parent among them."""
    pids: set[int] = set()
    found: list[Entry] = []
    rest = list(table)
    while True:
        new = [
            one
            for one in rest
            if one.key == key
            or one.session == root
            or one.parent in pids
            or (one.pid, one.started) in known
        ]
        if not new:
            return found
        found += new
        pids |= {one.pid for one in new}
        rest = [one for one in rest if one.pid not in pids]


def targets(
    table: Collection[Entry], to: SignalTarget, *, key: str, root: int, leader: int
) -> list[int]:
    """Whom a signal to a command reaches, of which `leader` leads and `root` is the wrapper.

    The wrapper is spared: it has to say how the command ends.
    """
    tree = [one for one in members(table, key=key, root=root, known=()) if one.pid != root]
    if to == "tree":
        return [one.pid for one in tree]
    found = {one.pid: one for one in tree}
    if leader not in found:
        return []
    group = found[leader].group if to == "group" else found[leader].foreground
    return [one.pid for one in tree if one.group == group] or [leader]
