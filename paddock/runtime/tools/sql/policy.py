"""What a statement may not name, whatever the profile: the ways from a database to a machine.

Read-only sessions let through functions that read or write files, open connections,
run SQL that is handed to them as text, change settings, hold locks or end other people's
queries. Names are in lower case. What an administrator defines is not known here: an
account for an agent should be allowed to call only what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ENGINES",
    "NAMES",
    "READING_PRAGMAS",
    "Kind",
    "forbidden_function",
    "forbidden_package",
    "forbidden_view",
]

Kind = Literal["sqlite", "postgres", "mysql", "oracle"]

NAMES: Final[Mapping[Kind, str]] = {
    "sqlite": "SQLite", "postgres": "PostgreSQL", "mysql": "MySQL", "oracle": "Oracle",
}  # fmt: skip
"""As people write them."""

_FUNCTIONS: Final[dict[Kind, frozenset[str]]] = {
    "sqlite": frozenset({"fts3_tokenizer", "load_extension", "sqlite_log"}),
    "postgres": frozenset({
        "connectby", "crosstab", "crosstab2", "crosstab3", "crosstab4", "crosstabn",
        "database_to_xml", "database_to_xml_and_xmlschema", "schema_to_xml",
        "schema_to_xml_and_xmlschema", "table_to_xml", "table_to_xml_and_xmlschema", "xpath_table",
    }),
    "mysql": frozenset({
        "binlog_gtid_pos", "flush_rewrite_rules", "gen_dictionary_drop", "gen_dictionary_load",
        "get_lock", "load_file", "load_rewrite_rules", "master_gtid_wait", "master_pos_wait",
        "release_all_locks", "release_lock", "source_pos_wait", "sys_bineval", "sys_eval",
        "sys_exec", "sys_get", "sys_set", "wait_for_executed_gtid_set",
        "wait_until_sql_thread_after_gtids", "wsrep_sync_wait_upto_gtid",
    }),
    "oracle": frozenset({
        "bfilename", "dburitype", "external", "extractvalue", "httpuritype", "uritype",
        "xdburitype",
    }),
}  # fmt: skip
"""Those of PostgreSQL run SQL or read whole schemas, and are not said there to be
volatile (`effects` asks the server for the others). Those of MySQL are its own, and those of the
plugins that come with it or MariaDB. `extractvalue` and the URI types of Oracle fetch what a
document names; EXTERNAL reads a file as a table."""

_MYSQL_PREFIXES: Final = (
    "asynchronous_connection_failover_", "audit_api_", "audit_log_", "firewall_group_",
    "group_replication_", "keyring_", "masking_dictionary_", "masking_dictionaries_",
    "mroonga_", "mysql_firewall_", "read_firewall_", "service_get_", "service_release_",
    "set_firewall_", "spider_", "version_tokens_",
)  # fmt: skip

_ORACLE_PACKAGES: Final = (
    "apex_", "ctx_", "dbms_", "dburitype", "httpuritype", "owa_", "sdo_", "urifactory",
    "uritype", "utl_", "wwv_flow", "xdburitype",
)  # fmt: skip
"""How the names of packages begin, and types whose own functions make a value of them."""

ENGINES: Final = frozenset({"aria", "innodb", "memory", "myisam"})
"""Of MySQL and MariaDB, those that keep a table where the server keeps its own. Others may be
given the name of a file or of another server."""

_POSTGRES_VIEWS: Final = frozenset(
    {"pg_file_settings", "pg_hba_file_rules", "pg_ident_file_mappings"}
)
"""Views of the system that read files of the server: the function they call is not named."""

READING_PRAGMAS: Final[dict[str, bool]] = {
    "collation_list": False,
    "compile_options": False,
    "data_version": False,
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
    return name in _FUNCTIONS[kind] or (kind == "mysql" and name.startswith(_MYSQL_PREFIXES))


def forbidden_package(kind: Kind, name: str) -> bool:
    """Whether no statement may use what is in the package `name` (in lower case)."""
    return kind == "oracle" and name.startswith(_ORACLE_PACKAGES)


def forbidden_view(kind: Kind, name: str) -> bool:
    """Whether no statement may name the view `name` (in lower case)."""
    return kind == "postgres" and name in _POSTGRES_VIEWS
