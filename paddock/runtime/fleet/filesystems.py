"""Which file systems are shared by machines: SQLite cannot keep a write-ahead log there."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_on_network"]

_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "gpfs")
"""Beginnings of their types."""


def is_on_network(path: Path) -> bool:
    """Return whether `path`, or the nearest parent that exists, is on a network file system."""
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    device = there.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:  # it exists only on Linux
        return False
    return any(_type(line).startswith(_NETWORK) for line in mounts if line.split()[2] == wanted)


def _type(line: str) -> str:
    return line.partition(" - ")[2].split(" ", 1)[0]
