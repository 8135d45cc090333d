"""Who watches the work of a task: pieces of work tell when they begin and end.

A watcher belongs to a context, so it goes along into the tasks that are started there.
Knows no watcher; without one a piece of work costs a look at a context variable.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = [
    "ExecWork",
    "ModelWork",
    "ProvisionWork",
    "Tell",
    "ToolWork",
    "Watcher",
    "Work",
    "watch",
    "watched",
    "watching_ends",
]


@dataclass(frozen=True, slots=True)
class ModelWork:
    """One call of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolWork:
    """One call of a tool."""

    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionWork:
    """The making of one sandbox, by the backend of this name."""

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecWork:
    """One command in a sandbox. It tells its `exit_code`."""

    backend: str
    sandbox_id: str


Work = ModelWork | ToolWork | ProvisionWork | ExecWork


class Tell(Protocol):
    """Takes what is known of a command only at its end."""

    def __call__(self, *, exit_code: int) -> None: ...


class Watcher(Protocol):
    def around(self, work: Work) -> AbstractContextManager[Tell]:
        """Entered and left in the task that does `work`; what the work raises passes through."""
        ...


_watcher: ContextVar[Watcher | None] = ContextVar("paddock_watcher", default=None)


def watch(watcher: Watcher) -> None:
    """Let `watcher` see what this context, and the tasks started in it, do from now on."""
    _watcher.set(watcher)


@contextlib.contextmanager
def watching_ends() -> Iterator[None]:
    """Who began to watch in the block has gone at its end."""
    token = _watcher.set(_watcher.get())
    try:
        yield
    finally:
        _watcher.reset(token)


@contextlib.contextmanager
def watched(work: Work) -> Iterator[Tell]:
    """The block does `work`."""
    watcher = _watcher.get()
    if watcher is None:
        yield _nobody
        return
    with watcher.around(work) as tell:
        yield tell


def _nobody(*, exit_code: int) -> None:
    """Nobody listens."""
