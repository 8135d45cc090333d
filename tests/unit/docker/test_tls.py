"""Streams through TLS, of which each end is a plain socket for whoever uses it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker.engine.tls import dial_tls
from paddock.backends.guest.writer import SharedWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Require

DEADLINE = 60.0
CERTIFICATE = """\
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 \
  -subj /CN=localhost -addext subjectAltName=DNS:localhost
"""


class EchoServer(threading.Thread):
    """Takes one connection, and sends back what it hears; `heard` is set when it has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        listener = socket.create_server(("localhost", 0))
        listener.settimeout(DEADLINE)
        self.port = listener.getsockname()[1]
        self.listener = context.wrap_socket(listener, server_side=True)
        self.heard = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        with self.listener:
            try:
                connection = self.listener.accept()[0]
            except OSError:  # a handshake that was refused
                return
            with connection:
                while data := connection.recv(65536):
                    self.heard.set()
                    connection.sendall(data)
        self.ended.set()


@pytest.fixture
def server(tmp_path: Path, require: Require) -> Iterator[EchoServer]:
    require("openssl", shutil.which("openssl"), "it makes the certificate")
    subprocess.run(["sh", "-ec", CERTIFICATE], cwd=tmp_path, check=True, capture_output=True)
    server = EchoServer(tmp_path)
    server.start()
    yield server
    server.join(DEADLINE)
    assert not server.is_alive()


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))


async def test_bytes_pass_both_ways_and_the_end_is_the_end(
    server: EchoServer, tmp_path: Path
) -> None:
    connected = await dial_tls("localhost", server.port, trusting(tmp_path))
    reader, writer = await asyncio.open_unix_connection(sock=connected)
    data = bytes(range(256)) * 4096
    writer.write(data)
    assert await asyncio.wait_for(reader.readexactly(len(data)), DEADLINE) == data
    writer.close()
    assert await asyncio.to_thread(server.ended.wait, DEADLINE)


async def test_another_thread_reaches_the_peer_while_the_loop_is_blocked(
    server: EchoServer, tmp_path: Path
) -> None:
    connected = await dial_tls("localhost", server.port, trusting(tmp_path))
    transport, _ = await asyncio.get_running_loop().create_unix_connection(
        asyncio.Protocol, sock=connected
    )
    writer = SharedWriter(transport, asyncio.get_running_loop())
    beating = threading.Thread(target=writer.write_from_thread, args=(b"beat",))
    beating.start()
    assert server.heard.wait(DEADLINE)  # which blocks the loop
    beating.join()
    writer.close()
    transport.abort()


async def test_a_peer_that_is_not_trusted_or_not_there_is_an_error(server: EchoServer) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await dial_tls("localhost", server.port, ssl.create_default_context())
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match="Connect"):
        await dial_tls("localhost", port, ssl.create_default_context())
