"""One sandbox for many tests: making one costs more than most tests do.

After each test the sandbox is looked at: it has to live, and no process that the test started
may. Its working directory is emptied. One that does not pass is a failure of that test, and the
next test gets another. A test that ends, breaks or configures its sandbox takes `own_sandbox`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox

LOOK = "echo $$; cat /proc/[0-9]*/stat 2>/dev/null; find . -mindepth 1 -delete"
"""Prints its own process and all that it sees, and empties the working directory."""
NO_SHELL = (2, 126, 127)
"""Exit codes of `LOOK` where there are no such programs; then nothing tells about processes."""
CHECKED = 60.0
"""Seconds that the look at a sandbox may take, on a machine that is very busy."""
LEAVING = 20.0
"""Seconds in which processes that were told to end have ended."""


async def into_own_directory(sandbox: Sandbox) -> None:
    """Have commands run in an empty directory: one that has files, as a home does, may be in use
    by others, and they are not the tests' to remove."""
    if await sandbox.fs.list(".", hidden=True):
        await sandbox.fs.mkdir("tests")
        sandbox.working_dir = sandbox.path("tests")


class SharedSandbox:
    """Lends one sandbox of a recipe to test after test, and replaces it where that is needed."""

    def __init__(self, recipe: Backend) -> None:
        self._recipe = recipe
        self._sandbox: Sandbox | None = None
        self._own: frozenset[int] = frozenset()
        """The sandbox's own processes: those of one without a guest may be beside its commands."""

    @contextlib.asynccontextmanager
    async def lend(self) -> AsyncIterator[Sandbox]:
        """The sandbox for one test. Raises if the test did not leave it as it was."""
        sandbox = self._sandbox
        if sandbox is None:
            sandbox = self._sandbox = await self._recipe.create()
            await into_own_directory(sandbox)
            look = await sandbox.exec(LOOK)
            shown = look.exit_code not in NO_SHELL
            self._own = frozenset(_of_other_commands(look.stdout) if shown else ())
        yield sandbox
        try:
            async with asyncio.timeout(CHECKED):
                await _require_idle(sandbox, self._own)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Take the sandbox down, if there is one."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.aclose()


async def _require_idle(sandbox: Sandbox, own: frozenset[int]) -> None:
    """Fail if processes of commands live, after those that are about to end had their time.

    `own` are the sandbox's own processes. The working directory is empty then.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + LEAVING
    if (await sandbox.exec(LOOK)).exit_code in NO_SHELL:
        for entry in await sandbox.fs.list():
            await sandbox.fs.remove(entry.path, recursive=True)
        return
    while left := _left((await sandbox.exec(LOOK, check=True)).stdout, own):
        if loop.time() > end:
            raise AssertionError(f"the test left processes in its sandbox: {left}")


class _Process(NamedTuple):
    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int


def _left(look: str, own: frozenset[int]) -> list[str]:
    found = _of_other_commands(look)
    return [f"{pid} {each.name} ({each.state})" for pid, each in found.items() if pid not in own]


def _of_other_commands(look: str) -> dict[int, _Process]:
    """The processes that were started by commands, but for the one that looks.

    That one is a child of a supervisor, and its grandchild of the guest; without a guest it
    descends from what the engine started. All that a sandbox consists of shares one session.
    """
    first, _, rest = look.partition("\n")
    table = {process.pid: process for process in _parsed(rest)}
    shell = int(first)
    supervisor = _parent(table, shell)
    guest = _parent(table, supervisor)
    session = table[guest or 1].session
    return {
        process.pid: process
        for process in table.values()
        if process.session != session
        and guest in (ancestors := list(_ancestors(table, process.pid)))
        and supervisor not in (process.pid, *ancestors)
    }


def _parsed(text: str) -> Iterator[_Process]:
    for line in text.splitlines():
        pid, _, rest = line.partition(" (")
        name, _, fields = rest.rpartition(") ")
        if not pid.isdecimal() or not fields:
            continue  # a piece of a name with a line's end in it
        state, parent, group, session = fields.split()[:4]
        yield _Process(int(pid), name, state, int(parent), int(group), int(session))


def _parent(table: dict[int, _Process], pid: int) -> int:
    return table[pid].parent if pid in table else 0


def _ancestors(table: dict[int, _Process], pid: int) -> Iterator[int]:
    """From the parent up to 0, from which all descend."""
    while pid:
        pid = _parent(table, pid)
        yield pid
