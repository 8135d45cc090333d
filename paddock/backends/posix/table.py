"""The processes of a container, and which of them belong to a command; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["Entry", "members", "parse"]

STAT = re.compile(r"(\S+) (\d+) \(.*\) (\S) (\d+) (\d+) (\d+) (?:\S+ ){15}(\d+) .*", re.DOTALL)
"""A key and a line of ``/proc/PID/stat``: of its fields the number, the state, parent, group,
session and the time of its start. The name, which may hold anything, ends at the last `)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One process. `key` is the command's that its environment names."""

    key: str
    pid: int
    parent: int
    group: int
    session: int
    started: int


def parse(lines: Iterable[str]) -> list[Entry]:
    """The processes that a scan has seen, but for those that are only waiting to be reaped."""
    found = []
    for line in lines:
        match = STAT.fullmatch(line)
        if match is None or match[3] == "Z":
            continue
        pid, parent, group, session, started = (int(match[n]) for n in (2, 4, 5, 6, 7))
        found.append(
            Entry(
                key=match[1], pid=pid, parent=parent, group=group, session=session, started=started
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
