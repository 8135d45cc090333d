"""Database files that many threads of many processes use at once."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES, THREADS, COUNT = 4, 4, 40

WORKER = f"""
import sys, threading
from paddock.runtime.core.database import PrivateDatabase

database = PrivateDatabase(sys.argv[1], "CREATE TABLE IF NOT EXISTS t (n INTEGER)", what="count")

def count(connection):
    row = connection.execute("SELECT max(n) FROM t").fetchone()
    connection.execute("INSERT INTO t (n) VALUES (?)", ((row[0] or 0) + 1,))

def work():
    for _ in range({COUNT}):
        database.transact(count)

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=work) for _ in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_no_write_is_lost_among_threads_of_processes_that_make_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.db"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    ended = [(worker.communicate(timeout=100)[1], worker.returncode) for worker in workers]
    assert ended == [("", 0)] * PROCESSES
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT count(*), max(n) FROM t").fetchone()
    assert found == (PROCESSES * THREADS * COUNT,) * 2
