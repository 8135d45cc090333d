"""Connections to services, shared by all users of the same one in the same event loop.

A connection is made when it is first used and closed with its last user, or with its event
loop. So a thousand sessions with one service have a few pools and TLS contexts, and one model
may be used in one event loop after another. Knows no service.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from paddock.runtime.core.lazy import LazyResource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from paddock.runtime.core.lazy import Closable

__all__ = ["Shared"]

T = TypeVar("T", bound="Closable")


@dataclass(eq=False)
class _Held(Generic[T]):
    """A connection of one event loop, and its users."""

    lazy: LazyResource[T]
    users: set[object] = field(default_factory=set)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Held[Any]]] = (
    weakref.WeakKeyDictionary()
)
_lock = threading.RLock()  # loops run in threads, and a collection of garbage may come meanwhile


class Shared(Generic[T]):
    """One user's part in the connections that `make` makes for `key`.

    `key` has all that tells one connection from another, the account's key included. With more
    than `most_users` there are several. A user that is forgotten without `aclose` gives its part
    up when it is collected.
    """

    def __init__(
        self, key: Hashable, make: Callable[[], Awaitable[T]], *, most_users: float = math.inf
    ) -> None:
        self._key = key
        self._most_users = most_users
        self._make = make
        self._mine: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Held[T]] = (
            weakref.WeakKeyDictionary()
        )
        self._token = object()
        weakref.finalize(self, _forget, self._mine, self._token, key).atexit = False

    async def get(self) -> T:
        """Return the connection of this event loop, made now if it is not there.

        Raises what `make` raises; the next call tries again.
        """
        loop = asyncio.get_running_loop()
        held = self._mine.get(loop)
        if held is None:
            held = self._mine[loop] = self._join(loop)
        return await held.lazy.get()

    async def aclose(self) -> None:
        """Give up this user's part; the last one closes the connection. Idempotent."""
        loop = asyncio.get_running_loop()
        held = self._mine.pop(loop, None)
        _forget(self._mine, self._token, self._key)
        if held is not None and _leave(loop, held, self._token, self._key):
            await held.lazy.aclose()

    def _join(self, loop: asyncio.AbstractEventLoop) -> _Held[T]:
        with _lock:
            connections = _loops.setdefault(loop, {})
            held = connections.get(self._key)
            if held is None or len(held.users) >= self._most_users:
                # In an empty context: it outlives the run that happens to be first.
                context = contextvars.Context()
                lazy = LazyResource(self._make, name="model connection", context=context)
                held = connections[self._key] = _Held(lazy)
            held.users.add(self._token)
            return held


def _leave(loop: asyncio.AbstractEventLoop, held: _Held[Any], token: object, key: Hashable) -> bool:
    """Whether that was the last user."""
    with _lock:
        held.users.discard(token)
        if held.users:
            return False
        connections = _loops.get(loop, {})
        if connections.get(key) is held:
            del connections[key]
        return True


def _forget(
    mine: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Held[Any]],
    token: object,
    key: Hashable,
) -> None:
    """Give up what one user has in other event loops, whose own tasks close it."""
    for loop, held in list(mine.items()):
        del mine[loop]
        if _leave(loop, held, token, key):
            held.lazy.release()
