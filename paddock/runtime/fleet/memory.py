"""How much memory a machine has, and how hard it is to get more of it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.backends.base import Backend

__all__ = ["MachineMemory", "declared_memory", "machine_memory", "memory_of"]

_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
_STALLED = re.compile(r"^some avg10=([\d.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMemory:
    """Bytes that are `available` without swapping, and the `pressure`: the percentage of the last
    10 s in which some process waited for memory; 0 where the kernel does not tell."""

    available: int
    pressure: float = 0.0


def declared_memory(backend: Backend) -> int | None:
    """Return the bytes that a recipe declares for each sandbox."""
    found: int | None = getattr(getattr(backend, "resources", None), "memory", None)
    return found


async def memory_of(backend: Backend) -> MachineMemory | None:
    """Return the memory of the machine on which `backend` makes sandboxes, if it is this one."""
    return await asyncio.to_thread(machine_memory) if await backend.is_here() else None


def machine_memory() -> MachineMemory | None:
    """Return the memory of this machine; None where it is not Linux. Blocks."""
    try:
        found = _AVAILABLE.search(Path("/proc/meminfo").read_text())
    except OSError:
        return None
    if found is None:
        return None
    return MachineMemory(available=int(found[1]) * 1024, pressure=_pressure())


def _pressure() -> float:
    try:
        found = _STALLED.search(Path("/proc/pressure/memory").read_text())
    except OSError:  # a kernel without it, or where it is switched off
        return 0.0
    return 0.0 if found is None else float(found[1])
