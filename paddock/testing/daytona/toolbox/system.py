"""What the daemon reports about its machine: metrics, ports, its own version.

Memory and time are those of the sandbox's processes; sizes of memory and disk this machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.toolbox.replies import DaemonError, wire_time

if TYPE_CHECKING:
    from paddock.testing.daytona.toolbox.processes import Processes
    from paddock.testing.daytona.toolbox.routing import Handler
    from paddock.testing.daytona.toolbox.shells import Surroundings

__all__ = ["System"]

VERSION = "0.226.1"
PORTS = range(1, 65536)
CONNECTING = 1.0
"""Seconds that a port of this machine has to take a connection."""
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class System:
    def __init__(self, surroundings: Surroundings, processes: Processes) -> None:
        self._surroundings = surroundings
        self._processes = processes
        self._looked_at = time.monotonic()
        self._ticks = 0

    def routes(self) -> dict[str, Handler]:
        return {
            "GET /system/metrics": self._metrics,
            "GET /port": self._ports,
            "GET /port/{port}/in-use": self._in_use,
            "GET /version": self._version,
        }

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.json_response(await self.measure())

    async def measure(self) -> dict[str, Any]:
        """What the sandbox uses now."""
        return await asyncio.to_thread(self._measured)

    def _measured(self) -> dict[str, Any]:
        memory, ticks = _usage(self._processes.root)
        now = time.monotonic()
        spent = max(ticks - self._ticks, 0) / TICKS
        share = 100 * spent / max(now - self._looked_at, 0.001) / (os.cpu_count() or 1)
        self._looked_at, self._ticks = now, ticks
        disk = shutil.disk_usage(self._surroundings.root)
        moment = datetime.now(UTC)
        return {
            "cpuCount": os.cpu_count() or 1,
            "cpuUsedPct": round(min(share, 100.0), 2),
            "diskFree": disk.free,
            "diskTotal": disk.total,
            "diskUsed": disk.used,
            "memCache": _meminfo("Cached"),
            "memTotal": _meminfo("MemTotal"),
            "memUsed": memory,
            "timestamp": wire_time(moment),
            "timestampUnix": int(moment.timestamp()),
        }

    async def _ports(self, request: web.Request) -> web.Response:
        return web.json_response({"ports": await asyncio.to_thread(_listening)})

    async def _in_use(self, request: web.Request, port: str) -> web.Response:
        if not port.isdigit() or int(port) not in PORTS:
            raise DaemonError(400, f"invalid port: {port}")
        try:
            async with asyncio.timeout(CONNECTING):
                _, writer = await asyncio.open_connection("127.0.0.1", int(port))
        except OSError:
            return web.json_response({"isInUse": False})
        writer.close()
        return web.json_response({"isInUse": True})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})


def _usage(root: int | None) -> tuple[int, int]:
    """Bytes of memory and ticks of time of a process and all below it."""
    table: dict[int, tuple[int, int, int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text(errors="replace").rpartition(") ")[2].split()
            parent, ticks = int(fields[1]), int(fields[11]) + int(fields[12])
            table[int(entry.parent.name)] = (parent, ticks, int(fields[21]) * PAGE)
    found = [pid for pid in table if root is not None and root in (pid, *_ancestors(table, pid))]
    return sum(table[pid][2] for pid in found), sum(table[pid][1] for pid in found)


def _ancestors(table: dict[int, tuple[int, int, int]], pid: int) -> list[int]:
    above: list[int] = []
    while (pid := table[pid][0] if pid in table else 0) and pid not in above:
        above.append(pid)
    return above


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return 0


def _listening() -> list[int]:
    """TCP ports of this machine that something listens on."""
    ports: set[int] = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                if state == "0A":
                    ports.add(int(local.rpartition(":")[2], 16))
    return sorted(ports)
