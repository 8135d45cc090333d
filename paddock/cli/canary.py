"""Seeing from outside that a sandbox is gone, instead of believing it."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

__all__ = ["Canary"]

HOURS = 24
"""How long the canary would stay if it were not taken down."""
REMOVAL_TIMEOUT = 5.0
"""Seconds for a service to remove a sandbox after it has said that it will."""
LOOK_AGAIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A process that was left behind in a sandbox, in a session of its own, to be found or missed.

    `mark` is on its command line. `visible` tells whether this machine shows it at all:
    a sandbox elsewhere does not.
    """

    mark: str
    visible: bool

    @classmethod
    async def start(cls, sandbox: Sandbox) -> Self:
        """Leave a process behind, as a careless command does."""
        mark = f"{HOURS * 3600}.{secrets.randbelow(10**12):012}"
        await sandbox.exec(f"setsid sleep {mark} </dev/null >/dev/null 2>&1 &", check=True)
        return cls(mark=mark, visible=_is_running(mark))

    async def is_gone(self) -> bool | None:
        """Whether the process has ended; None where that cannot be seen from here.

        A service is given a moment: it removes a sandbox after it has said that it will.
        """
        if not self.visible:
            return None
        end = time.monotonic() + REMOVAL_TIMEOUT
        while _is_running(self.mark):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(LOOK_AGAIN)
        return True


def _is_running(mark: str) -> bool:
    return any(mark.encode() in _command_line(entry) for entry in Path("/proc").glob("[0-9]*"))


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""  # it has ended since it was listed
