"""A sandbox whose backend can do one thing: start a program in it, with pipes."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from abc import abstractmethod
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self

from paddock._concurrency import Interrupted
from paddock._frozen import FrozenMapping
from paddock.backends.guest.link import Link
from paddock.backends.posix.files import PosixFileSystem
from paddock.backends.posix.inside import KEY
from paddock.backends.posix.pipes import (
    CONTROL_SHELL,
    EXIT_TIMEOUT,
    REAPER,
    PipedControl,
    PipedProcess,
    call,
    opened,
)
from paddock.errors import SandboxClosed, SandboxError, SandboxLost, Unsupported
from paddock.sandbox import Capability, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import Backend
    from paddock.backends.posix.inside import Inside
    from paddock.backends.posix.pipes import Pipes
    from paddock.sandbox import Command

__all__ = ["ShellSandbox"]

READY_DEADLINE = 60.0
"""Seconds in which the control shell has to be heard: a machine far away may be busy."""
LOOK_INTERVAL = 15.0
"""Seconds between two looks at a sandbox that may have stopped answering: often enough to notice
before a person does, and no load."""
ANSWER_TIMEOUT = 20.0
"""Seconds in which it has to answer: under any load that lets a shell run."""
READ_TIMEOUT = 1.0
"""Seconds in which an event loop that was held up reads what has arrived meanwhile."""
BEGIN_TIMEOUT = 5.0
"""Seconds that closing waits for commands which are just being started, so that it knows them."""
KILL_TIMEOUT = 5.0
"""Seconds that closing waits for commands to end: SIGKILL takes effect at once, and what a
backend takes down may stand still, or be gone already."""


class ShellSandbox(Sandbox):
    """Has commands, files and searches from `_open` alone; the inside needs a POSIX shell.

    Subclasses write `_open`, and `_close` to take down what was made; commands have ended then.
    They name what else they can in `capabilities`. The processes of a command are found by the
    variable ``PADDOCK_EXEC``, by session and by parents, so `Capability.TREE_KILL` is not there.
    """

    def __init__(
        self,
        recipe: Backend,
        sandbox_id: str,
        *,
        working_dir: str,
        capabilities: frozenset[Capability] = frozenset(),
    ) -> None:
        self.id = sandbox_id
        self.backend: str = recipe.name
        self.working_dir: PurePosixPath = PurePosixPath(working_dir)
        self.env: Mapping[str, str] = FrozenMapping(recipe.env_vars)
        self.labels: Mapping[str, str] = recipe.labels
        self.capabilities = capabilities
        self.fs: PosixFileSystem = PosixFileSystem(self)
        self._link = Link()
        self._link.sandbox_id = sandbox_id
        self._link.when_over(self._on_over)
        self._processes: set[PipedProcess] = set()
        self._connecting: asyncio.Task[tuple[PipedControl, Inside]] | None = None
        self._control: PipedControl | None = None
        self._prefix = secrets.token_hex(4)
        """Begins the keys of all commands."""
        self._tasks: list[asyncio.Task[None]] = []

    @abstractmethod
    async def _open(self, argv: Sequence[str], user: str | None = None) -> Pipes:
        """Start `argv` in the sandbox, in any directory, with pipes for all three streams.

        The pipes carry any byte, and the end of stdin. `user` is given only with
        `Capability.USER`. `OSError` and `SandboxError` say why nothing can be started.
        """

    async def ready(self) -> Self:
        """Reach the inside, and make the working directory; for the end of `Backend._make`.

        If it fails or is cancelled, the sandbox is closed.
        """
        mode = "755" if Capability.USER in self.capabilities else "700"
        try:
            await self._connected()
            await self.call("mkdir", "-p", "-m", mode, str(self.working_dir))
        except BaseException as error:
            try:
                await self.aclose()
            except SandboxError as left:
                error.add_note(f"What was made for it could not be removed: {left}")
            raise
        return self

    @property
    def lost(self) -> bool:
        return super().lost or self._link.over

    async def aclose(self) -> None:
        await self._end_with(self._take_down)

    async def call(self, *argv: str) -> bytes:
        """Run a program to its end and return its stdout; for `Backend._make` and `_close`.

        Works before the first command and while the sandbox closes. Raises `SandboxError` with
        what it printed if it fails or does not end.
        """
        return await call(self._open, argv)

    async def _start(self, command: Command) -> PipedProcess:
        if command.user is not None and Capability.USER not in self.capabilities:
            raise Unsupported("user=", backend=self.backend)
        control, inside = await self._connected()
        process = PipedProcess(control, inside, command, prefix=self._prefix)
        self._processes = {one for one in self._processes if not one.ended} | {process}
        await process.begin(lambda argv: self._open(argv, command.user))
        return process

    async def _connected(self) -> tuple[PipedControl, Inside]:
        """Return the control shell, which the first command starts."""
        self._link.raise_if_over()
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        await asyncio.wait([self._connecting])
        self._link.raise_if_over()
        return self._connecting.result()

    async def _connect(self) -> tuple[PipedControl, Inside]:
        """Start the control shell. If that fails, the link is over."""
        try:
            pipes = await opened(self._open, (*CONTROL_SHELL, self._prefix))
        except SandboxError as error:
            self._link.fail(str(error))
            raise self._link.error() from error
        control = self._control = PipedControl(self._link, pipes)
        self._tasks.append(asyncio.create_task(control.serve()))
        await asyncio.wait([control.ready], timeout=READY_DEADLINE)
        inside = control.ready.result() if control.ready.done() else None
        if inside is None:
            self._link.fail(f"its control shell did not answer within {READY_DEADLINE:g} s")
            raise self._link.error()
        self.env = FrozenMapping({KEY: "", **inside.env, **self.env})
        self._tasks.append(asyncio.create_task(self._watch(control)))
        return control, inside

    async def _watch(self, control: PipedControl) -> None:
        """Notice that nothing answers, and what became of wrappers."""
        while not self._link.over:
            await asyncio.wait([self._link.ended], timeout=LOOK_INTERVAL)
            scan = asyncio.create_task(control.scan())
            try:
                await asyncio.wait([scan], timeout=ANSWER_TIMEOUT)
                # A loop that was held up has not read what had arrived.
                await asyncio.wait([scan], timeout=READ_TIMEOUT)
            finally:
                scan.cancel()
            if not scan.done():
                self._link.fail("its control shell does not answer")
            elif scan.exception() is None:
                pids = {one.pid for one in scan.result()}
                for process in self._processes:
                    process.on_look(pids)

    def _on_over(self) -> None:
        if self._control is not None and not self.closed:
            self._control.end()
        for process in self._processes:
            process.lose(self._link.error())

    async def _take_down(self) -> None:
        starting = [one.begun for one in self._processes if not one.begun.done()]
        if starting:
            await asyncio.wait(starting, timeout=BEGIN_TIMEOUT)
        was_lost = self._link.over
        self._link.close()
        await self._end_commands(was_lost=was_lost)
        try:
            await self._close()
        finally:
            await self._hang_up()

    async def _end_commands(self, *, was_lost: bool) -> None:
        """End what commands have left running, as far as the sandbox can be reached."""
        if was_lost and self._control is not None:
            with contextlib.suppress(SandboxError, TimeoutError, Interrupted):
                async with asyncio.timeout(KILL_TIMEOUT):
                    await self.call(*REAPER, self._prefix)
            return
        ending = [asyncio.create_task(_end_tree(process)) for process in self._processes]
        if ending:
            _, alive = await asyncio.wait(ending, timeout=KILL_TIMEOUT)
            for task in alive:
                task.cancel()

    async def _hang_up(self) -> None:
        """Let what still serves the sandbox end by itself, and cut off what does not."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._control is not None:
            self._control.leave()
        serving = [one.serving for one in self._processes if one.serving is not None]
        if tasks := [*self._tasks, *serving]:
            await asyncio.wait(tasks, timeout=EXIT_TIMEOUT)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for process in self._processes:
            await process.settle()


async def _end_tree(process: PipedProcess) -> None:
    with contextlib.suppress(SandboxLost, SandboxClosed):  # the sandbox has just ended by itself
        await process.end_tree(0)
