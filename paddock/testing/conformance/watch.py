"""What a test sees of this machine's own process: memory, descriptors, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.sandbox import Sandbox

__all__ = [
    "MARK",
    "alive",
    "bounded_memory",
    "descriptors",
    "make_passable",
    "resident",
    "tasks",
    "traces",
]

MARK = f"987{os.getpid()}00"
"""Seconds that commands sleep, but for the last digit: it tells them from everybody else's."""


async def alive(sandbox: Sandbox) -> list[str]:
    """Return the sandbox's processes that sleep for `MARK` seconds."""
    found = await sandbox.exec("pgrep -a sleep")
    return [line for line in found.stdout.splitlines() if f" {MARK}" in line]


@contextlib.asynccontextmanager
async def bounded_memory() -> AsyncIterator[None]:
    """Fail if this process was ever more than 64 MiB larger in the block than before it."""

    async def watch() -> int:
        most = 0
        while not over.is_set():
            most = max(most, resident())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.02)
        return most

    over, before = asyncio.Event(), resident()
    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        over.set()
        most = await watching
    assert most - before < 64 * 1024 * 1024


def resident() -> int:
    """Return the bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> list[str]:
    """Return what this process has open, without sockets: a client keeps some for its next calls.

    One of ours that is not closed is a `ResourceWarning`, and so an error.
    """
    links = (_link(name) for name in os.listdir("/proc/self/fd"))
    return sorted(link for link in links if not link.startswith("socket:"))


def traces() -> tuple[frozenset[str], int]:
    """Return what a sandbox could leave on this machine: directories, locks, descriptors."""
    base = Path(tempfile.gettempdir()) / f"paddock-{os.getuid()}"
    names = frozenset(str(path) for path in base.rglob("*") if path.name != "owners")
    return names, len(descriptors())


def tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks that run our code: clients keep connections alive with tasks of their own.

    Daytona's has one that waits for the next message, and another one after each.
    """
    return {task for task in asyncio.all_tasks() if _is_ours(task.get_coro())}


def _is_ours(coroutine: Any) -> bool:
    path = Path(getattr(getattr(coroutine, "cr_code", None), "co_filename", ""))
    installed = "site-packages" in path.parts and "paddock" not in path.parts
    return not installed and getattr(coroutine, "__qualname__", "") != "Queue.get"


def _link(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:  # the listing's own
        return "socket:"


def make_passable(folder: Path) -> None:
    """Let other users pass through: root's sandboxes run as one of them, under Landlock."""
    for path in (folder, *folder.parents):
        info = path.stat()
        if info.st_uid == os.getuid() and not info.st_mode & 0o001:
            path.chmod(info.st_mode | 0o001)
