"""What a store of the multi-agent runtime is: transactions over the rows of one tenant.

A store says how a transaction is made, and nothing else. What is kept, and what is decided about
it, is written once, above `Rows`.
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, TypeVar

from paddock._concurrency import finish
from paddock.runtime.approvals.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["Rows", "RuntimeStore", "from_bytes", "to_bytes"]

T = TypeVar("T")


class Rows(Protocol):
    """What a transaction sees: the rows of one tenant. Blocks.

    A row is some bytes under a key of a table. Rows may be listed by their `group`.
    """

    def get(self, table: str, key: str) -> bytes | None:
        """Return the row of this key; None if there is none."""
        ...

    def all(
        self, table: str, group: str | None = None, *, skip: int = 0
    ) -> Iterable[tuple[str, bytes]]:
        """Return keys and rows in the order in which they were added, but for the first `skip`.

        `group` is whose rows; None stands for all.
        """
        ...

    def put(self, table: str, key: str, value: bytes, *, group: str = "") -> None:
        """Add a row, or replace the one of its key, which keeps its place and its group."""
        ...

    def delete(self, table: str, key: str) -> None:
        """Remove a row; nothing happens if there is none."""
        ...

    def is_elsewhere(self, table: str, key: str) -> bool:
        """Return whether another tenant has a row of this key. Nothing else of it can be seen."""
        ...


class RuntimeStore(ABC):
    """Keeps what the multi-agent runtime has to remember, of any number of tenants.

    It may be used from any number of tasks, threads and, where it lasts, processes. Each method
    bounds its own waits, and raises `SessionError` where the store cannot be read or written.
    """

    @functools.cached_property
    def waiters(self) -> Waiters:
        """Who waits in this process for approvals that are kept here."""
        return Waiters()

    @property
    def path(self) -> Path | None:
        """The file that no sandbox may be able to write; None if there is no such file."""
        return None

    @abstractmethod
    def transact(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        """Do `work` in one transaction over the rows of `tenant`. Blocks.

        Transactions exclude each other as far as they meet in a row. What `work` has written is
        kept when this returns, and nothing of it if this raises. `work` may be done again from
        its beginning, so it does nothing but read and write rows. Without `writing` it writes
        nothing.
        """

    async def do(self, tenant: str, work: Callable[[Rows], T], *, writing: bool) -> T:
        """Do the same without holding up the event loop, to its end if cancelled."""
        return await finish(asyncio.to_thread(self.transact, tenant, work, writing=writing))

    @abstractmethod
    def tenants(self) -> Sequence[str]:
        """Return the tenants that have rows, sorted. Blocks."""

    def stamp(self) -> object:
        """Return what changes when the store is written; None if it is as cheap to read it."""
        return None

    async def aclose(self) -> None:  # noqa: B027 - memory and files have none
        """Let go of connections. Idempotent."""


def to_bytes(text: str) -> bytes:
    """Return `text` as databases take any: a model may write lone surrogates and zeros."""
    return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> str:
    """Return what `to_bytes` was given."""
    return data.decode("utf-8", "surrogatepass")
