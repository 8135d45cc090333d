"""The index of a catalog: its entries, what they are related to and their words, in SQLite."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from paddock._concurrency import finish
from paddock.errors import SessionError
from paddock.runtime.core.database import PrivateDatabase
from paddock.runtime.orchestration.catalog.base import Link
from paddock.runtime.orchestration.catalog.entries import read_entry

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from paddock.runtime.orchestration.catalog.entries import CatalogEntry

__all__ = ["Database", "IndexRows", "MemoryDatabase", "index_file"]

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS catalog_entries (
    number INTEGER PRIMARY KEY, scope TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    full_name TEXT NOT NULL, entry TEXT NOT NULL, UNIQUE (scope, id)
);
CREATE INDEX IF NOT EXISTS catalog_entries_by_name ON catalog_entries (scope, full_name);
CREATE TABLE IF NOT EXISTS catalog_links (
    scope TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, about TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS catalog_links_from ON catalog_links (scope, source);
CREATE INDEX IF NOT EXISTS catalog_links_to ON catalog_links (scope, target);
CREATE TABLE IF NOT EXISTS catalog_built (scope TEXT PRIMARY KEY, digest TEXT NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS catalog_words USING fts5 (
    name, full_name, tags, content, tokenize = 'porter unicode61 remove_diacritics 2'
);
"""
_SEARCH = """
SELECT e.entry, bm25(catalog_words, 10, 6, 4, 1) AS score
FROM catalog_words JOIN catalog_entries AS e ON e.number = catalog_words.rowid
WHERE catalog_words MATCH ? AND e.scope = ?
  AND (? = '[]' OR e.kind IN (SELECT value FROM json_each(?)))
ORDER BY score, e.id LIMIT ?
"""
"""A match in a name counts most; a lower score of SQLite's is a better one."""
_GET = """
SELECT id, full_name, entry FROM catalog_entries WHERE scope = :scope AND (
    id IN (SELECT value FROM json_each(:names))
    OR full_name IN (SELECT value FROM json_each(:names)))
ORDER BY number DESC
"""
_COLUMNS = """
SELECT entry FROM catalog_entries WHERE scope = :scope AND kind = 'column' AND (
    id IN (SELECT target FROM catalog_links WHERE scope = :scope AND source = :id
           UNION SELECT source FROM catalog_links WHERE scope = :scope AND target = :id)
    OR substr(full_name, 1, length(:below)) = :below
    OR (json_extract(entry, '$.metadata.tableName') = :table
        AND coalesce(json_extract(entry, '$.metadata.schemaName'), :schema) = :schema))
ORDER BY number LIMIT :limit
"""
_LINKS = """
SELECT source, target, about FROM catalog_links WHERE scope = :scope AND (
    source IN (SELECT value FROM json_each(:ids)) OR target IN (SELECT value FROM json_each(:ids)))
ORDER BY rowid LIMIT :limit
"""
_FORMAT = "1"
"""Of the index; it is a part of the digest, so that another one is built anew."""


class Database(Protocol):
    """Where an index is: a `PrivateDatabase`, or one in memory."""

    async def do(self, work: Callable[[sqlite3.Connection], T], *, writing: bool = True) -> T: ...


def index_file(path: str | os.PathLike[str]) -> PrivateDatabase:
    """Return the index in a file, which is made when it is first used."""
    return PrivateDatabase(path, _SCHEMA, what="index of the catalog")


