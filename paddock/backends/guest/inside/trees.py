"""Trees of processes: who is below whom, and how to end them all."""

from __future__ import annotations

import os
import signal
import time

try:
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)
except (ImportError, OSError):  # no libffi, or no dynamic libc
    _libc = None

KILL_ROUND = 0.004
"""Seconds between two looks at a tree that is being killed."""
reset_signals = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ]
"""Signals that this interpreter ignores or handles, and a command shall not."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


can_adopt = _libc is not None
"""Whether a process can become a sub-reaper here; without, what leaves its tree is lost."""


def prctl(option, value):
    if _libc is not None:
        _libc.prctl(option, value, 0, 0, 0)


def children_of(pid):
    """Ids of the direct children of `pid`, oldest first; those of all its threads."""
    found = []
    try:
        for thread in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, thread), "rb") as file:
                found.extend(int(word) for word in file.read().split())
    except OSError:
        pass  # it has ended meanwhile
    return found


def children_by_scan(pid):
    """The same for a kernel without the `children` files: a look at every process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as file:
                    parent = file.read().rpartition(b")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == pid:
                found.append(int(name))
    return sorted(found)


if not os.path.exists("/proc/self/task/%d/children" % os.getpid()):
    children_of = children_by_scan


def descendants(pid):
    """Ids of all processes below `pid`, parents first."""
    found = []
    waiting = [pid]
    while waiting:
        below = children_of(waiting.pop())
        found += below
        waiting += below
    return found


def send_signal(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it has ended, or has changed its user: then the sandbox's end is its end


def stop_and_kill(pids_of):
    """SIGKILL all that `pids_of()` lists, stopping them first so that none can fork meanwhile."""
    seen = set()
    while True:
        fresh = [pid for pid in pids_of() if pid not in seen]
        if not fresh:
            break
        for pid in fresh:
            send_signal(pid, signal.SIGSTOP)
        seen.update(fresh)
    for pid in seen:
        send_signal(pid, signal.SIGKILL)


def kill_all_below():
    """Kill every process below this one, reap them, and exit."""
    me = os.getpid()
    while True:
        stop_and_kill(lambda: descendants(me))
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            os._exit(0)
        time.sleep(KILL_ROUND)
