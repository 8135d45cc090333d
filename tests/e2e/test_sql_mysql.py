"""The `mysql` tool and a real MariaDB server: what other servers do not have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.e2e.sql_served import mariadb, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require
    from tests.e2e.sql_served import MariaDB


@pytest.fixture(scope="module")
def server(require: Require) -> Iterator[MariaDB]:
    with mariadb(require) as server:
        yield server


async def test_a_good_query_needs_no_second_connection(server: MariaDB) -> None:
    server.admin("GRANT USAGE ON *.* TO agent@localhost WITH MAX_USER_CONNECTIONS 1")
    try:
        output = await query(server.handler(), "SELECT seq FROM seq_1_to_1000000")
    finally:
        server.admin("GRANT USAGE ON *.* TO agent@localhost WITH MAX_USER_CONNECTIONS 0")
    assert output.content.endswith("[Showing the first 100 rows; there are more]")


@pytest.mark.rows("S-49")
async def test_what_only_tells_is_allowed(server: MariaDB) -> None:
    assert (await query(server.handler(), "SHOW CREATE TABLE customers")).success


@pytest.mark.rows("S-49")
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 INTO OUTFILE '{file}'",
        "SELECT 1 /*! INTO OUTFILE '{file}' */",
        "SELECT 1 /*M! INTO DUMPFILE '{file}' */",
        "SELECT 1 --\x01 '\n INTO OUTFILE '{file}' -- '",
        "SELECT 'a\\' INTO OUTFILE ', '{file}'",
        'SELECT "a" INTO OUTFILE \'{file}\' #"',
    ],
)
async def test_no_file_of_the_server_is_written(server: MariaDB, sql: str) -> None:
    await query(server.handler(), sql.replace("{file}", str(server.home / "written")))
    assert "written" not in os.listdir(server.home)


async def test_a_wrong_password_is_told_and_not_shown(server: MariaDB) -> None:
    output = await query(server.handler(password="wrong-and-secret"), "SELECT 1")
    assert not output.success
    assert "Access denied" in output.content
    assert "wrong-and-secret" not in output.content
