"""What a sandbox sees of /etc: copies in a directory of its own, and a few mounts over it.

Each file by a mount of its own would cost more than starting bubblewrap. What is large, has links
or programs in it, or is not for everybody to read, is mounted. All of it is read-only inside.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.backends.isolation.bubblewrap import HOME, HOSTNAME, UID
from paddock.backends.isolation.copies import Look

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Etc", "shown"]

SHOWN = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone"),
    *("ssl", "ca-certificates", "ca-certificates.conf", "pki", "nsswitch.conf", "protocols"),
    *("services", "mime.types", "magic", "terminfo", "bash.bashrc", "profile", "inputrc"),
)
"""What programs need of /etc and what tells nothing about this machine's users."""
RELEASE = (
    *("os-release", "lsb-release", "debian_version", "redhat-release", "fedora-release"),
    *("alpine-release", "arch-release", "SuSE-release", "system-release", "issue", "shells"),
    *("login.defs", "host.conf", "networks", "rpc", "ethertypes"),
)
"""What programs look at to learn on what system they are."""
JAVA = "java-*"
"""What Debian's Java, of whatever version, does not start without."""
SHOWN_WITH_NETWORK = ("resolv.conf", "gai.conf")
"""They are mounted, as something may write to them while the sandbox runs."""
LINKS = {"mtab": "../proc/self/mounts"}
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
COPIED_BYTES = 256 * 1024
COPIED_FILES = 16
"""Of one file, and of one of the directories above, at most: what a mount costs more than."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Etc:
    """Names are below /etc. `texts` are files of our own, `folders` have copies or are mounted."""

    texts: Mapping[str, str]
    copies: tuple[Look, ...]
    folders: tuple[str, ...]
    mounted: tuple[str, ...]
    links: Mapping[str, str]


def shown(*, network: bool) -> Etc:
    """Look what there is on this machine."""
    copies: list[Look] = []
    mounted = list(SHOWN_WITH_NETWORK) if network else []
    java = sorted(path.name for path in Path("/etc").glob(JAVA))
    for name in (*SHOWN, *RELEASE, *java):
        try:
            info = os.stat(f"/etc/{name}")
            copies += _small_files(f"/etc/{name}", info.st_ino, info.st_mtime_ns)
        except FileNotFoundError:
            continue
        except _NotSmall:
            mounted.append(name)
    mounted = [name for name in mounted if os.path.exists(f"/etc/{name}")]
    folders = [name for name in mounted if os.path.isdir(f"/etc/{name}")]
    return Etc(
        # What is mounted needs a place.
        texts=dict.fromkeys({*mounted} - {*folders}, "") | _identity(network=network),
        copies=tuple(copies),
        mounted=tuple(mounted),
        links=LINKS,
        folders=(*folders, *{os.path.dirname(look.name) for look in copies} - {""}),
    )


def _identity(*, network: bool) -> dict[str, str]:
    """Return a sandbox's own users, groups and hosts files, instead of this machine's.

    With a `network`, it also knows the hosts that this machine knows by file.
    """
    known = HOSTS
    if network:
        with contextlib.suppress(OSError):
            known = Path("/etc/hosts").read_text(errors="replace").rstrip("\n") + "\n"
    return {**IDENTITY, "hosts": f"{known}127.0.1.1 {HOSTNAME}\n"}


class _NotSmall(Exception):
    """It is better mounted."""


def _small_files(path: str, inode: int, modified: int) -> list[Look]:
    """As `_small`, which takes a while for what is not small: that is not looked at again."""
    if _mounted.get(path) == (inode, modified):
        raise _NotSmall
    try:
        return list(_small(path, COPIED_FILES))
    except _NotSmall:
        _mounted[path] = (inode, modified)
        raise


_mounted: dict[str, tuple[int, int]] = {}
"""The inode and time of what was not small, by path."""


def _small(path: str, most: int) -> Iterator[Look]:
    """The files at `path` or below it; raise `_NotSmall` if these are more than plain files that
    everybody may read."""
    info = os.stat(path)
    everybody = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(info.st_mode) else 0)
    if info.st_mode & everybody != everybody:
        raise _NotSmall  # a copy would be everybody's
    if stat.S_ISDIR(info.st_mode):
        names = os.listdir(path)
        if len(names) > most:
            raise _NotSmall
        for name in names:
            below = f"{path}/{name}"
            if os.path.islink(below):
                raise _NotSmall
            yield from _small(below, most - len(names))
    elif stat.S_ISREG(info.st_mode) and not info.st_mode & 0o111 and info.st_size <= COPIED_BYTES:
        name = path.removeprefix("/etc/")
        yield Look(name, info.st_size, info.st_ino, info.st_mtime_ns)
    else:
        raise _NotSmall
