"""`sandbox_factory(services=...)`: containers beside a sandbox that has no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from paddock import DockerBackend, LocalBackend
from paddock.testing.fake import FakeBackend
from tests.e2e.stores_served import LIFETIME, built

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.testing import SandboxFactory
    from tests.conftest import Require

SERVER = """
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
cd /tmp
echo "$POSTGRES_PASSWORD" > password
"$bin/initdb" -D data -U "$POSTGRES_USER" --auth=scram-sha-256 --pwfile=password --no-sync
echo "host all all all scram-sha-256" >> data/pg_hba.conf
exec "$bin/postgres" -D data -F -c listen_addresses=* -c unix_socket_directories=
"""
ECHO = """
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"hello ")
        self.wfile.write(self.rfile.readline())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", 7000), Echo).serve_forever()
"""
ASK = """
import os, socket
from concurrent.futures import ThreadPoolExecutor
def ask(number):
    place = os.environ["ECHO_HOST"], int(os.environ["ECHO_PORT"])
    with socket.create_connection(place, 60) as it:
        it.sendall(b"%d\\n" % number)
        return it.makefile().readline().strip()
with ThreadPoolExecutor(12) as pool:
    print(*pool.map(ask, range(12)), sep=",")
"""


@pytest.fixture
def no_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of testcontainers' own reaper cannot be pulled."""
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)


def echo(image: str) -> DockerContainer:
    """Return a container that answers on port 7000."""
    container = DockerContainer(image, entrypoint=["timeout", str(LIFETIME), "python3", "-c", ECHO])
    return container.with_exposed_ports(7000)


class TestPostgres:
    @pytest.fixture
    def image(self, base_image: str, require: Require) -> str:
        return built(base_image, "postgresql", require)

    @pytest.fixture
    def sandbox_recipe(self, image: str) -> Backend:
        return DockerBackend(image=image, network="none")

    @pytest.mark.usefixtures("no_reaper")
    async def test_a_database_is_reached_without_a_network(
        self, sandbox_factory: SandboxFactory, image: str
    ) -> None:
        database = PostgresContainer(image, username="test", dbname="postgres", driver=None)
        database.with_kwargs(
            user="postgres", entrypoint=["timeout", str(LIFETIME), "sh", "-c", SERVER]
        )
        async with sandbox_factory(services={"db": database}) as sandbox:
            asked = await sandbox.exec('psql -tA "$DB_URL" -c "select 6 * 7"', timeout=60)
            assert (asked.stdout, asked.stderr) == ("42\n", "")
            assert (await sandbox.exec("echo $DB_HOST:$DB_PORT")).stdout == "127.0.0.1:5432\n"
        with pytest.raises(Exception, match="No such container"):
            database.get_wrapped_container().reload()


class TestMany:
    @pytest.fixture(params=["docker", "local"])
    def sandbox_recipe(self, request: pytest.FixtureRequest, base_image: str) -> Backend:
        return DockerBackend(network="none") if request.param == "docker" else LocalBackend()

    @pytest.mark.usefixtures("no_reaper")
    async def test_many_connections_do_not_mix_and_a_running_container_stays(
        self, sandbox_factory: SandboxFactory, base_image: str
    ) -> None:
        with echo(base_image) as container:
            async with sandbox_factory(services={"echo": container}) as sandbox:
                asked = await sandbox.exec(["python3", "-c", ASK], timeout=60)
                assert asked.stdout.strip() == ",".join(f"hello {n}" for n in range(12))
            container.get_wrapped_container().reload()
            assert container.get_wrapped_container().status == "running"


class TestRefused:
    @pytest.fixture
    def sandbox_recipe(self) -> Backend:
        return FakeBackend()

    @pytest.mark.usefixtures("no_reaper")
    async def test_without_python_inside_there_are_none(
        self, sandbox_factory: SandboxFactory, base_image: str
    ) -> None:
        container = echo(base_image)
        with pytest.raises(pytest.fail.Exception, match="there is no python3 inside"):
            async with sandbox_factory(services={"echo": container}):
                raise AssertionError("it has been made")
        with pytest.raises(pytest.fail.Exception, match="exposes no port"):
            async with sandbox_factory(services={"echo": DockerContainer(base_image)}):
                raise AssertionError("it has been made")