class MemoryDatabase:
    """An index in this process's memory."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    async def do(self, work: Callable[[sqlite3.Connection], T], *, writing: bool = True) -> T:
        return await finish(asyncio.to_thread(self._transact, work))

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._lock:
                if self._connection is None:
                    self._connection = sqlite3.connect(":memory:", check_same_thread=False)
                    self._connection.executescript(_SCHEMA)
                with self._connection:
                    return work(self._connection)
        except sqlite3.Error as error:
            raise SessionError(f"cannot use the index of the catalog: {error}") from error

    def close(self) -> None:
        """Forget what is in it."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class IndexRows:
    """The rows of one scope, which is a tenant and a workspace, in one transaction."""

    def __init__(self, connection: sqlite3.Connection, scope: str) -> None:
        self._connection = connection
        self._scope = scope

    def build(self, entries: Sequence[CatalogEntry], *, anew: bool) -> None:
        """Have these entries and no others. With `anew`, also if the index had them already."""
        digest = _digest(entries)
        run = self._connection.execute
        known = run("SELECT digest FROM catalog_built WHERE scope = ?", (self._scope,)).fetchone()
        if known == (digest,) and not anew:
            return
        run(
            "DELETE FROM catalog_words WHERE rowid IN"
            " (SELECT number FROM catalog_entries WHERE scope = ?)",
            (self._scope,),
        )
        for table in ("catalog_entries", "catalog_links"):
            run(f"DELETE FROM {table} WHERE scope = ?", (self._scope,))
        for entry in entries:
            self._add(entry)
        run("INSERT OR REPLACE INTO catalog_built VALUES (?, ?)", (self._scope, digest))

    def _add(self, entry: CatalogEntry) -> None:
        run = self._connection.execute
        number = run(
            "INSERT INTO catalog_entries (scope, id, kind, full_name, entry)"
            " VALUES (?, ?, ?, ?, ?)",
            (self._scope, entry.id, entry.item_type, entry.full_name, _json(entry.to_dict())),
        ).lastrowid
        words = (entry.name, entry.full_name, " ".join(entry.tags), entry.content)
        run(
            "INSERT INTO catalog_words (rowid, name, full_name, tags, content)"
            " VALUES (?, ?, ?, ?, ?)",
            (number, *words),
        )
        links = [(self._scope, entry.id, target, _json(about)) for target, about in entry.links()]
        self._connection.executemany("INSERT INTO catalog_links VALUES (?, ?, ?, ?)", links)

    def search(
        self, words: Sequence[str], kinds: Sequence[str], limit: int
    ) -> list[tuple[CatalogEntry, float]]:
        asked = " OR ".join(f'"{word}"*' for word in words)
        chosen = _json([*kinds])
        found = self._connection.execute(_SEARCH, (asked, self._scope, chosen, chosen, limit))
        return [(_entry(entry), -score) for entry, score in found]

    def get(self, names: Sequence[str]) -> dict[str, CatalogEntry]:
        wanted = {"scope": self._scope, "names": _json([*names])}
        rows = self._connection.execute(_GET, wanted).fetchall()
        by_name = {full_name: entry for _, full_name, entry in rows}
        by_id = {entry_id: entry for entry_id, _, entry in rows}
        found = by_name | by_id
        return {name: _entry(found[name]) for name in names if name in found}

    def columns(self, table: CatalogEntry, limit: int) -> list[CatalogEntry]:
        wanted = {
            "scope": self._scope,
            "id": table.id,
            "below": f"{table.full_name}.",
            "table": table.metadata.get("tableName", table.name),
            "schema": table.metadata.get("schemaName", ""),
            "limit": limit,
        }
        return [_entry(entry) for (entry,) in self._connection.execute(_COLUMNS, wanted)]

    def links(self, ids: Sequence[str], limit: int) -> list[Link]:
        wanted = {"scope": self._scope, "ids": _json([*ids]), "limit": limit}
        rows = self._connection.execute(_LINKS, wanted)
        return [
            Link(source=source, target=target, about=json.loads(about))
            for source, target, about in rows
        ]


def _digest(entries: Iterable[CatalogEntry]) -> str:
    made = hashlib.sha256(_FORMAT.encode())
    for entry in entries:
        made.update(_json(entry.to_dict()).encode() + b"\n")
    return made.hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _entry(text: str) -> CatalogEntry:
    return read_entry(json.loads(text), "an entry of the index")
