"""Trees of processes: parents, children, and how to end them all."""

from __future__ import annotations

import os
import time

from .light import signal, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

KILL_ROUND = 0.004
"""Seconds between two looks at a tree that is being killed."""
FIRST_ROUND = 0.0005
"""Seconds until the second look at the end of a guest, of which mostly one process is left."""
KILL_PASSES = 16
"""Looks at a tree in one round: a fork bomb is stopped in two or three. The loop is held
up for so long, so what has no end continues in the next round."""


def _children_listed(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it has ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(int(word) for word in file.read().split())
    return found


def _children_scanned(pid: int) -> list[int]:
    """The same for a kernel without the `children` files: a look at every process."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = file.read().rpartition(b")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == pid:
                found.append(int(name))
    return sorted(found)


children_of: Callable[[int], list[int]] = (
    _children_listed
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children")
    else _children_scanned
)
"""Ids of the direct children of a process, oldest first; those of all its threads. While
some of them end, others may be missing: a tree is looked at until nothing is new."""


def descendants(pid: int) -> list[int]:
    """Ids of all processes below `pid`, parents first."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children_of(waiting.pop())
        found += below
        waiting += below
    return found


def send_signal(pid: int, number: int) -> None:
    # It has ended, or has changed its user: then the sandbox's end is its end.
    with suppress(OSError):
        os.kill(pid, number)


def stop_and_kill(tops_of: Callable[[], Iterable[int]]) -> None:
    """SIGKILL the processes that `tops_of()` lists and all below, as far as one round goes.

    Each is stopped before its children are looked up, so that it makes no more of them.
    """
    stopped: set[int] = set()
    for _ in range(KILL_PASSES):
        before = len(stopped)
        waiting = list(tops_of())
        while waiting:
            pid = waiting.pop()
            if pid not in stopped:
                send_signal(pid, signal.SIGSTOP)
                stopped.add(pid)
            waiting += children_of(pid)
        if len(stopped) == before:
            break
    for pid in stopped:
        send_signal(pid, signal.SIGKILL)


def kill_all_below(status: int = 0) -> NoReturn:
    """Kill every process below this one, reap them, and exit with `status`."""
    me = os.getpid()
    if me == 1:
        os._exit(status)  # the kernel kills all others, and waits for their end
    pause = FIRST_ROUND
    while True:
        stop_and_kill(lambda: children_of(me))
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            os._exit(status)
        time.sleep(pause)
        pause = min(2 * pause, KILL_ROUND)
