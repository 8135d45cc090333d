"""A catalog whose entries are given, or in a SQLite file, and which has an index."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Protocol, TypeVar

from paddock._directory import PrivateDirectory
from paddock.errors import SessionError
from paddock.runtime.core.database import database_stamp
from paddock.runtime.core.threads import run_in_thread
from paddock.runtime.orchestration.catalog.base import TABLE, Catalog, Link
from paddock.runtime.orchestration.catalog.entries import CatalogEntry, read_entry
from paddock.runtime.orchestration.catalog.index import Database, IndexRows, MemoryDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["CatalogFile", "Entries", "GivenEntries", "IndexedCatalog"]

T = TypeVar("T")

WAITING = 10.0
"""Seconds to wait for another writer of the catalog, which writes some rows."""

_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    tenant TEXT NOT NULL,
    workspace TEXT NOT NULL DEFAULT '',
    id TEXT NOT NULL,
    item_type TEXT NOT NULL,
    name TEXT NOT NULL,
    qualified_name TEXT NOT NULL DEFAULT '',
    content TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT '[]',
    related TEXT NOT NULL DEFAULT '[]',
    metadata TEXT NOT NULL DEFAULT '{{}}',
    PRIMARY KEY (tenant, workspace, id)
)
"""
_READ = f"""
SELECT id, item_type, name, qualified_name, content, tags, related, metadata
FROM {TABLE} WHERE tenant = ? AND workspace = ? ORDER BY rowid
"""


class Entries(Protocol):
    """Where entries come from."""

    def read(self) -> Sequence[CatalogEntry]:
        """Return them. Blocks. Raises `PaddockError` where they cannot be read."""
        ...

    def stamp(self) -> object:
        """Return what is another value once they have been changed."""
        ...


class GivenEntries:
    def __init__(self, entries: Sequence[CatalogEntry]) -> None:
        self._entries = entries

    def read(self) -> Sequence[CatalogEntry]:
        return self._entries

    def stamp(self) -> object:
        return None


class CatalogFile:
    """The table `paddock_catalog` of a file: what a tenant and a workspace have there.

    With `ensure_schema` the file and the table are made when they are missing.
    """

    def __init__(self, path: Path, *, tenant: str, workspace: str, ensure_schema: bool) -> None:
        self._path = path
        self._scope = (tenant, workspace)
        self._ensure = ensure_schema

    def read(self) -> Sequence[CatalogEntry]:
        if self._ensure:
            self._make()
        elif not self._path.exists():
            raise self._failed("there is no such file; make it once with ensure_schema")
        try:
            where = f"{self._path.as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(where, uri=True, timeout=WAITING)) as found:
                return [self._entry(row) for row in found.execute(_READ, self._scope)]
        except sqlite3.Error as error:
            raise self._failed(str(error)) from error

    def stamp(self) -> object:
        return database_stamp(self._path)

    def _make(self) -> None:
        try:
            files = PrivateDirectory(self._path.parent, shared=True)
            files.make()
            files.prepare_database(self._path.name)
            with (
                contextlib.closing(sqlite3.connect(self._path, timeout=WAITING)) as connection,
                connection,
            ):
                connection.execute(_CREATE)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(str(error)) from error

    def _entry(self, row: tuple[str, ...]) -> CatalogEntry:
        names = ("id", "item_type", "name", "qualified_name", "content")
        what = f"the catalog {self._path}: the entry {row[0]!r}"
        try:
            tags, related, metadata = map(json.loads, row[5:])
        except (TypeError, ValueError):
            raise SessionError(f"{what}: its tags, related and metadata are JSON") from None
        given = dict(zip(names, row, strict=False))
        return read_entry({**given, "tags": tags, "related": related, "metadata": metadata}, what)

    def _failed(self, reason: str) -> SessionError:
        return SessionError(f"cannot read the catalog {self._path}: {reason}")


class IndexedCatalog(Catalog):
    """`entries`, with an index in `database`.

    The index is brought up to date when it is first used, and with `follows` whenever the entries
    have changed. With `rebuild` it is built anew, whatever it has.
    """

    def __init__(
        self, entries: Entries, database: Database, *, scope: str, rebuild: bool, follows: bool
    ) -> None:
        self._entries = entries
        self._database = database
        self._scope = scope
        self._rebuild = rebuild
        self._follows = follows
        self._stamp: list[object] = []
        self._building = asyncio.Lock()

    async def search(
        self, words: Sequence[str], kinds: Sequence[str], limit: int
    ) -> Sequence[tuple[CatalogEntry, float]]:
        return await self._read(lambda rows: rows.search(words, kinds, limit))

    async def get(self, names: Sequence[str]) -> Mapping[str, CatalogEntry]:
        return await self._read(lambda rows: rows.get(names))

    async def columns(self, table: CatalogEntry, limit: int) -> Sequence[CatalogEntry]:
        return await self._read(lambda rows: rows.columns(table, limit))

    async def links(self, ids: Sequence[str], limit: int) -> Sequence[Link]:
        return await self._read(lambda rows: rows.links(ids, limit))

    async def aclose(self) -> None:
        if isinstance(self._database, MemoryDatabase):
            self._database.close()
            self._stamp = []

    async def _read(self, work: Callable[[IndexRows], T]) -> T:
        async with self._building:
            if not self._stamp or (self._follows and self._stamp != [self._entries.stamp()]):
                await self._build()
        return await self._database.do(
            lambda connection: work(IndexRows(connection, self._scope)), writing=False
        )

    async def _build(self) -> None:
        stamp = self._entries.stamp()  # what is written from here on is read the next time
        entries = await run_in_thread(self._entries.read, name="reading the catalog")
        anew, self._rebuild = self._rebuild, False
        await self._database.do(
            lambda connection: IndexRows(connection, self._scope).build(entries, anew=anew)
        )
        self._stamp = [stamp]
