"""A Daytona on this machine, for tests: the real SDK talks to it unmodified.

::

    async with DaytonaServer() as server:
        config = DaytonaConfig(api_key=server.api_key, api_url=server.api_url, target="us")
        async with AsyncDaytona(config) as daytona:
            sandbox = await daytona.create()

Needs the extra `daytona`. Commands run on this machine without isolation.
"""

from __future__ import annotations

from paddock.errors import MissingDependency

try:
    from paddock.testing.daytona.server import DaytonaServer
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "paddock":
        raise
    raise MissingDependency(error.name or "daytona", "daytona") from error

from paddock.testing.daytona.control import Limits
from paddock.testing.daytona.faults import (
    CutWebSocket,
    Delay,
    DestroyDuringStart,
    DropAfter,
    DropBefore,
    ExpiredKey,
    FailWith,
    Fault,
    GiveUp,
    MoveProxy,
    Quota,
    RefuseStart,
    SilentEvents,
    Status,
    StuckIn,
    Truncate,
)
from paddock.testing.daytona.gate import Request
from paddock.testing.daytona.schema import Schema, Violation
from paddock.testing.daytona.throttling import Throttler

__all__ = [
    "CutWebSocket",
    "DaytonaServer",
    "Delay",
    "DestroyDuringStart",
    "DropAfter",
    "DropBefore",
    "ExpiredKey",
    "FailWith",
    "Fault",
    "GiveUp",
    "Limits",
    "MoveProxy",
    "Quota",
    "RefuseStart",
    "Request",
    "Schema",
    "SilentEvents",
    "Status",
    "StuckIn",
    "Throttler",
    "Truncate",
    "Violation",
]
