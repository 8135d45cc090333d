"""What a sandbox may use at most, and what it uses now.

Part of the contract of `paddock.sandbox`, which gives these names out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from paddock.errors import ConfigError

__all__ = ["Resources", "Stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Upper bounds for one sandbox; None leaves the backend's default.

    `cpu` in cores, `memory` and `disk` in bytes, `pids` in processes and threads.
    All are above 0, and whole but for `cpu`; `ConfigError` otherwise.
    """

    cpu: float | None = None
    memory: int | None = None
    pids: int | None = None
    disk: int | None = None

    def __post_init__(self) -> None:
        for name in ("cpu", "memory", "pids", "disk"):
            value = getattr(self, name)
            if value is None:
                continue
            whole = name != "cpu"
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fits or not 0 < value < math.inf:
                what = "whole number" if whole else "number"
                raise ConfigError(f"resources: {name}={value!r}: give a {what} above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """`cpu` in seconds used so far, `memory` and its limit in bytes, `pids` in tasks.

    A limit that there is not is None.
    """

    cpu: float
    memory: int
    memory_limit: int | None
    pids: int
