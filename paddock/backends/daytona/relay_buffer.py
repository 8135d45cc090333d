"""Keeps a guest inside a sandbox for a host that has no stream to it, only requests.

Runs inside, as text, on Python 3.8 and newer; `open_relay_buffer` is called after it. What
carries the calls is not trusted: host and relay buffer sign what they send with a key that only
they have. What the guest says is kept until the host has it; what the host says has its place in
the whole, so what arrives twice is taken once. Of the guest's protocol it knows where a frame ends
and whether it is more than output.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from _operator import _compare_digest as compare_digest  # hmac's, without hmac
from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

CALL = struct.Struct(">QQdB")
"""Where the words begin, how much was heard, seconds to wait, whether output is awaited too."""
ANSWER = struct.Struct(">QB")
"""Where the words begin, and whether they are the guest's last complaint:
it has ended, and all else that it said was heard."""
TAG_BYTES = 16
"""Of the signature before each call and each answer."""
HEADER = struct.Struct("!IBI")
OUTPUT = (18, 19)
PIECE = 65536
COMPLAINT_MAX = 2000
ANSWER_MAX = 1024 * 1024
"""Bytes of one answer. Its carrier holds them twice, so not more."""
KEPT_MAX = 4 * ANSWER_MAX
"""Bytes that are kept; beyond them the guest is not read, and stops reading its commands."""


class RelayBuffer:
    """One guest's stream, both ways."""

    def __init__(self, wire: int, stderr: int, key: bytes) -> None:
        self.wire, self.stderr = wire, stderr
        self.key = key
        self.changed = threading.Condition()
        self.kept = bytearray()
        self.start = 0
        """The place of the first byte that is kept."""
        self.notable = 0
        """The place after the last frame that is more than output."""
        self.ended = False
        self.taken = 0
        self.early: dict[int, bytes] = {}
        """What came before what stands before it."""
        self.waiting = bytearray()
        """What the guest has not read yet."""
        self.callers = 0
        self.complaint = b""

    def read_guest(self) -> None:
        frames = Frames()
        while True:
            with self.changed:
                self.changed.wait_for(lambda: len(self.kept) < KEPT_MAX)
            data = self.read()
            with self.changed:
                self.kept += data
                self.ended = not data
                if frames.feed(data):
                    self.notable = self.start + len(self.kept)
                self.changed.notify_all()
            if not data:
                return

    def read(self) -> bytes:
        """Nothing once the guest has ended, even if it had not read all that it was sent."""
        try:
            return os.read(self.wire, PIECE)
        except ConnectionError:
            return b""

    def read_complaints(self) -> None:
        while data := os.read(self.stderr, PIECE):
            self.complaint = (self.complaint + data)[-COMPLAINT_MAX:]

    def write_guest(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting)
                data = bytes(self.waiting[:PIECE])
                del self.waiting[:PIECE]
            try:
                while data:
                    data = data[os.write(self.wire, data) :]
            except OSError:
                return  # the guest has ended, which the reader tells

    def serve(self, connection: socket.socket) -> None:
        with connection:
            received = b"".join(iter(lambda: connection.recv(PIECE), b""))
            said = received[TAG_BYTES:]
            if not compare_digest(sign(self.key, b"call", said), received[:TAG_BYTES]):
                return
            offset, heard, patience, eager = CALL.unpack_from(said)
            with self.changed:
                self.take(offset, said[CALL.size :])
                self.release(heard)
                data = self.wait(time.monotonic() + patience, eager)
                over = self.ended and not self.kept
                answer = ANSWER.pack(self.start, over)
            answer += self.complaint if over else data
            connection.sendall(sign(self.key, b"answer", answer) + answer)

    def take(self, offset: int, words: bytes) -> None:
        self.early[offset] = words
        for place in sorted(self.early):
            if place > self.taken:
                break
            new = self.early.pop(place)[self.taken - place :]
            self.waiting += new
            self.taken += len(new)
        self.changed.notify_all()

    def release(self, heard: int) -> None:
        if heard > self.start:
            del self.kept[: heard - self.start]
            self.start = heard
            self.changed.notify_all()

    def wait(self, until: float, eager: int) -> bytes:
        """Return what is kept, as soon as it is worth an answer. Only the last caller gets it."""
        self.callers += 1
        caller = self.callers
        self.changed.notify_all()
        while caller == self.callers:
            left = until - time.monotonic()
            if left <= 0 or self.ended or self.is_worth_it(eager):
                return bytes(self.kept[:ANSWER_MAX])
            self.changed.wait(left)
        return b""

    def is_worth_it(self, eager: int) -> bool:
        if eager:
            return bool(self.kept)
        return self.notable > self.start or len(self.kept) >= ANSWER_MAX


class Frames:
    """Finds the ends of frames in a stream; no I/O."""

    def __init__(self) -> None:
        self.header = b""
        self.left = 0
        self.kind = 0

    def feed(self, data: bytes) -> bool:
        """Whether a frame ended that is more than output."""
        found = False
        at = 0
        while at < len(data):
            if len(self.header) < HEADER.size:
                piece = data[at : at + HEADER.size - len(self.header)]
                self.header += piece
                at += len(piece)
                if len(self.header) < HEADER.size:
                    break
                self.left, self.kind, _ = HEADER.unpack(self.header)
            step = min(self.left, len(data) - at)
            self.left -= step
            at += step
            if not self.left:
                found = found or self.kind not in OUTPUT
                self.header = b""
        return found


def is_ours(connection: socket.socket) -> bool:
    """Whether a process of our own user is at the other end."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", peer)[1]
    return uid == os.getuid()


def sign(key: bytes, what: bytes, said: bytes) -> bytes:
    return blake2b(what + said, key=key, digest_size=TAG_BYTES).digest()


def hide() -> None:
    """Close this process's memory, descriptors and arguments, where the key is, to others."""
    import ctypes

    with open("/proc/self/stat") as file:
        start, end = map(int, file.read().rpartition(")")[2].split()[45:47])  # arg_start, arg_end
    ctypes.memset(start, 0, end - start)
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def run(door: socket.socket, boot: str, key: bytes) -> None:
    """Start a guest and serve its callers, for as long as the sandbox lives."""
    os.environ["PWD"] = os.getcwd()
    # Not pipes: a process of the same user, or root's, opens the pipes of others by name.
    ours, guests = socket.socketpair()
    complaints, log = socket.socketpair()
    subprocess.Popen(
        [sys.executable, "-c", boot],
        stdin=guests.fileno(),
        stdout=guests.fileno(),
        stderr=log.fileno(),
    )
    guests.close()
    log.close()
    buffer = RelayBuffer(ours.detach(), complaints.detach(), key)
    for work in (buffer.read_guest, buffer.read_complaints, buffer.write_guest):
        start(work)
    while True:
        connection = door.accept()[0]
        if is_ours(connection):
            start(buffer.serve, connection)
        else:
            connection.close()


def start(work: Callable[..., None], *args: object) -> None:
    threading.Thread(target=work, args=args, daemon=True).start()


def open_relay_buffer(name: str, boot: str, key: str) -> None:
    """Leave a process behind that keeps a guest, unless one is there already.

    `name` is an abstract socket's, `boot` the guest's first program, `key` in hexadecimal.
    """
    door = socket.socket(socket.AF_UNIX)
    try:
        door.bind("\0" + name)
    except OSError:
        return  # asked again, as the answer was lost
    door.listen(64)
    if os.fork():
        door.close()
        return
    os.setsid()
    hide()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    if os.fork():
        os._exit(0)
    try:
        run(door, boot, bytes.fromhex(key))
    finally:
        os._exit(1)
