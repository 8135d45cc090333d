"""Processes of this machine, told by their command lines and by whose children they are."""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LEAVING",
    "descendants",
    "parent_of",
    "processes_with",
    "wait_until",
    "wait_until_gone",
    "wait_until_there",
]

LEAVING = 5.0
"""Seconds that a stopped command may take to clean up (reliability C47)."""


def processes_with(mark: str) -> set[int]:
    """The processes of this machine that have `mark` on their command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until_gone(mark: str) -> None:
    for process in processes_with(mark):
        with contextlib.suppress(ProcessLookupError):
            watched = os.pidfd_open(process)
            try:
                ended, _, _ = select.select([watched], [], [], LEAVING)
            finally:
                os.close(watched)
            assert ended, f"process {process} is still there"


def wait_until(condition: Callable[[], bool], *, within: float, otherwise: str) -> None:
    """Wait for what no event tells; after `within` seconds fail as `otherwise` says. Blocks."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


def wait_until_there(mark: str) -> None:
    wait_until(lambda: bool(processes_with(mark)), within=LEAVING, otherwise="it was not started")


def descendants(process: int) -> set[int]:
    """All below `process`, without itself."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    children = {int(number) for path in lists for number in path.read_text().split()}
    return children.union(*map(descendants, children))


def parent_of(process: int) -> int:
    """The parent's id."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"^PPid:\t(\d+)$", status, re.MULTILINE)
    assert found is not None
    return int(found[1])
