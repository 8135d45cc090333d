"""What one tenant keeps in a `RuntimeStore`: plans, references, runs, approvals, histories.

Every row is its tenant's. Another tenant finds none of them, whatever ids it tries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from paddock.errors import ConfigError
from paddock.runtime.orchestration.adapters import TenantApprovalStore, TenantConversationStore
from paddock.runtime.orchestration.records import (
    Run,
    StoredPlan,
    decode,
    encode,
)
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from paddock.runtime.orchestration.stores.postgres import PostgresRuntimeStore
from paddock.runtime.orchestration.stores.redis import RedisRuntimeStore
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.runtime.conversation.store import ConversationStore
    from paddock.runtime.core.approval import ApprovalStore
    from paddock.runtime.orchestration.stores.base import Rows, RuntimeStore

__all__ = ["Collection", "TenantStore", "open_store"]

T = TypeVar("T")
R = TypeVar("R")

_FORMS = "give 'memory:', 'sqlite:PATH', or the URL of a PostgreSQL or Redis server"


def open_store(where: str) -> RuntimeStore:
    """Return the store at `where`. Nothing is made yet.

    `where` is ``memory:``, ``sqlite:`` and the path of a file, or the URL of a PostgreSQL or
    Redis server. A path may be written as in a URL, ``sqlite:///var/team.db``; it is absolute
    then. Raises `ConfigError` for anything else, and `MissingDependency`.
    """
    scheme, colon, rest = where.partition(":")
    match scheme, rest:
        case "memory", "" if colon:
            return MemoryRuntimeStore()
        case "sqlite", path if path.strip("/"):
            return SqliteRuntimeStore(f"/{path.lstrip('/')}" if path.startswith("//") else path)
        case (("postgres" | "postgresql"), _):
            return PostgresRuntimeStore(where, ensure_schema=True)
        case (("redis" | "rediss"), _):
            return RedisRuntimeStore(where)
        case _:  # what follows the scheme may have a password
            given = f"{scheme}:..." if colon else repr(where)
            raise ConfigError(f"store={given}: {_FORMS}")


class TenantStore:
    """What the tenant `tenant` keeps in `store`.

    Runs are listed by their thread.
    """

    def __init__(self, store: RuntimeStore, tenant: str) -> None:
        self.store = store
        self.tenant = tenant
        self.plans: Collection[StoredPlan] = Collection(store, tenant, "plans", StoredPlan)
        self.runs: Collection[Run] = Collection(store, tenant, "runs", Run)
        self.approvals: ApprovalStore = TenantApprovalStore(store, tenant)
        self.conversations: ConversationStore = TenantConversationStore(store, tenant)

    async def secret(self, name: str, fresh: bytes) -> bytes:
        """Return the secret of this name; it is `fresh` from now on if there was none."""

        def work(rows: Rows) -> bytes:
            known = rows.get("secrets", name)
            if known is None:
                rows.put("secrets", name, fresh)
            return fresh if known is None else known

        return await self.do(work, writing=True)

    async def do(self, work: Callable[[Rows], R], *, writing: bool) -> R:
        """Do `work` over the rows of the tenant; see `RuntimeStore.do`."""
        return await self.store.do(self.tenant, work, writing=writing)


class Collection(Generic[T]):
    """Records of one kind of one tenant."""

    def __init__(self, store: RuntimeStore, tenant: str, table: str, kind: type[T]) -> None:
        self._store = store
        self._tenant = tenant
        self._table = table
        self._kind = kind

    async def get(self, key: str) -> T | None:
        """Return the record of this key; None if there is none."""
        return await self._store.do(
            self._tenant, lambda rows: self._read(rows.get(self._table, key)), writing=False
        )

    async def list(self, group: str | None = None) -> Sequence[T]:
        """Return the records of a group, or all, oldest first."""
        found = await self._store.do(
            self._tenant, lambda rows: [*rows.all(self._table, group)], writing=False
        )
        return [decode(self._kind, data) for _, data in found]

    async def change(
        self, key: str, change: Callable[[T | None], T | None], *, group: str = ""
    ) -> T | None:
        """Let `change` make what is kept of what is there, and return that.

        It gets None if there is no record, and keeps it so by returning None. Concurrent changes of
        a record happen one after another. `change` may be called again, so it must have no other
        effect; an exception from it changes nothing.
        """

        def work(rows: Rows) -> T | None:
            known = self._read(rows.get(self._table, key))
            made = change(known)
            if made is not None and made != known:
                rows.put(self._table, key, encode(made), group=group)
            return made

        return await self._store.do(self._tenant, work, writing=True)

    def _read(self, data: bytes | None) -> T | None:
        return None if data is None else decode(self._kind, data)
