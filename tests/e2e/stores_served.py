"""Servers that keep what runtimes remember, each in a container of an image that we build."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import psycopg
import pytest
import redis
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from paddock import BuildFailed, Image
from paddock.backends.docker.engine.client import Engine
from paddock.backends.docker.images.build import ensure
from tests.e2e.sql_served import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require

STARTING = 120
"""Seconds for a server to start, on a machine ten times as busy as ours."""

LIFETIME = 1800
"""Seconds after which a server ends by itself, and its container with it, if the tests were killed:
longer than all tests take."""

POSTGRES = """
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
cd /tmp
echo "$PASSWORD" > password
"$bin/initdb" -D data -U admin --auth=scram-sha-256 --pwfile=password --no-sync -E UTF8
echo "host all all all scram-sha-256" >> data/pg_hba.conf
exec "$bin/postgres" -D data -F -c listen_addresses=* -c unix_socket_directories=
"""
REDIS = 'exec redis-server --bind 0.0.0.0 --requirepass "$PASSWORD" --save "" --appendonly no'

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
    def __init__(self, port: int) -> None:
        self._url = f"postgresql://admin:{PASSWORD}@127.0.0.1:{port}/postgres"

    def fresh(self) -> str:
        name = f"store_{next(_numbers)}"
        self.execute(self._url, f"CREATE SCHEMA {name}")
        return f"{self._url}?options={quote(f'-csearch_path={name}')}"

    def cut(self) -> None:
        self.execute(
            self._url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'paddock'",
        )

    def execute(self, where: str, sql: str) -> None:
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(sql.encode())


class RedisServer:
    def __init__(self, port: int) -> None:
        self._url = f"redis://:{PASSWORD}@127.0.0.1:{port}"

    def fresh(self) -> str:
        with self._client() as client:
            client.flushall()
        return self._url

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
        return contextlib.closing(redis.Redis.from_url(self._url))


@pytest.fixture(scope="session")
def postgres(base_image: str, require: Require) -> Iterator[PostgresServer]:
    image = built(base_image, "postgresql", require)
    with _running(image, POSTGRES, user="postgres", port=5432) as port:
        yield PostgresServer(port)


@pytest.fixture(scope="session")
def redis_server(base_image: str, require: Require) -> Iterator[RedisServer]:
    image = built(base_image, "redis-server", require)
    with _running(image, REDIS, user="redis", port=6379) as port:
        yield RedisServer(port)


def built(base: str, package: str, require: Require) -> str:
    """Return an image with a Debian package; `base_image` removes it after the last test."""

    async def build() -> str:
        return await ensure(await Engine.connect(), Image.from_registry(base).apt_install(package))

    try:
        return asyncio.run(build())
    except BuildFailed as error:
        require(package, False, f"its Debian package cannot be installed in an image: {error}")
        raise


@contextlib.contextmanager
def _running(image: str, script: str, *, user: str, port: int) -> Iterator[int]:
    """Run a container until the block ends; yield the port of this machine that reaches it."""
    container = DockerContainer(
        image,
        env={"PASSWORD": PASSWORD},
        _wait_strategy=LogMessageWaitStrategy(
            "(?i)ready to accept connections"
        ).with_startup_timeout(STARTING),
        entrypoint=["timeout", str(LIFETIME), "sh", "-c", script],
        auto_remove=True,
        user=user,
    )
    loopback: Any = ("127.0.0.1", None)
    container.ports[f"{port}/tcp"] = loopback
    with pytest.MonkeyPatch.context() as patch:
        # The image of its reaper cannot be pulled; the end of the block removes the container.
        patch.setattr(testcontainers_config, "ryuk_disabled", True)
        with container:
            yield container.get_exposed_port(port)
