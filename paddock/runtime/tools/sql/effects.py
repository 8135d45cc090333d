"""Which functions of PostgreSQL have effects that a read-only transaction does not stop.

No list of names can say it: each version and each extension brings its own. The server's
catalogue can. A function that does more than read is volatile there, and does what it does
in machine code or in another language that the server does not trust; what SQL and PL/pgSQL
do is stopped by the transaction. So no statement may call a volatile function that is the
system's, an extension's or in such a language, but for the few that are known to be harmless.
What an administrator wrote in SQL or PL/pgSQL is not judged, nor what is said not to be
volatile and is (`policy` names those that are known).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from paddock.runtime.tools.sql.statement import StatementRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

__all__ = ["HARMLESS", "refuse_effects"]

HARMLESS: Final = frozenset({
    "array_sample", "array_shuffle", "clock_timestamp", "current_query", "currval",
    "gen_random_bytes", "gen_random_uuid", "gen_salt", "lastval", "nextval", "normal_rand",
    "pg_blocking_pids", "pg_collation_actual_version", "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn", "pg_current_wal_lsn", "pg_database_size", "pg_indexes_size",
    "pg_is_in_recovery", "pg_is_wal_replay_paused", "pg_last_committed_xact",
    "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn", "pg_last_xact_replay_timestamp",
    "pg_lock_status", "pg_notification_queue_usage", "pg_partition_ancestors",
    "pg_partition_tree", "pg_prepared_xact", "pg_relation_size",
    "pg_safe_snapshot_blocking_pids", "pg_sequence_last_value", "pg_sleep", "pg_sleep_for",
    "pg_sleep_until", "pg_table_size", "pg_tablespace_size", "pg_total_relation_size",
    "pg_xact_commit_timestamp", "pg_xact_status", "pgp_pub_encrypt", "pgp_pub_encrypt_bytea",
    "pgp_sym_encrypt", "pgp_sym_encrypt_bytea", "random", "random_normal", "setseed", "setval",
    "timeofday", "txid_status", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4",
    "uuidv4", "uuidv7",
})  # fmt: skip
"""Volatile, and yet they read, wait, make up values or, as `setval`, obey the transaction."""

_EFFECTS: Final = """
SELECT DISTINCT p.proname::text
FROM pg_catalog.pg_proc AS p
WHERE p.proname = ANY (%s::name[]) AND p.provolatile = 'v'
  AND NOT 'pg_catalog.internal'::regtype = ANY (p.proargtypes)
  AND (p.pronamespace = 'pg_catalog'::regnamespace
       OR p.prolang NOT IN (SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanpltrusted)
       OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                  WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
                    AND d.deptype = 'e'))
ORDER BY 1
"""
"""A name is cut to its length as the server cuts it. No statement has a value for `internal`:
such a function, as the one for `TABLESAMPLE system`, is called by the server alone."""


def refuse_effects(connection: Connection, names: Iterable[str]) -> None:
    """Raise `StatementRefused` if one of `names` is a function that a statement may not call."""
    if asked := sorted(set(names) - HARMLESS):
        found = connection.exec_driver_sql(_EFFECTS, (asked,)).scalars().all()
        if found:
            raise StatementRefused(f"the function {found[0]} is not for agents")
