"""Servers that keep what runtimes remember, which the tests start for themselves."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import socket
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import psycopg
import redis

from tests.e2e.sql_served import PASSWORD, postgresql, running, short_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require
    from tests.e2e.sql_served import PostgreSQL

_numbers = itertools.count(1)


class StoreServer(Protocol):
    """A server with any number of stores."""

    def fresh(self) -> str:
        """Return the URL of a store that is empty."""
        ...

    def cut(self) -> None:
        """Close all connections."""
        ...


class PostgresServer:
    def __init__(self, server: PostgreSQL) -> None:
        self._server = server

    def fresh(self) -> str:
        name = f"store_{next(_numbers)}"
        self._server.admin(f"CREATE SCHEMA {name}")
        return f"{self.url}&options={quote(f'-csearch_path={name}')}"

    def cut(self) -> None:
        self._server.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'paddock'"
        )

    def execute(self, where: str, sql: str) -> None:
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(sql.encode())

    @property
    def url(self) -> str:
        where = f"host={quote(str(self._server.home), safe='')}&user=admin&password={PASSWORD}"
        return f"postgresql:///postgres?{where}"


class RedisServer:
    def __init__(self, port: int) -> None:
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{port}"

    def fresh(self) -> str:
        with self._client() as client:
            client.flushall()
        return self.url

    def cut(self) -> None:
        with self._client() as client:
            client.client_kill_filter(_type="normal", skipme=True)

    def configure(self, name: str, value: str) -> None:
        with self._client() as client:
            client.config_set(name, value)

    def put(self, key: str, value: str) -> None:
        with self._client() as client:
            client.set(key, value)

    def _client(self) -> contextlib.closing[redis.Redis]:
        return contextlib.closing(redis.Redis.from_url(self.url))


@contextlib.contextmanager
def postgres_server(require: Require) -> Iterator[PostgresServer]:
    """A server that trusts all who reach its socket; skips where there is no such program."""
    with postgresql(require) as server:
        yield PostgresServer(server)


@contextlib.contextmanager
def redis_server(require: Require) -> Iterator[RedisServer]:
    """A server that keeps nothing; skips where there is no such program."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    require("redis", program, "there is no redis-server; install redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD]
    serve += ["--save", '""', "--appendonly", "no"]
    with (
        short_home() as home,
        running(
            home,
            ["true"],
            ["sh", "-c", 'exec "$@" >&2', "sh", *serve],
            ready="Ready to accept connections",
            stop=signal.SIGTERM,
        ),
    ):
        yield RedisServer(port)
