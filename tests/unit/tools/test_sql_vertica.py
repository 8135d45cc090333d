"""Why there is no tool for Vertica: what the nearest parser makes of its statements.

Should one of these tests fail, there is a parser that knows more, and the tool may be made.
"""

from __future__ import annotations

import pytest
from sqlglot.dialects.dialect import Dialect

from paddock.runtime.tools.sql.statement import StatementRefused, read_statement


@pytest.mark.rows("S-49")
def test_no_parser_has_its_name() -> None:
    with pytest.raises(ValueError, match="vertica"):
        Dialect.get_or_raise("vertica")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t LIMIT 2 OVER (PARTITION BY a ORDER BY b)",
        "AT EPOCH LATEST SELECT a FROM t",
        "SELECT s FROM t TIMESERIES s AS '3 seconds' OVER (ORDER BY x)",
        "SELECT a FROM t MATCH (PARTITION BY a DEFINE b AS c = 1 PATTERN p AS (b))",
        "SELECT approximate_percentile(a USING PARAMETERS percentile = 0.5) FROM t",
        "PROFILE SELECT 1",
        "EXPORT TO PARQUET (directory = '/tmp/x') AS SELECT a FROM t",
    ],
)
def test_the_parser_of_postgres_does_not_know_what_is_its_own(sql: str) -> None:
    with pytest.raises(StatementRefused):
        read_statement(sql, "postgres")


@pytest.mark.parametrize("call", ["shutdown('true')", "purge()", "export_objects('/tmp/x', 's')"])
def test_the_parser_of_postgres_takes_its_functions_that_change_things_for_a_query(
    call: str,
) -> None:
    assert not read_statement(f"SELECT {call}", "postgres").changes
