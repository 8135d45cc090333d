"""A store whose process is killed at a named step.

A step is what one transaction writes of plans, approvals and runs: ``plans executing``,
``approvals answered``, ``runs waiting``. A point is a step and ``before`` or ``after`` it was
kept.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any, TypeVar

from paddock import RuntimeStore
from paddock.runtime.approvals.records import approval_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from paddock.runtime.orchestration.stores.base import Rows

T = TypeVar("T")


class FaultyStore(RuntimeStore):
    """`inner`, in a process that is killed when it comes to `point`. Notes the steps."""

    def __init__(self, inner: RuntimeStore, point: str = "") -> None:
        self._inner = inner
        self._point = point
        self.steps: list[str] = []

    @property
    def path(self) -> Path | None:
        return self._inner.path

    def transact(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        written: list[str] = []

        def noting(rows: Rows) -> T:
            written.clear()
            result = work(_NotingRows(rows, written))
            self._reach("before", written)
            return result

        result = self._inner.transact(tenant, noting, writing=writing)
        self.steps += written
        self._reach("after", written)
        return result

    def tenants(self) -> Sequence[str]:
        return self._inner.tenants()

    def stamp(self) -> object:
        return self._inner.stamp()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _reach(self, when: str, steps: list[str]) -> None:
        if self._point in [f"{when} {step}" for step in steps]:
            os.kill(os.getpid(), signal.SIGKILL)


class _NotingRows:
    def __init__(self, rows: Rows, written: list[str]) -> None:
        self._rows = rows
        self._written = written

    def get(self, table: str, key: str) -> bytes | None:
        return self._rows.get(table, key)

    def all(
        self, table: str, group: str | None = None, *, skip: int = 0
    ) -> Iterable[tuple[str, bytes]]:
        return self._rows.all(table, group, skip=skip)

    def put(self, table: str, key: str, value: bytes, *, group: str = "") -> None:
        self._rows.put(table, key, value, group=group)
        if table in _STATES:
            self._written.append(f"{table} {_STATES[table](json.loads(value))}")

    def delete(self, table: str, key: str) -> None:
        self._rows.delete(table, key)

    def is_elsewhere(self, table: str, key: str) -> bool:
        return self._rows.is_elsewhere(table, key)


_STATES: dict[str, Callable[[Any], str]] = {
    "approvals": lambda data: approval_from(data).status,
    "plans": lambda data: str(data["status"]),
    "runs": lambda data: str(data["state"]),
}
