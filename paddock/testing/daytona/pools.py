"""The control plane's calls about regions and warm pools.

A warm pool has sandboxes of a snapshot ready for creates that ask for nothing else. Here it has
the given number, at once and always: what is tested is which creates get one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.testing.daytona.envelope import ApiError
from paddock.testing.daytona.sandbox import ORGANIZATION

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from paddock.testing.daytona.calls import Answer, Call, Routes
    from paddock.testing.daytona.catalog import Catalog, Snapshot
    from paddock.testing.daytona.clock import Clock

__all__ = ["Pools"]

MISSING = 60.0
"""Seconds after a create that missed, in which all others miss too."""


@dataclass(kw_only=True, eq=False)
class _Pool:
    snapshot: Snapshot
    target: str
    size: int
    created_at: dt.datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def to_wire(self) -> dict[str, Any]:
        """The `WarmPool` of the API."""
        return {
            "id": self.id,
            "organizationId": ORGANIZATION,
            "snapshot": self.snapshot.name,
            "target": self.target,
            "pool": self.size,
            "currentSize": self.size,
            "cpu": self.snapshot.cpu,
            "mem": self.snapshot.memory,
            "disk": self.snapshot.disk,
            "osUser": "daytona",
            "env": {},
            "createdAt": self.created_at.isoformat(),
            "updatedAt": self.created_at.isoformat(),
        }


class Pools:
    """Handlers by method and path template; the first of the regions is the account's own."""

    def __init__(self, *, regions: Sequence[str], catalog: Catalog, clock: Clock) -> None:
        self._regions = regions
        self._catalog = catalog
        self._clock = clock
        self._pools: dict[str, _Pool] = {}
        self._missed: dict[str, float] = {}

    @property
    def routes(self) -> Routes:
        """What this part of the API answers."""
        return {
            ("GET", "/shared-regions"): self._list_regions,
            ("GET", "/warm-pools"): self._list,
            ("POST", "/warm-pools"): self._create,
            ("PATCH", "/warm-pools/{id}"): self._change,
            ("DELETE", "/warm-pools/{id}"): self._delete,
        }

    def region(self, asked: str | None) -> str:
        """The region to make something in; raises `ApiError` 404."""
        if asked is not None and asked not in self._regions:
            raise ApiError(404, "Region not found")
        return asked or self._regions[0]

    def is_warm(self, wanted: dict[str, Any], snapshot: Snapshot) -> bool:
        """Whether a create gets a sandbox of a pool. One that does not has others miss too."""
        pools = [each for each in self._pools.values() if each.snapshot is snapshot and each.size]
        missed_at = self._missed.get(snapshot.id)
        if missed_at is not None and self._clock.seconds() - missed_at < MISSING:
            return False
        own = any(wanted.get(name) for name in ("env", "volumes"))
        target = self.region(wanted.get("target"))
        if pools and not own and any(each.target == target for each in pools):
            return True
        if pools:
            self._missed[snapshot.id] = self._clock.seconds()
        return False

    async def _list_regions(self, call: Call) -> Answer:
        now = self._clock.now().isoformat()
        return [
            {
                "id": region,
                "name": region,
                "regionType": "shared",
                "createdAt": now,
                "updatedAt": now,
            }
            for region in self._regions
        ]

    async def _list(self, call: Call) -> Answer:
        return [pool.to_wire() for pool in self._pools.values()]

    async def _create(self, call: Call) -> Answer:
        snapshot = self._catalog.snapshot(call.body["snapshot"])
        target = self.region(call.body.get("target"))
        if any((each.snapshot, each.target) == (snapshot, target) for each in self._pools.values()):
            raise ApiError(409, "A warm pool of this snapshot exists in this region")
        pool = _Pool(
            snapshot=snapshot,
            target=target,
            size=call.body["pool"],
            created_at=self._clock.now(),
        )
        self._pools[pool.id] = pool
        return pool.to_wire()

    async def _change(self, call: Call) -> Answer:
        pool = self._pool(call.target)
        pool.size = call.body["pool"]
        return pool.to_wire()

    async def _delete(self, call: Call) -> Answer:
        del self._pools[self._pool(call.target).id]
        return None

    def _pool(self, identity: str) -> _Pool:
        if (pool := self._pools.get(identity)) is None:
            raise ApiError(404, f"Warm pool with ID {identity} not found")
        return pool
