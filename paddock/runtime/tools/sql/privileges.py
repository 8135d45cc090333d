"""What a role of PostgreSQL may do beyond reading, by itself or as another that it can become.

A read-only transaction stops changes to tables. It does not stop a superuser from running
programs, nor an owner from rebuilding an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

__all__ = ["RoleRefused", "refuse_writers"]

MAX_SHOWN: Final = 5
"""Privileges that an error names: the first few show which role it is, and what was granted."""

POWERFUL: Final = (
    "pg_checkpoint", "pg_create_subscription", "pg_execute_server_program", "pg_maintain",
    "pg_read_server_files", "pg_signal_backend", "pg_write_all_data", "pg_write_server_files",
)  # fmt: skip
"""PostgreSQL's own roles that do more than read tables."""

_FOUND: Final = """
WITH me AS (
    SELECT r.* FROM pg_catalog.pg_roles AS r
    WHERE pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
       OR pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')
), relations AS (
    SELECT c.oid, c.relkind, c.relowner, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema'
      AND n.nspname !~ '^pg_'
)
(SELECT 'is a superuser' FROM me WHERE rolsuper LIMIT 1)
UNION ALL
(SELECT 'has ' || word FROM me CROSS JOIN LATERAL (VALUES
    ('CREATEDB', rolcreatedb), ('CREATEROLE', rolcreaterole), ('REPLICATION', rolreplication)
 ) AS attribute (word, is_given) WHERE is_given LIMIT %(most)s)
UNION ALL
(SELECT 'is a member of ' || rolname FROM me WHERE rolname = ANY (%(powerful)s) LIMIT %(most)s)
UNION ALL
(SELECT 'owns ' || name FROM relations WHERE relowner IN (SELECT oid FROM me) LIMIT %(most)s)
UNION ALL
(SELECT DISTINCT 'may write ' || name FROM relations CROSS JOIN me
 WHERE CASE WHEN relkind = 'S'
       THEN pg_catalog.has_sequence_privilege(me.oid, relations.oid, 'USAGE, UPDATE')
       ELSE pg_catalog.has_table_privilege(
                me.oid, relations.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
         OR pg_catalog.has_any_column_privilege(me.oid, relations.oid, 'INSERT, UPDATE, REFERENCES')
       END
 LIMIT %(most)s)
UNION ALL
(SELECT DISTINCT 'may create in the schema ' || n.nspname FROM pg_catalog.pg_namespace AS n
 CROSS JOIN me WHERE n.nspname !~ '^pg_(toast|temp)'
   AND pg_catalog.has_schema_privilege(me.oid, n.oid, 'CREATE') LIMIT %(most)s)
UNION ALL
(SELECT 'may create schemas in the database' FROM me WHERE pg_catalog.has_database_privilege(
    me.oid, pg_catalog.current_database(), 'CREATE') LIMIT 1)
"""
_SUPERUSER: Final = "is a superuser"


class RoleRefused(ConfigError):
    """The role could write, so no statement is sent as it."""


def refuse_writers(connection: Connection) -> None:
    """Raise `RoleRefused` if the connection's role may do more than read.

    The error says what it may do, and what to grant instead.
    """
    values = {"most": MAX_SHOWN, "powerful": list(POWERFUL)}
    found = connection.exec_driver_sql(_FOUND, values).scalars().all()
    if found:
        role = connection.exec_driver_sql("SELECT session_user::text").scalar_one()
        raise RoleRefused(_refusal(str(role), found))


def _refusal(role: str, found: Iterable[str]) -> str:
    told = [*found][:MAX_SHOWN]
    if _SUPERUSER in told:
        told = [_SUPERUSER]
    return (
        f"the role {role!r} could write, and only a role that reads is used: it "
        f"{', '.join(told)}. Connect as a role of its own, made with CREATE ROLE reader LOGIN; "
        "GRANT USAGE ON SCHEMA ... TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA ... TO reader. "
        "What everybody may do is taken away with REVOKE CREATE ON SCHEMA ... FROM PUBLIC"
    )
