"""What a statement may not name, whatever the profile: the ways from a database to a machine.

Read-only sessions let through functions that read or write files, open connections,
run SQL that is handed to them as text, change settings, hold locks or end other people's
queries. Names are in lower case. What an administrator defines is not known here: an
account for an agent should be allowed to call only what it needs.
"""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["READING_PRAGMAS", "Kind", "forbidden_function", "forbidden_package"]

Kind = Literal["sqlite", "postgres", "mysql", "oracle"]

_FUNCTIONS: Final[dict[Kind, frozenset[str]]] = {
    "sqlite": frozenset({
        "edit", "fts3_tokenizer", "load_extension", "lsmode", "readfile", "regexp", "writefile",
    }),
    "postgres": frozenset({
        "binary_upgrade_create_empty_extension", "connectby", "crosstab", "crosstab2",
        "crosstab3", "crosstab4", "crosstabn", "lo_close", "lo_creat", "lo_create", "lo_export",
        "lo_from_bytea", "lo_get", "lo_import", "lo_lseek", "lo_lseek64", "lo_open", "lo_put",
        "lo_tell", "lo_tell64", "lo_truncate", "lo_truncate64", "lo_unlink", "loread", "lowrite",
        "pg_backup_start",
        "pg_backup_stop", "pg_cancel_backend", "pg_create_logical_replication_slot",
        "pg_create_physical_replication_slot", "pg_create_restore_point",
        "pg_copy_logical_replication_slot", "pg_copy_physical_replication_slot",
        "pg_current_logfile", "pg_drop_replication_slot", "pg_export_snapshot",
        "pg_import_system_collations", "pg_log_backend_memory_contexts",
        "pg_logical_emit_message", "pg_notify", "pg_promote", "pg_reload_conf",
        "pg_replication_slot_advance", "pg_rotate_logfile", "pg_start_backup", "pg_stat_file",
        "pg_stat_reset", "pg_stop_backup", "pg_switch_wal", "pg_terminate_backend",
        "pg_wal_replay_pause", "pg_wal_replay_resume", "query_to_xml",
        "query_to_xml_and_xmlschema", "query_to_xmlschema", "set_config", "ts_rewrite", "ts_stat",
    }),
    "mysql": frozenset({
        "get_lock", "load_file", "master_pos_wait", "release_all_locks", "release_lock",
        "source_pos_wait", "sys_eval", "sys_exec", "sys_get", "sys_set",
    }),
    "oracle": frozenset({
        "bfilename", "dburitype", "extractvalue", "httpuritype", "uritype", "xdburitype",
    }),
}  # fmt: skip
"""SQLite's `regexp` would be Python's, which one bad pattern holds up for hours, the whole
process with it. `extractvalue` and the URI types of Oracle fetch what a document names."""

_FUNCTION_PREFIXES: Final[dict[Kind, tuple[str, ...]]] = {
    "sqlite": (),
    "postgres": (
        "dblink", "pg_advisory", "pg_file_", "pg_logical_slot_", "pg_ls_", "pg_read_",
        "pg_replication_origin_", "pg_stat_reset_", "pg_try_advisory", "pg_write_",
    ),
    "mysql": (),
    "oracle": (),
}  # fmt: skip

_PACKAGE_PREFIXES: Final[dict[Kind, tuple[str, ...]]] = {
    "sqlite": (),
    "postgres": (),
    "mysql": (),
    "oracle": ("apex_", "ctx_", "dbms_", "owa_", "sdo_", "utl_", "wwv_flow"),
}

READING_PRAGMAS: Final[dict[str, bool]] = {
    "collation_list": False,
    "compile_options": False,
    "database_list": False,
    "encoding": False,
    "foreign_key_check": True,
    "foreign_key_list": True,
    "freelist_count": False,
    "function_list": False,
    "index_info": True,
    "index_list": True,
    "index_xinfo": True,
    "integrity_check": True,
    "journal_mode": False,
    "module_list": False,
    "page_count": False,
    "page_size": False,
    "quick_check": True,
    "schema_version": False,
    "table_info": True,
    "table_list": True,
    "table_xinfo": True,
    "user_version": False,
}
"""Pragmas that tell something, and whether they still only tell when given an argument."""


def forbidden_function(kind: Kind, name: str) -> bool:
    """Whether no statement may call the function `name` (in lower case)."""
    return name in _FUNCTIONS[kind] or name.startswith(_FUNCTION_PREFIXES[kind])


def forbidden_package(kind: Kind, name: str) -> bool:
    """Whether no statement may use what is in the package `name` (in lower case)."""
    return name.startswith(_PACKAGE_PREFIXES[kind])
