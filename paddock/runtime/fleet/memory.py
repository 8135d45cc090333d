"""How much memory the sandboxes of a recipe may use together on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.runtime.fleet.limits import MemoryLimit

if TYPE_CHECKING:
    from paddock.backends.base import Backend

__all__ = ["memory_limit"]

SHARE = 0.9
"""Of what is available; the rest is for this process and for engines."""

_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


def memory_limit(backend: Backend, total: int | None) -> MemoryLimit:
    """Return the limit for what `backend` declares, of `total` bytes if given.

    Else of what this machine has available now, for local sandboxes; for others it is not known.
    Blocks.
    """
    each = getattr(getattr(backend, "resources", None), "memory", None)
    if total is None and each is not None and backend.name == "local":
        total = _available()
    return MemoryLimit(total=total, each=each)


def _available() -> int | None:
    try:
        found = _AVAILABLE.search(Path("/proc/meminfo").read_text())
    except OSError:  # there is none but on Linux
        return None
    return None if found is None else int(int(found[1]) * 1024 * SHARE)
