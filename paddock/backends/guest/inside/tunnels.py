"""TCP connections through the stream: the host's to a port inside, and those to a port of ours.

Each way of a connection has a window and ends on its own (`END`); what breaks here is
broken at the host too, and the other way round (`RESET`). What is said on a connection
is not looked at.
"""

from __future__ import annotations

import errno
import struct

from .light import accepted, socket, suppress
from .poller import READ, WRITE
from .wire import (
    BYTES,
    END,
    GRANT,
    GUEST_CHANNELS,
    LENGTH,
    OPEN,
    OPENED,
    PIECE,
    RESET,
    TUNNEL_WINDOW,
    TUNNELS_MAX,
    frame,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine import Machine
    from .outbox import Outbox

ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Where a server inside may listen, in the order in which it is looked for."""
CONNECT_DEADLINE = 10.0
"""Seconds: a loopback answers at once, unless a server's queue is full."""
ACCEPT_PAUSE = 0.1
"""Seconds until connections are taken again when there were no descriptors for them."""
ABORTIVE = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that the peer sees as a reset."""


class Tunnels:
    """All connections of one host, by channel."""

    def __init__(self, machine: Machine, outbox: Outbox) -> None:
        self.poller = machine.poller
        self.most = machine.descriptors
        self.outbox = outbox
        self.by_channel: dict[int, Tunnel] = {}
        self.listener: socket.socket | None = None
        self.listening = False
        self.accepted = 0
        self.live = 0
        """Those that were opened inside and have not ended."""

    def on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == OPEN:
            Tunnel(self, channel).connect(LENGTH.unpack(payload)[0])
        elif channel in self.by_channel:  # else it ended here while the frame was on its way
            ON_KIND[kind](self.by_channel[channel], payload)

    def balance(self) -> None:
        """The way to the host is congested, or is so no longer."""
        for tunnel in self.by_channel.values():
            tunnel.balance()

    def forget(self, channel: int) -> None:
        known = self.by_channel.pop(channel, None) is not None
        if known and channel & GUEST_CHANNELS:
            self.live -= 1
            self.balance_listener()

    def close(self) -> None:
        """The host has gone: end them all, take no more."""
        if self.listener is not None:
            if self.listening:
                self.poller.forget(self.listener.fileno())
            self.listener.close()
            self.listener = None
        for tunnel in tuple(self.by_channel.values()):
            tunnel.end(abort=True)

    # connections from inside

    def listen(self, port: int) -> None:
        """Take connections to `port` of the loopback, each as a channel to the host."""
        listener = socket.socket()
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(TUNNELS_MAX)
        except OSError:
            listener.close()
            raise
        self.listener = listener
        self.balance_listener()

    def balance_listener(self) -> None:
        """Take connections exactly while there may be more; the others wait in the queue."""
        wanted = self.live < TUNNELS_MAX
        if wanted != self.listening and self.listener is not None:
            self.listening = wanted
            if wanted:
                self.poller.watch(self.listener.fileno(), self.on_connection)
            else:
                self.poller.forget(self.listener.fileno())

    def on_connection(self) -> None:
        assert self.listener is not None, "a connection before listening"
        try:
            connection = accepted(self.listener)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self.pause_listener()
            return
        if connection.fileno() >= self.most:
            connection.close()
            self.pause_listener()
            return
        self.accepted = (self.accepted + 1) % GUEST_CHANNELS
        self.live += 1
        self.balance_listener()
        connection.setblocking(False)
        tunnel = Tunnel(self, self.accepted | GUEST_CHANNELS)
        tunnel.socket = connection
        self.outbox.send(frame(OPEN, tunnel.channel))
        tunnel.start()

    def pause_listener(self) -> None:
        assert self.listener is not None, "paused before listening"
        self.listening = False
        self.poller.forget(self.listener.fileno())
        self.poller.after(ACCEPT_PAUSE, self.balance_listener)


class Tunnel:
    """One connection: a socket here, a channel to the host."""

    def __init__(self, tunnels: Tunnels, channel: int) -> None:
        self.tunnels = tunnels
        self.outbox = tunnels.outbox
        self.poller = tunnels.poller
        self.channel = channel
        self.socket: socket.socket | None = None
        self.connected = False
        self.attempts: list[tuple[int, tuple[str, int]]] = []
        self.refusal = 0
        self.events = 0
        self.queue = bytearray()
        """What the host has sent and the socket has not taken."""
        self.owed = 0
        """Bytes that the socket has taken and the host has not been told of."""
        self.window = TUNNEL_WINDOW
        self.reading = True
        self.writing = True
        self.host_ended = False
        self.broken = 0
        """Why writing failed; reported to the host once everything readable has been read."""
        tunnels.by_channel[channel] = self

    # its beginning

    def connect(self, port: int) -> None:
        """Look for a server on `port`, without waiting, and report the result to the host."""
        self.attempts = [(family, (host, port)) for family, host in ADDRESSES]
        self.poller.after(CONNECT_DEADLINE, self.on_deadline)
        self.attempt()

    def on_deadline(self) -> None:
        if not self.connected:
            self.reset(errno.ETIMEDOUT)

    def attempt(self) -> None:
        """Try the addresses that are left, until one answers or may answer later."""
        while self.attempts:
            family, address = self.attempts.pop(0)
            try:
                self.socket = open_socket(family, self.tunnels.most)
                self.socket.connect(address)
            except BlockingIOError:
                self.balance()
                return
            except OSError as error:
                self.on_refused(error.errno or errno.EIO)
            else:
                self.on_connected()
                return
        self.reset(self.refusal)

    def on_refused(self, number: int) -> None:
        self.refusal = self.refusal or number
        self.close_socket()

    def on_connected(self) -> None:
        self.outbox.send(frame(OPENED, self.channel))
        self.start()

    def start(self) -> None:
        if self.socket is None:
            return  # the host went away during the report
        self.connected = True
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.write()
        self.balance()

    # events

    def balance(self) -> None:
        """Watch the socket for exactly what can be done with it now."""
        if self.socket is None:
            return
        events = 0
        if self.queue or not self.connected:
            events |= WRITE
        if self.connected and self.reading and self.window > 0 and not self.outbox.congested:
            events |= READ
        if events == self.events:
            return
        if self.events:
            self.poller.forget(self.socket.fileno())
        self.events = events
        if events:
            self.poller.watch(self.socket.fileno(), self.on_ready, events)

    def on_ready(self) -> None:
        assert self.socket is not None, "an event of a closed socket"
        if not self.connected:
            failure = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                self.on_refused(failure)
                self.attempt()
            else:
                self.on_connected()
            return
        if self.events & READ:
            self.read()
        self.write()
        self.balance()

    def read(self) -> None:
        assert self.socket is not None, "read after its end"
        try:
            data = self.socket.recv(min(PIECE, self.window))
        except BlockingIOError:
            return
        except OSError as error:
            self.reset(error.errno or errno.EIO)
            return
        if data:
            self.window -= len(data)
            self.outbox.send(frame(BYTES, self.channel, data))
        elif self.broken:
            self.reset(self.broken)
        else:
            self.reading = False
            self.outbox.send(frame(END, self.channel))
            self.maybe_end()

    def write(self) -> None:
        """Pass on what the host has sent; then its end."""
        if self.socket is None or not (self.connected and self.writing):
            return
        try:
            if self.queue:
                taken = self.socket.send(self.queue)
                del self.queue[:taken]
                self.owe(taken)
            if self.host_ended and not self.queue:
                self.socket.shutdown(socket.SHUT_WR)
                self.writing = False
                self.maybe_end()
        except BlockingIOError:
            pass
        except OSError as error:
            self.on_broken(error.errno or errno.EIO)

    def owe(self, size: int) -> None:
        """Grant in portions: a frame for each small write would double their number."""
        self.owed += size
        if self.owed >= TUNNEL_WINDOW // 2:
            self.outbox.send(frame(GRANT, self.channel, LENGTH.pack(self.owed)))
            self.owed = 0

    def on_broken(self, number: int) -> None:
        """The reader has left. A server that hung up early may have said why, before."""
        self.broken = number
        self.writing = False
        self.queue.clear()
        if not self.reading:
            self.reset(number)

    # the host's frames

    def on_bytes(self, payload: bytes) -> None:
        if self.writing:
            self.queue += payload
            self.write()
            self.balance()

    def on_end(self, payload: bytes) -> None:
        self.host_ended = True
        self.write()
        self.balance()

    def on_grant(self, payload: bytes) -> None:
        self.window += LENGTH.unpack(payload)[0]
        self.balance()

    def on_reset(self, payload: bytes) -> None:
        self.end(abort=True)

    # its end

    def reset(self, number: int) -> None:
        """It is broken, or could not be made: tell the host why."""
        if self.tunnels.by_channel.get(self.channel) is self:
            self.outbox.send(frame(RESET, self.channel, LENGTH.pack(number)))
            self.end(abort=True)

    def maybe_end(self) -> None:
        if not (self.reading or self.writing):
            self.end(abort=False)

    def end(self, *, abort: bool) -> None:
        if abort and self.socket is not None:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
        self.reading = self.writing = False
        self.close_socket()
        self.tunnels.forget(self.channel)

    def close_socket(self) -> None:
        if self.socket is not None:
            if self.events:
                self.events = 0
                self.poller.forget(self.socket.fileno())
            self.socket.close()
            self.socket = None


def open_socket(family: int, most: int) -> socket.socket:
    """A socket that never blocks; `OSError` when it would need a descriptor from `most` on."""
    opened = socket.socket(family)
    if opened.fileno() >= most:
        opened.close()
        raise OSError(errno.EMFILE, "Too many connections at once")
    opened.setblocking(False)
    return opened


ON_KIND: dict[int, Callable[[Tunnel, bytes], None]] = {
    BYTES: Tunnel.on_bytes,
    END: Tunnel.on_end,
    GRANT: Tunnel.on_grant,
    RESET: Tunnel.on_reset,
}
