"""The command line that fences a guest in with bubblewrap; decides, and starts nothing.

Inside there are the system's directories (read-only), the interpreter that runs
Paddock (read-only), a working directory, a home, bounded temporary directories, and
nothing else of this machine: no home, no sockets, no other processes, no network.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.resources import Resources

__all__ = ["HOME", "Fence", "arguments", "interpreter", "program", "search_path"]

UID = 1000
"""The user inside, who has the rights of the user outside that bubblewrap ran as."""
HOME = "/home/sandbox"
OUTPUT = "/run/paddock/output"
HOSTNAME = "sandbox"
MEMORY = 4 * 1024**3
"""What a sandbox without a limit on memory is taken to have, to bound what is kept there."""
TMP_BYTES = 1024**3
TMP_SHARE = 2
"""Bounds of /tmp, which is memory: it takes half of a sandbox's at most."""
MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links into /usr on most systems, directories on others."""
SYSTEM = ("/usr", "/nix/store", "/gnu/store")
EMPTY = (
    *("/boot", "/media", "/mnt", "/opt", "/root", "/srv", "/run/lock"),
    *("/var/cache", "/var/lib", "/var/log", "/var/spool"),
)
"""Directories that every machine has."""
LINKS = {"/var/tmp": "../tmp", "/var/run": "../run"}
"""One directory for temporary files, with one bound."""
PROCESSORS = "/sys/devices/system/cpu"
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What one sandbox needs: directories of this machine, and where they are inside."""

    program: str
    working_dir: Path
    working_dir_inside: str
    dirs: tuple[tuple[Path, str], ...]
    """More directories, and where they are inside."""
    home: Path
    output: Path
    etc: Path
    """A directory with what is shown as /etc."""
    mounted: tuple[str, ...]
    """What is mounted over that, by names below /etc."""
    interpreter: Path | None
    network: bool
    seccomp_fd: int
    resources: Resources


def program() -> str | None:
    """Where bubblewrap is, or None."""
    return shutil.which("bwrap")


@functools.cache
def interpreter() -> tuple[str, Path | None]:
    """The interpreter's program, and its directory where that is not the system's."""
    executable = os.path.realpath(sys.executable)
    prefix = Path(os.path.realpath(sys.base_prefix))
    return executable, None if prefix.is_relative_to("/usr") else prefix


def search_path() -> str:
    """PATH inside: the interpreter that runs Paddock is `python3` there."""
    prefix = interpreter()[1]
    return f"{prefix}/bin:{STANDARD_PATH}" if prefix else STANDARD_PATH


def arguments(fence: Fence, command: list[str]) -> list[str]:
    """bubblewrap's command line for `command`."""
    prefix = interpreter()[1]
    tmp = str(min(TMP_BYTES, (fence.resources.memory or MEMORY) // TMP_SHARE))
    shm = str(fence.resources.shm_bytes(MEMORY))
    return [
        fence.program,
        *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *(["--share-net"] if fence.network else []),
        *("--uid", str(UID), "--gid", str(UID), "--hostname", HOSTNAME),
        *("--as-pid-1", "--die-with-parent", "--new-session", "--clearenv"),
        *_system(fence),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", tmp, "--perms", "1777", "--tmpfs", "/tmp"),
        *("--size", shm, "--perms", "1777", "--tmpfs", "/dev/shm"),
        *(["--ro-bind", str(fence.interpreter), str(prefix)] if fence.interpreter else []),
        *(word for here, inside in fence.dirs for word in ("--bind", str(here), inside)),
        *("--bind", str(fence.home), HOME),
        *("--bind", str(fence.output), OUTPUT),
        *("--bind", str(fence.working_dir), fence.working_dir_inside),
        *("--chdir", "/", "--remount-ro", "/dev", "--remount-ro", "/"),
        *("--seccomp", str(fence.seccomp_fd), "--", *command),
    ]


def _system(fence: Fence) -> list[str]:
    out: list[str] = []
    for path in SYSTEM:
        if os.path.isdir(path):
            out += ["--ro-bind", path, path]
    for path in MERGED:
        if os.path.islink(path):
            out += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            out += ["--ro-bind", path, path]
    return out + _usual(fence)


def _usual(fence: Fence) -> list[str]:
    """What every machine has besides its programs: settings, and directories."""
    out = ["--ro-bind", str(fence.etc), "/etc"]
    for name in fence.mounted:
        out += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    for path in EMPTY:
        out += ["--dir", path]
    for path, target in LINKS.items():
        out += ["--symlink", target, path]
    if os.path.isdir(PROCESSORS):
        out += ["--ro-bind", PROCESSORS, PROCESSORS]
    return out
