"""The command line that fences a guest in with bubblewrap; decides, and starts nothing.

Inside there are the system's directories (read-only), the interpreter that runs
Paddock (read-only), a working directory, a home, bounded temporary directories, and
nothing else of this machine: no home, no sockets, no other processes, no network.
"""

from __future__ import annotations

import contextlib
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
GUEST = "/run/paddock/guest"
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
ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone"),
    *("ssl", "ca-certificates", "ca-certificates.conf", "pki", "nsswitch.conf", "protocols"),
    *("services", "mime.types", "magic", "terminfo", "bash.bashrc", "profile", "inputrc"),
)
"""What programs need of /etc and what tells nothing about this machine's users."""
RELEASE_ETC = (
    *("os-release", "lsb-release", "debian_version", "redhat-release", "fedora-release"),
    *("alpine-release", "arch-release", "SuSE-release", "system-release", "issue", "shells"),
    *("login.defs", "host.conf", "networks", "rpc", "ethertypes"),
)
"""What programs look at to learn on what system they are."""
NETWORK_ETC = ("resolv.conf", "gai.conf")
EMPTY = (
    *("/boot", "/media", "/mnt", "/opt", "/root", "/srv", "/run/lock"),
    *("/var/cache", "/var/lib", "/var/log", "/var/spool"),
)
"""Directories that every machine has."""
LINKS = {"/var/tmp": "../tmp", "/var/run": "../run", "/etc/mtab": "../proc/self/mounts"}
"""One directory for temporary files, with one bound."""
PROCESSORS = "/sys/devices/system/cpu"
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
    resources: Resources


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
    tmp = str(min(TMP_BYTES, (fence.resources.memory or MEMORY) // TMP_SHARE))
    shm = str(fence.resources.shm_bytes(MEMORY))
    return [
        program() or "bwrap",
        *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *(["--share-net"] if fence.network else []),
        *("--uid", str(UID), "--gid", str(UID), "--hostname", HOSTNAME),
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
    return out + _usual(fence)


def _usual(fence: Fence) -> list[str]:
    """What every machine has besides its programs: settings, and directories."""
    out: list[str] = []
    for name in (*ETC, *RELEASE_ETC, *(NETWORK_ETC if fence.network else ())):
        path = f"/etc/{name}"
        if os.path.exists(path):
            out += ["--ro-bind", path, path]
    for name in identity(network=False):
        out += ["--ro-bind", str(fence.identity / name), f"/etc/{name}"]
    for path in EMPTY:
        out += ["--dir", path]
    for path, target in LINKS.items():
        out += ["--symlink", target, path]
    if os.path.isdir(PROCESSORS):
        out += ["--ro-bind", PROCESSORS, PROCESSORS]
    return out


def identity(*, network: bool) -> dict[str, str]:
    """Return the files of /etc that say who and where a sandbox is, instead of this machine's.

    With a `network`, it also knows the hosts that this machine knows by file.
    """
    known = HOSTS
    if network:
        with contextlib.suppress(OSError):
            known = Path("/etc/hosts").read_text(errors="replace").rstrip("\n") + "\n"
    return {**IDENTITY, "hosts": f"{known}127.0.1.1 {HOSTNAME}\n"}


HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
IDENTITY = {
    "passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        f"sandbox:x:{UID}:{UID}:sandbox:{HOME}:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": f"root:x:0:\nsandbox:x:{UID}:\nnogroup:x:65534:\n",
    "hostname": f"{HOSTNAME}\n",
    "environment": "",  # this machine's may hold the password of a proxy
}
