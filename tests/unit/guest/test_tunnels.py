"""Connections through a guest, spoken to frame by frame, with real sockets at the other end."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import machine, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.guest.conftest import RawGuest

DEADLINE = 60.0
FIRST = wire.GUEST_CHANNELS + 1
"""The channel of the first connection that is made inside."""


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        yield listener


def port_of(listener: socket.socket) -> int:
    number: int = listener.getsockname()[1]
    return number


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return port_of(listener)


def on_ipv6() -> socket.socket | None:
    try:
        return socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        return None


def dial(guest: RawGuest, port: int, channel: int = 7000) -> int:
    guest.send(wire.OPEN, channel, wire.LENGTH.pack(port))
    return channel


def accept(server: socket.socket) -> socket.socket:
    connection = server.accept()[0]
    connection.settimeout(DEADLINE)
    return connection


def open_through(guest: RawGuest, server: socket.socket, channel: int = 7000) -> socket.socket:
    dial(guest, port_of(server), channel)
    connection = accept(server)
    guest.frame(wire.OPENED, channel)
    return connection


def number(payload: bytes) -> int:
    value: int = wire.LENGTH.unpack(payload)[0]
    return value


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, f"it ended after {len(data)} bytes"
        data += piece
    return data


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def sent(guest: RawGuest, channel: int, size: int) -> bytes:
    """So many bytes as the guest sends them."""
    data = b""
    while len(data) < size:
        data += guest.frame(wire.BYTES, channel)
    return data


def test_a_connection_carries_bytes_both_ways_and_each_way_ends_on_its_own(
    guest: RawGuest, server: socket.socket
) -> None:
    with open_through(guest, server) as inside:
        guest.send(wire.BYTES, 7000, b"question")
        guest.send(wire.END, 7000)
        assert read_exactly(inside, 8) == b"question"
        assert inside.recv(1) == b""
        inside.sendall(b"answer")
        assert sent(guest, 7000, 6) == b"answer"
    assert guest.frame(wire.END, 7000) == b""


def test_what_is_sent_before_the_answer_is_not_lost(guest: RawGuest, server: socket.socket) -> None:
    dial(guest, port_of(server))
    guest.send(wire.BYTES, 7000, b"early")
    with accept(server) as inside:
        assert read_exactly(inside, 5) == b"early"


def test_a_port_that_nobody_listens_on_is_refused(guest: RawGuest) -> None:
    channel = dial(guest, free_port())
    assert number(guest.frame(wire.RESET, channel)) == errno.ECONNREFUSED
    assert guest.output(guest.exec("echo", "on"))[0] == b"on\n"


def test_a_server_on_the_ipv6_loopback_is_found(
    guest: RawGuest, require: Callable[[str, object, str], None]
) -> None:
    listener = on_ipv6()
    require("ipv6", listener, "there is no IPv6 loopback")
    assert listener is not None
    with listener:
        listener.settimeout(DEADLINE)
        with open_through(guest, listener) as inside:
            inside.sendall(b"six")
            assert sent(guest, 7000, 3) == b"six"


def test_no_more_is_sent_than_was_granted(guest: RawGuest, server: socket.socket) -> None:
    extra = 100_000
    with open_through(guest, server) as inside:
        data = os.urandom(wire.TUNNEL_WINDOW + extra)
        inside.sendall(data)
        got = sent(guest, 7000, wire.TUNNEL_WINDOW)
        assert got == data[: wire.TUNNEL_WINDOW]
        # An answer that comes now shows that nothing more came before it.
        guest.request("ping")
        assert not [frame for frame in guest.unread if frame[0] == wire.BYTES]
        guest.send(wire.GRANT, 7000, wire.LENGTH.pack(extra))
        assert got + sent(guest, 7000, extra) == data


def test_what_the_server_takes_is_granted(guest: RawGuest, server: socket.socket) -> None:
    data = os.urandom(wire.TUNNEL_WINDOW)
    with open_through(guest, server) as inside:
        for at in range(0, len(data), wire.PIECE):
            guest.send(wire.BYTES, 7000, data[at : at + wire.PIECE])
        assert read_exactly(inside, len(data)) == data
        granted = 0
        while granted < len(data):
            granted += number(guest.frame(wire.GRANT, 7000))
        assert granted == len(data)


def test_a_server_that_resets_is_a_reset_to_the_host(
    guest: RawGuest, server: socket.socket
) -> None:
    reset(open_through(guest, server))
    assert number(guest.frame(wire.RESET, 7000)) == errno.ECONNRESET


def test_a_reset_of_the_host_is_one_to_the_server(guest: RawGuest, server: socket.socket) -> None:
    with open_through(guest, server) as inside:
        guest.send(wire.RESET, 7000, wire.LENGTH.pack(errno.ECONNABORTED))
        with pytest.raises(ConnectionResetError):
            inside.recv(1)
    guest.send(wire.BYTES, 7000, b"late")
    guest.send(wire.END, 7000)
    guest.request("ping")


def test_the_last_words_of_a_server_that_hung_up_early_arrive(
    guest: RawGuest, server: socket.socket
) -> None:
    with open_through(guest, server) as inside:
        inside.sendall(b"too much")
        assert sent(guest, 7000, 8) == b"too much"
        inside.sendall(b", sorry")
        inside.close()
    for _ in range(3):
        guest.send(wire.BYTES, 7000, b"x" * 1000)
    assert sent(guest, 7000, 7) == b", sorry"
    kind, _, _ = guest.next(lambda frame: frame[0] in (wire.END, wire.RESET))
    if kind == wire.END:  # the guest was faster than the first write after the server's end
        guest.send(wire.BYTES, 7000, b"x")
        guest.frame(wire.RESET, 7000)


def test_a_connection_that_is_not_read_holds_up_nothing_else(
    guest: RawGuest, server: socket.socket
) -> None:
    with open_through(guest, server, 7000) as idle, open_through(guest, server, 7001) as busy:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(wire.TUNNEL_WINDOW // wire.PIECE):
            guest.send(wire.BYTES, 7000, bytes(wire.PIECE))
        guest.send(wire.BYTES, 7001, b"through")
        assert read_exactly(busy, 7) == b"through"
        assert guest.output(guest.exec("echo", "on"))[0] == b"on\n"


def listen(guest: RawGuest) -> int:
    port = free_port()
    guest.request("configure", limits={}, spill_dir=str(guest.folder), lease=None, listen=port)
    return port


def call(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


def test_a_connection_made_inside_is_opened_on_a_channel_of_the_guests(guest: RawGuest) -> None:
    port = listen(guest)
    with call(port) as client:
        assert guest.frame(wire.OPEN, FIRST) == b""
        client.sendall(b"out?")
        assert sent(guest, FIRST, 4) == b"out?"
        guest.send(wire.BYTES, FIRST, b"no")
        guest.send(wire.END, FIRST)
        assert read_exactly(client, 2) == b"no"
        assert client.recv(1) == b""
    guest.frame(wire.END, FIRST)
    with call(port):
        guest.frame(wire.OPEN, FIRST + 1)


def test_a_port_that_is_taken_is_the_requests_error(guest: RawGuest, server: socket.socket) -> None:
    answer = guest.request(
        "configure", limits={}, spill_dir="/", lease=None, listen=port_of(server)
    )
    assert answer["error"]["errno"] == errno.EADDRINUSE


def test_no_more_connections_are_taken_than_may_be(guest: RawGuest) -> None:
    port = listen(guest)
    clients = [call(port) for _ in range(wire.TUNNELS_MAX)]
    for at in range(wire.TUNNELS_MAX):
        guest.frame(wire.OPEN, FIRST + at)
    try:
        clients.append(call(port))  # the kernel has answered; the guest has not taken it
        guest.request("ping")
        guest.request("ping")
        assert not [frame for frame in guest.unread if frame[0] == wire.OPEN]
        guest.send(wire.RESET, FIRST, wire.LENGTH.pack(errno.ECONNABORTED))
        guest.frame(wire.OPEN, FIRST + wire.TUNNELS_MAX)
    finally:
        for client in clients:
            client.close()


FEW = 48
"""Descriptors of a guest that runs out of them."""


@pytest.fixture
def poor_guest(
    start_guest: Callable[..., RawGuest], require: Callable[[str, object, str], None]
) -> RawGuest:
    require("prlimit", shutil.which("prlimit"), "it is not installed")
    return start_guest(prefix=("prlimit", f"--nofile={FEW}:{FEW}"))


def test_connections_to_servers_leave_descriptors_for_killing(
    poor_guest: RawGuest, server: socket.socket
) -> None:
    server.listen(FEW)
    opened = []
    for channel in range(7000, 7000 + FEW):
        dial(poor_guest, port_of(server), channel)
        kind, _, payload = poor_guest.next(
            lambda frame, channel=channel: frame[1] == channel  # type: ignore[misc]
        )
        if kind == wire.OPENED:
            opened.append(accept(server))
        else:
            assert number(payload) == errno.EMFILE
    for connection in opened:
        connection.close()
    assert 0 < len(opened) < FEW - machine.SPARE_DESCRIPTORS


def test_connections_from_inside_leave_descriptors_for_killing(poor_guest: RawGuest) -> None:
    port = listen(poor_guest)
    clients = [call(port) for _ in range(FEW)]
    for _ in range(2 * FEW):  # a round of its loop each, in which it can take one
        poor_guest.request("ping")
    opened = [frame for frame in poor_guest.unread if frame[0] == wire.OPEN]
    for client in clients:
        client.close()
    assert 0 < len(opened) < FEW - machine.SPARE_DESCRIPTORS
    for _, channel, _ in opened:
        poor_guest.send(wire.END, channel)
    with call(port):
        poor_guest.next(lambda frame: frame[0] == wire.OPEN and frame not in opened)


def test_a_command_inherits_no_connection(guest: RawGuest, server: socket.socket) -> None:
    listen(guest)
    with open_through(guest, server):
        look = 'for n in $(seq 0 99); do [ -e /proc/$$/fd/$n ] && printf "$n "; done'
        assert guest.output(guest.exec("sh", "-c", look))[0] == b"0 1 2 "
