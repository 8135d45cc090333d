"""What not every backend can do."""

from __future__ import annotations

import enum

__all__ = ["Capability"]


class Capability(enum.StrEnum):
    """What not every backend can do. Asking for one that is missing raises `Unsupported`."""

    URL = "url"
    TCP = "tcp"
    """What `url` tells leads anything over TCP, and takes no header."""
    SNAPSHOT = "snapshot"
    FORK = "fork"
    PAUSE = "pause"
    USER = "user"
    PTY = "pty"
    """`start` gives commands a terminal."""
    PROCESSES = "processes"
    """Processes are listed, joined by their ids, and may be detached."""
    TREE_KILL = "tree_kill"
    """Children that left their session die with their command."""
    ISOLATION = "isolation"
    """The sandbox sees none of the host's files, processes and sockets."""
    FILE_ISOLATION = "file_isolation"
    """The sandbox reads the system's files and its own, and writes its own alone. A local one says
    it by itself where its processes and network are the host's, and no more can be promised."""
    NETWORK_NONE = "network_none"
    NETWORK_ALLOWLIST = "network_allowlist"
    STATS = "stats"
    LIMIT_PIDS = "limit_pids"
    LIMIT_MEMORY = "limit_memory"
    LIMIT_CPU = "limit_cpu"
    LIMIT_DISK = "limit_disk"
