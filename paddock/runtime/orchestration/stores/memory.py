"""What the multi-agent runtime keeps, in this process's memory."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from paddock.runtime.orchestration.stores.base import Rows, RuntimeStore
from paddock.runtime.orchestration.stores.buffered import BufferedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["MemoryRuntimeStore"]

T = TypeVar("T")


class MemoryRuntimeStore(RuntimeStore):
    """Rows in memory, for any thread of this process; they end with this object."""

    def __init__(self) -> None:
        self._tables: defaultdict[tuple[str, str], _Table] = defaultdict(_Table)
        self._lock = threading.Lock()

    def transact(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        with self._lock:  # for some microseconds
            rows = _MemoryRows(self._tables, tenant)
            result = work(rows)
            for (table, key), row in rows.written.items():
                self._tables[tenant, table].write(key, row)
            return result

    async def do(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        return self.transact(tenant, work, writing=writing)

    def tenants(self) -> Sequence[str]:
        with self._lock:
            return sorted({tenant for (tenant, _), table in self._tables.items() if table.rows})


class _Table:
    """The rows of one table of one tenant, in their order, with their groups."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, bytes]] = {}
        self.groups: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

    def write(self, key: str, row: tuple[str, bytes] | None) -> None:
        group = self.rows[key][0] if key in self.rows else row[0] if row else ""
        if row is None:
            self.rows.pop(key, None)
            self.groups[group].pop(key, None)
        else:
            self.rows[key] = group, row[1]
            self.groups[group][key] = row[1]
        if not self.groups[group]:
            del self.groups[group]


class _MemoryRows(BufferedRows):
    def __init__(self, tables: defaultdict[tuple[str, str], _Table], tenant: str) -> None:
        super().__init__()
        self._tables = tables
        self._tenant = tenant

    def is_elsewhere(self, table: str, key: str) -> bool:
        return any(
            key in found.rows
            for (tenant, name), found in self._tables.items()
            if name == table and tenant != self._tenant
        )

    def _get(self, table: str, key: str) -> bytes | None:
        row = self._tables[self._tenant, table].rows.get(key)
        return None if row is None else row[1]

    def _all(self, table: str, group: str | None) -> Iterable[tuple[str, bytes]]:
        found = self._tables[self._tenant, table]
        if group is not None:
            return found.groups.get(group, {}).items()
        return ((key, value) for key, (_, value) in found.rows.items())
