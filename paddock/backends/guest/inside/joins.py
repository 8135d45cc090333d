"""Takes the hosts that join: a listener, and the connections that have not proved anything yet.

Any process of the sandbox can connect. Until it proves that it knows the join token it costs a
descriptor and 32 bytes, and its end disturbs no other. While all places are taken, a new
connection takes that of the oldest; a host that is pushed out tries again, and stays as soon
as its proof is read, which comes with the connection.
"""

from __future__ import annotations

import os

from .light import accepted, socket
from .seal import HELLO_BYTES, NONCE_BYTES, is_hello, seals
from .wire import JOIN_ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .poller import Poller
    from .seal import Seal

    OnJoined = Callable[[int, Seal, Seal], None]

PLACES = 8
"""Connections without proof at once."""
QUEUE = 128
"""Connections that wait to be accepted; those beyond wait in `connect`."""
PROOF_DEADLINE = 10.0
"""Seconds for the proof, at least: it comes with the connection, on a machine that may be busy."""


class Listener:
    """Listens at `JOIN_ADDRESS`. Each proven connection is given to `on_joined`, which owns it."""

    def __init__(self, poller: Poller, token: str, most: int, on_joined: OnJoined) -> None:
        self.poller = poller
        self.token = token.encode()
        self.most = most
        self.on_joined = on_joined
        self.waiting: list[Joiner] = []
        self.used: set[bytes] = set()
        """The numbers of proofs that were accepted: none is accepted twice."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        self.socket.bind(JOIN_ADDRESS)
        self.socket.listen(QUEUE)
        poller.watch(self.socket.fileno(), self.on_connection)
        self.on_deadline()

    def on_deadline(self) -> None:
        """Close the connections that were there at the last deadline already."""
        for joiner in tuple(self.waiting):
            if joiner.is_late:
                joiner.close()
            joiner.is_late = True
        self.poller.after(PROOF_DEADLINE, self.on_deadline)

    def on_connection(self) -> None:
        try:
            connection = accepted(self.socket)
        except OSError:
            return
        if connection.fileno() >= self.most:
            connection.close()
            return
        if len(self.waiting) >= PLACES:
            self.waiting[0].close()
        joiner = Joiner(self, connection)
        self.waiting.append(joiner)
        joiner.on_input()

    def accepts(self, said: bytes) -> bool:
        """Whether it is a proof, and a new one."""
        nonce = said[:NONCE_BYTES]
        if nonce in self.used or not is_hello(self.token, said):
            return False
        self.used.add(nonce)
        return True


class Joiner:
    """A connection that has not proved anything."""

    def __init__(self, listener: Listener, connection: socket.socket) -> None:
        self.listener = listener
        self.socket = connection
        self.said = b""
        self.is_late = False
        connection.setblocking(False)
        listener.poller.watch(connection.fileno(), self.on_input)

    def on_input(self) -> None:
        try:
            data = self.socket.recv(HELLO_BYTES - len(self.said))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.said += data
        if not data:
            self.close()
        elif len(self.said) == HELLO_BYTES:
            self.on_hello()

    def on_hello(self) -> None:
        if not self.listener.accepts(self.said):
            self.close()
            return
        nonce = os.urandom(NONCE_BYTES)
        try:
            self.socket.send(nonce)
        except OSError:
            self.close()
            return
        theirs, ours = seals(self.listener.token, self.said[:NONCE_BYTES], nonce)
        self.leave()
        self.listener.on_joined(self.socket.detach(), theirs, ours)

    def leave(self) -> None:
        self.listener.waiting.remove(self)
        self.listener.poller.forget(self.socket.fileno())

    def close(self) -> None:
        self.leave()
        self.socket.close()
