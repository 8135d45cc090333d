"""Frames that cannot be forged between a host and its guest. No I/O; used on both ends.

A host that joins later reaches the guest through a relay: a process inside the sandbox, started
among processes that may be hostile, by an interpreter that they may have replaced. So the relay
is not trusted. Host and guest both know the join token, which is never sent; each frame on such
a stream is followed by a tag, made of a key that is new for each stream and of the frame's
number. A frame that was changed, left out, repeated or made by anybody else ends the stream.
"""

from __future__ import annotations

import struct
from _operator import _compare_digest as compare_digest  # hmac's, without hmac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NONCE_BYTES = 16
TAG_BYTES = 16
HELLO_BYTES = NONCE_BYTES + TAG_BYTES
COUNT = struct.Struct("!Q")


class Seal:
    """The tags of one direction of a stream, in the order of its frames."""

    size = TAG_BYTES

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def tag(self, *parts: bytes | memoryview) -> bytes:
        """The tag of the next frame, given in parts."""
        self._count += 1
        return digest(self._key, (COUNT.pack(self._count), *parts))

    def check(self, tag: bytes | memoryview, *parts: bytes | memoryview) -> None:
        """Raise `ValueError` unless it is the tag of the next frame."""
        if not compare_digest(self.tag(*parts), bytes(tag)):
            raise ValueError("a frame was forged or damaged on its way")


def digest(key: bytes, parts: Iterable[bytes | memoryview], size: int = TAG_BYTES) -> bytes:
    from hashlib import blake2b  # which most guests never need

    made = blake2b(key=key, digest_size=size)
    for part in parts:
        made.update(part)
    return made.digest()


def hello(token: bytes, nonce: bytes) -> bytes:
    """The first bytes of a host that joins: a number of its own, and a proof that it is one."""
    return nonce + digest(token, (b"hello", nonce))


def is_hello(token: bytes, said: bytes) -> bool:
    return compare_digest(hello(token, said[:NONCE_BYTES]), said)


def seals(token: bytes, host_nonce: bytes, guest_nonce: bytes) -> tuple[Seal, Seal]:
    """The seals of a stream: of the host's frames, and of the guest's."""
    ours = (host_nonce, guest_nonce)
    return (
        Seal(digest(token, (b"from the host", *ours), 32)),
        Seal(digest(token, (b"from the guest", *ours), 32)),
    )
