"""A database in a file."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a b?#%.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, photo BLOB);"
            "CREATE TABLE pets (owner INTEGER REFERENCES people(id), name TEXT DEFAULT 'Rex');"
            "CREATE UNIQUE INDEX by_name ON pets (name);"
            "CREATE VIEW names AS SELECT name FROM people;"
        )
        rows = [(f"n{number}", None) for number in range(150)]
        connection.executemany("INSERT INTO people (name, photo) VALUES (?, ?)", rows)
    connection.close()
    return path
