"""The command line that fences a guest in with bubblewrap; decides, and starts nothing.

Inside there are the system's directories (read-only), the interpreter that runs
Paddock (read-only), a working directory, a home, bounded temporary directories, and
nothing else of this machine: no home, no sockets, no other processes, no network.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HOME", "Fence", "arguments", "interpreter", "program", "search_path"]

UID = 1000
"""The user inside, who has the rights of the user outside that bubblewrap ran as."""
HOME = "/home/sandbox"
GUEST = "/run/paddock/guest"
OUTPUT = "/run/paddock/output"
TMP_BYTES = 1024**3
SHM_BYTES = 64 * 1024**2
"""Bounds of /tmp and /dev/shm, which are memory."""
TMP_SHARE, SHM_SHARE = 2, 8
"""They take at most a half and an eighth of a sandbox's memory, where that is limited: a
full directory is an error to its writer, a full sandbox would be the guest's end."""
MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links into /usr on most systems, directories on others."""
SYSTEM = ("/usr", "/nix/store", "/gnu/store")
ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone"),
    *("ssl", "ca-certificates", "ca-certificates.conf", "pki", "nsswitch.conf", "protocols"),
    *("services", "mime.types", "magic", "terminfo", "bash.bashrc", "profile", "inputrc"),
)
"""What programs need of /etc and what tells nothing about this machine's users."""
NETWORK_ETC = ("resolv.conf", "hosts", "gai.conf")
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What one sandbox needs: directories of this machine, and where they are inside."""

    working_dir: Path
    working_dir_inside: str
    home: Path
    output: Path
    identity: Path
    guest: Path
    interpreter: Path | None
    network: bool
    seccomp_fd: int
    memory: int | None
    """The sandbox's limit on memory, in bytes."""


def program() -> str | None:
    """Where bubblewrap is, or None."""
    return shutil.which("bwrap")


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
    memory = fence.memory or TMP_SHARE * TMP_BYTES
    tmp = str(min(TMP_BYTES, memory // TMP_SHARE))
    shm = str(min(SHM_BYTES, memory // SHM_SHARE))
    return [
        program() or "bwrap",
        *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *(["--share-net"] if fence.network else []),
        *("--uid", str(UID), "--gid", str(UID), "--hostname", "sandbox"),
        *("--as-pid-1", "--die-with-parent", "--new-session", "--clearenv"),
        *_system(fence),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", tmp, "--perms", "1777", "--tmpfs", "/tmp"),
        *("--size", shm, "--perms", "1777", "--tmpfs", "/dev/shm"),
        *(["--ro-bind", str(fence.interpreter), str(prefix)] if fence.interpreter else []),
        *("--bind", str(fence.home), HOME),
        *("--bind", str(fence.output), OUTPUT),
        *("--ro-bind", str(fence.guest), GUEST),
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
    for name in (*ETC, *(NETWORK_ETC if fence.network else ())):
        path = f"/etc/{name}"
        if os.path.exists(path):
            out += ["--ro-bind", path, path]
    for name in IDENTITY:
        if name != "hosts" or not fence.network:
            out += ["--ro-bind", str(fence.identity / name), f"/etc/{name}"]
    return out


IDENTITY = {
    "passwd": f"root:x:0:0:root:/:/bin/sh\nsandbox:x:{UID}:{UID}:sandbox:{HOME}:/bin/sh\n",
    "group": f"root:x:0:\nsandbox:x:{UID}:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
"""Files of /etc that say who is inside, in place of who is outside."""
