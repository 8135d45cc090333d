"""What the multi-agent runtime keeps, in a Redis server (or Valkey), not in a cluster of them.

A row is a hash with its value, its group and its number. Two sorted sets have the keys of a table
and of a group in their order. A transaction watches all that it reads, and is done again if some
of that was written meanwhile. How much survives a crash of the server is the server's setting:
``appendfsync always`` keeps all that was written. One that may evict our rows is refused.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes, urlsplit

from paddock.errors import ConfigError, MissingDependency, SessionError
from paddock.redaction import Redactor
from paddock.runtime.orchestration.stores.base import Rows, RuntimeStore, from_bytes, to_bytes
from paddock.runtime.orchestration.stores.buffered import BufferedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from redis.client import Pipeline, Redis

__all__ = ["PREFIX", "RedisRuntimeStore"]

T = TypeVar("T")

PREFIX = "paddock"

CONNECTING = 10.0
"""Seconds for a connection, and for an answer: the server does each command in microseconds."""

TRYING = 20.0
"""Seconds for which a transaction is tried again: a thousand of them that meet in one row."""

PAUSE = 0.02
"""Seconds at most between two tries; random, so that two that collided do not collide again."""

VERSION = b"1"
"""Of the rows."""

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_VALUE, _GROUP = b"v", b"g"

PIECE = 1000
"""Rows that are read at once."""


class RedisRuntimeStore(RuntimeStore):
    """Rows below the keys that begin with `prefix`, in the database at `url`.

    No error and no representation has the URL. Raises `ConfigError` for one that cannot be read.
    """

    def __init__(self, url: str, *, prefix: str = PREFIX) -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingDependency(error.name or "redis", "redis") from error
        if not _PREFIX.fullmatch(prefix):
            raise ConfigError(f"prefix {prefix!r}: give letters, digits, '_', '.', ':' and '-'")
        try:
            password = urlsplit(url).password or ""
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=CONNECTING,
                socket_connect_timeout=CONNECTING,
                decode_responses=False,
            )
        except (ValueError, TypeError):  # their text has the URL
            raise ConfigError("the URL of the Redis store cannot be read") from None
        self._redactor = Redactor.marking([url, password, unquote(password)], "***")
        self._prefix = prefix
        self._is_checked = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prefix={self._prefix!r})"

    def transact(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        from redis.exceptions import WatchError

        deadline = time.monotonic() + TRYING
        while True:
            try:
                with self._translated(), self._client.pipeline() as pipe:
                    self._check()
                    rows = _RedisRows(self._client, pipe, self._prefix, tenant)
                    result = work(rows)
                    rows.commit()
                    return result
            except WatchError:
                if time.monotonic() >= deadline:
                    reason = f"others have written the same rows for {TRYING:g} s"
                    raise SessionError(f"cannot use the store on Redis: {reason}") from None
            time.sleep(random.uniform(0, PAUSE))

    def tenants(self) -> Sequence[str]:
        with self._translated():
            self._check()
            found: Any = self._client.smembers(f"{self._prefix}:tenants")
            return sorted(_unquoted(name) for name in found)

    async def aclose(self) -> None:
        self._client.close()

    def _check(self) -> None:
        """Raise `SessionError` for a server that may forget, and for rows of another version."""
        if self._is_checked:
            return
        memory: Any = self._client.info("memory")
        policy = str(memory.get("maxmemory_policy"))
        if memory.get("maxmemory") and policy.startswith("allkeys"):
            reason = f"the server may evict rows: set its maxmemory-policy to noeviction ({policy})"
            raise SessionError(f"cannot use the store on Redis: {reason}")
        self._client.setnx(f"{self._prefix}:version", VERSION)
        found: Any = self._client.get(f"{self._prefix}:version")
        if found != VERSION:
            reason = f"the rows below {self._prefix!r} have version {found!r}, not {VERSION!r}"
            raise SessionError(f"cannot use the store on Redis: {reason}")
        self._is_checked = True

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from redis.exceptions import RedisError, WatchError

        try:
            yield
        except WatchError:
            raise
        except RedisError as error:
            reason = self._redactor.text(str(error) or type(error).__name__)
            raise SessionError(f"cannot use the store on Redis: {reason}") from None


class _RedisRows(BufferedRows):
    def __init__(self, client: Redis, pipe: Pipeline, prefix: str, tenant: str) -> None:
        super().__init__()
        self._client = client
        self._pipe: Any = pipe  # typed as if it were asynchronous, too
        self._prefix = prefix
        self._tenant = _quoted(tenant)

    def commit(self) -> None:
        """Write what was put, if nothing of what was read has changed; else raise `WatchError`."""
        groups = {place: self._watched(self._row(*place), _GROUP) for place in self.written}
        added = sum(group is None for group in groups.values())
        last = self._pipe.incrby(self._name("numbers"), added) if added else 0
        self._pipe.multi()
        for (table, key), row in self.written.items():
            known = groups[table, key]
            if row is None:
                self._remove(table, key, known)
            elif known is not None:
                self._pipe.hset(self._row(table, key), _VALUE, row[1])
            else:
                added -= 1
                self._add(table, key, row, last - added)
        if self.written:
            self._pipe.sadd(f"{self._prefix}:tenants", self._tenant)
        self._pipe.execute()

    def is_elsewhere(self, table: str, key: str) -> bool:
        tenants = self._reading().smembers(f"{self._prefix}:tenants")
        others = [each.decode() for each in tenants if each.decode() != self._tenant]
        names = [f"{self._prefix}:{tenant}:{table}:row:{_quoted(key)}" for tenant in others]
        return bool(names) and bool(self._pipe.exists(*names))

    def _get(self, table: str, key: str) -> bytes | None:
        return self._watched(self._row(table, key), _VALUE)

    def _all(self, table: str, group: str | None) -> Iterable[tuple[str, bytes]]:
        order = self._order(table, group)
        keys = [_unquoted(key) for key in self._reading(order).zrange(order, 0, -1)]
        for start in range(0, len(keys), PIECE):
            piece = keys[start : start + PIECE]
            names = [self._row(table, key) for key in piece]
            self._pipe.watch(*names)
            with self._client.pipeline(transaction=False) as reader:
                for name in names:
                    reader.hget(name, _VALUE)
                values = reader.execute()
            # A row may have gone since; then all is done again.
            yield from (
                (key, value) for key, value in zip(piece, values, strict=True) if value is not None
            )

    def _watched(self, name: str, field: bytes) -> bytes | None:
        value: bytes | None = self._reading(name).hget(name, field)
        return value

    def _reading(self, *names: str) -> Any:
        """Return the connection, which executes at once after a first `watch`."""
        self._pipe.watch(*names or (self._name("nothing"),))
        return self._pipe

    def _add(self, table: str, key: str, row: tuple[str, bytes], number: int) -> None:
        group, value = row
        fields = {_VALUE: value, _GROUP: to_bytes(group)}
        self._pipe.hset(self._row(table, key), mapping=fields)
        for order in (self._order(table, None), self._order(table, group)):
            self._pipe.zadd(order, {_quoted(key): number})

    def _remove(self, table: str, key: str, group: bytes | None) -> None:
        self._pipe.delete(self._row(table, key))
        if group is not None:
            for order in (self._order(table, None), self._order(table, from_bytes(group))):
                self._pipe.zrem(order, _quoted(key))

    def _name(self, *parts: str) -> str:
        return ":".join((self._prefix, self._tenant, *parts))

    def _row(self, table: str, key: str) -> str:
        return self._name(table, "row", _quoted(key))

    def _order(self, table: str, group: str | None) -> str:
        return self._name(table, "all" if group is None else f"in:{_quoted(group)}")


def _quoted(text: str) -> str:
    return quote_from_bytes(to_bytes(text), safe="")


def _unquoted(name: bytes) -> str:
    return from_bytes(unquote_to_bytes(name))
