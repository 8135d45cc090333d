"""What runs on the host of an SSH sandbox: it makes the sandbox's directory, starts the guest in
it, and removes all of it when the guest has ended, however it ended.

It is sent as text, so it uses the standard library of Python 3.8 alone. A sandbox is a directory
and a lock file beside it, which its keeper holds with flock(2) for as long as it lives. What
nobody holds was left by a keeper that was killed, and `sweep` removes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import glob
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PLACE = "/tmp/paddock-ssh-"
LOCK = ".lock"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FREE_UIDS = (1_900_000_000, 1_950_000_000)
"""Root's fenced sandboxes run as one of these users, who are nobody else."""
REMOVED = 20.0
"""Seconds for a keeper that was asked to end to remove its sandbox."""
REAP_PAUSE = 0.005
"""Seconds between two looks for killed children: no event reports all of them."""
END_PAUSE = 0.05
"""Seconds between two looks whether another keeper has ended."""


def take(path: str, flags: int = 0) -> int | None:
    """Return the lock, held; None if it is held, gone, or not ours."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)
    except OSError:
        return None
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid():
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == info.st_ino:
                return fd
        except OSError:
            pass
    os.close(fd)
    return None


def read(path: str) -> Any:
    """Return what a keeper says of its sandbox; None if it is not ours, or not whole."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            return json.load(file) if os.fstat(file.fileno()).st_uid == os.getuid() else None
    except (OSError, ValueError):
        return None


def remove(lock: int, folder: str) -> None:
    """Remove a directory of any depth, and the lock; the system's rm does not follow links."""
    command = ["rm", "-rf", "--", folder]
    if subprocess.call(command, stderr=subprocess.DEVNULL):
        subprocess.call(["chmod", "-R", "u+rwX", "--", folder], stderr=subprocess.DEVNULL)
        subprocess.call(command)
    if not os.path.lexists(folder):
        os.unlink(folder + LOCK)
    os.close(lock)


def keep(
    name: str, about: dict[str, Any], command: list[str], files: dict[str, str], work: str | None
) -> int:
    """Be the keeper of a new sandbox; return how its guest ended, as a shell has it.

    `files` are made below its directory; with any, the guest runs under a fence. `work` is a
    directory to work in that stays.
    """
    folder = PLACE + name
    lock = take(folder + LOCK, os.O_CREAT | os.O_EXCL)
    if lock is None:
        sys.exit(f"{folder} exists")
    about.update(pid=os.getpid(), created=time.time())
    os.write(lock, json.dumps(about).encode())
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        furnish(folder, files, work)
        user = other_user(folder, work) if files and os.getuid() == 0 else None
        guest = start(command, folder, user, prctl)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)  # the stream ends with the guest
        os.dup2(null, 1)
        while True:
            pid, status = os.wait()
            if pid == guest:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + status % 128
    finally:
        end_children()
        remove(lock, folder)


def furnish(folder: str, files: dict[str, str], work: str | None) -> None:
    if work is not None:
        os.makedirs(work, exist_ok=True)
    for path in ("", "/home", "/output", "/work", "/etc"):
        os.mkdir(folder + path, 0o700)
    for path, text in files.items():
        with open(folder + "/" + path, "w") as file:
            file.write(text)


def other_user(folder: str, work: str | None) -> int:
    """Give the directory to whom root's fenced sandbox runs as, and return that user: the owner of
    `work`, or else nobody else."""
    user = random.SystemRandom().randrange(*FREE_UIDS) if work is None else os.stat(work).st_uid
    if user == 0:
        sys.exit(f"paddock: bwrap: {work} is root's, and nothing fenced runs as root")
    for place, _, names in os.walk(folder):
        for path in [place] + [os.path.join(place, name) for name in names]:
            os.chown(path, user, user)
    return user


def start(command: list[str], folder: str, user: int | None, prctl: Callable[..., int]) -> int:
    keeper = os.getpid()
    guest = os.fork()
    if guest:
        return guest
    try:
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.chdir("/")
        path = os.environ.get("PATH", os.defpath)
        env = {"PATH": path, "HOME": f"{folder}/home", "LANG": "C.UTF-8", "TERM": "dumb"}
        if os.getppid() == keeper:
            os.execvpe(command[0], command, env)
    except OSError as error:
        sys.stderr.write(f"paddock: {command[0]}: {error.strerror}\n")
    finally:
        os._exit(127)


def end_children() -> None:
    """Kill the children, and theirs, which become ours; return when there are none."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    while True:
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, "rb") as file:
                    parent = file.read().rpartition(b")")[2].split()[1]
                if int(parent) == os.getpid():
                    os.kill(int(path.split("/")[2]), signal.SIGKILL)
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(REAP_PAUSE)


def names() -> list[str]:
    return [path[len(PLACE) : -len(LOCK)] for path in glob.glob(PLACE + "*" + LOCK)]


def sweep(wanted: str | None = None) -> list[str]:
    """Remove what no keeper holds; return its names."""
    swept = []
    for name in names():
        lock = take(PLACE + name + LOCK) if wanted in (None, name) else None
        if lock is not None:
            remove(lock, PLACE + name)
            swept.append(name)
    return swept


def listing() -> list[Any]:
    found = []
    for name in names():
        about = read(PLACE + name + LOCK)
        if about is not None:
            lock = take(PLACE + name + LOCK)
            if lock is not None:
                os.close(lock)
            found.append(dict(about, name=name, alive=lock is None))
    return found


def delete(name: str) -> bool:
    """Have a keeper end, and remove its sandbox; False if there is none of this name."""
    about = read(PLACE + name + LOCK) if name in names() else None
    if about is None:
        return False
    deadline = time.monotonic() + REMOVED
    while not sweep(name) and name in names():
        if isinstance(about["pid"], int) and about["pid"] > 1:
            os.kill(about["pid"], signal.SIGTERM)
        time.sleep(END_PAUSE)
        if time.monotonic() > deadline:
            sys.exit(f"{name} does not end")
    return True


def main(asked: dict[str, Any]) -> None:
    """Do what is asked. A keeper's exit code is that of its guest; others print an answer."""
    operation = asked.pop("op")
    if operation == "keep":
        sys.exit(keep(**asked))
    answers: dict[str, Callable[..., Any]]
    answers = {"sweep": sweep, "list": listing, "delete": delete}
    sys.stdout.write(json.dumps(answers[operation](**asked)) + "\n")
