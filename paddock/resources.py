"""Limits and usage of a sandbox's resources.

Part of the contract of `paddock.sandbox`, which exports these names.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from paddock.errors import ConfigError

__all__ = ["Resources", "Stats"]


SHM_SHARE = 4
"""/dev/shm takes at most a quarter of the memory, so that it and /tmp can be full at once: a full
directory is an error to its writer, exhausted memory would kill the sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Upper bounds for one sandbox; None leaves the backend's default.

    `cpu` in cores, `memory` and `disk` in bytes, `pids` in processes and threads; `shm_size` is
    that of /dev/shm in bytes, which counts as memory and is a quarter of it by default.
    All are above 0, and whole but for `cpu`; `ConfigError` otherwise.
    """

    cpu: float | None = None
    memory: int | None = None
    pids: int | None = None
    disk: int | None = None
    shm_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("cpu", "memory", "pids", "disk", "shm_size"):
            value = getattr(self, name)
            if value is None:
                continue
            whole = name != "cpu"
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fits or not 0 < value < math.inf:
                what = "whole number" if whole else "number"
                raise ConfigError(f"resources: {name}={value!r}: give a {what} above 0")
        self.shm_bytes(self.memory or sys.maxsize)

    def shm_bytes(self, memory: int) -> int:
        """Return the size of /dev/shm in a sandbox that has `memory` bytes, unless limited.

        Raise `ConfigError` if that is more than the memory.
        """
        memory = self.memory or memory
        if self.shm_size is not None and self.shm_size > memory:
            raise ConfigError(
                f"resources: shm_size={self.shm_size!r} is more than the memory, {memory} bytes"
            )
        return self.shm_size or max(1, memory // SHM_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """`cpu` in seconds used so far, `memory` and its limit in bytes, `pids` in tasks.

    `memory_limit` is None without a limit.
    """

    cpu: float
    memory: int
    memory_limit: int | None
    pids: int
