"""The shop's products in SQLite, and the only code that changes their prices."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SCHEMA = """
create table product (id text primary key, segment text, cost real, price real);
create table applied (key text primary key, entities integer);
"""


class Catalogue:
    """A database file. Each method opens it anew, so any thread may call one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seed(self, count: int = 40) -> None:
        rows = [
            (f"sku-{number:03}", "home" if number % 2 else "enterprise", 10 + number, 20 + number)
            for number in range(count)
        ]
        with self._open() as database:
            database.executescript(SCHEMA)
            database.executemany("insert into product values (?, ?, ?, ?)", rows)

    def in_segment(self, segment: str) -> list[dict[str, Any]]:
        with self._open() as database:
            query = "select * from product where segment = ? order by id"
            return [dict(row) for row in database.execute(query, (segment,))]

    def products(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        marks = ", ".join("?" * len(ids))
        with self._open() as database:
            query = f"select * from product where id in ({marks}) order by id"
            return [dict(row) for row in database.execute(query, tuple(ids))]

    def change_prices(self, changes: Sequence[tuple[float, Sequence[str]]], *, key: str) -> int:
        """Change prices by per cent, all or none, and once for each `key`."""
        with self._open() as database:
            known = database.execute("select entities from applied where key = ?", (key,))
            if (row := known.fetchone()) is not None:
                return int(row["entities"])
            pairs = [(1 + percent / 100, each) for percent, ids in changes for each in ids]
            done = database.executemany("update product set price = price * ? where id = ?", pairs)
            database.execute("insert into applied values (?, ?)", (key, done.rowcount))
            return done.rowcount

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path)
        database.row_factory = sqlite3.Row
        try:
            with database:  # commit, or roll back
                yield database
        finally:
            database.close()
