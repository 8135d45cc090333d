"""What processes that share the tests tell each other in a file."""

from __future__ import annotations

import contextlib
import fcntl
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["locked"]


@contextlib.contextmanager
def locked(meter: Path) -> Iterator[dict[str, Any]]:
    """What stands in the meter, to change, while nobody else reads it."""
    with meter.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        told = json.loads(file.read() or "{}")
        yield told
        file.truncate(0)
        json.dump(told, file)
