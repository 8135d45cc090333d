"""A sandbox in memory."""

from __future__ import annotations

import asyncio
import copy
import secrets
import shlex
import signal
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock.errors import SandboxClosed, SandboxError, SandboxLost, Unsupported
from paddock.resources import Stats
from paddock.sandbox import Capability, Sandbox
from paddock.testing.fake.faults import Fault
from paddock.testing.fake.files import FakeFileSystem
from paddock.testing.fake.jobs import Table
from paddock.testing.fake.ports import Ports
from paddock.testing.fake.process import FakeProcess
from paddock.testing.fake.script import Script
from paddock.testing.fake.tree import Special, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.process import Command, Process
    from paddock.testing.fake.backend import FakeBackend, FakeHost
    from paddock.testing.fake.faults import Faults

__all__ = ["FakeSandbox"]

CAPABILITIES = frozenset(
    {Capability.URL, Capability.TCP, Capability.FORK, Capability.STATS, Capability.TREE_KILL}
)


class FakeSandbox(Sandbox):
    """`calls` are the commands that were run in it, oldest first."""

    fs: FakeFileSystem

    def __init__(self, recipe: FakeBackend, host: FakeHost, faults: Faults) -> None:
        self.id = f"fake-{secrets.token_hex(6)}"
        self.backend = recipe.name
        self.working_dir = PurePosixPath(recipe.known_working_dir or "/")
        self.labels = recipe.labels
        self.capabilities = CAPABILITIES
        self.env = {"PATH": "/usr/bin:/bin", "HOME": "/root", **recipe.env_vars}
        self.created = datetime.now(UTC)
        self.calls: list[str] = []
        self.faults = faults
        self.script = Script(recipe.commands)
        self.table = Table()
        self.tree = Tree()
        self.tree.make_folder(self.working_dir, parents=True, exist_ok=True)
        self.tree.make_folder(PurePosixPath("/tmp"), parents=True, exist_ok=True)
        for name in ("/dev/null", "/dev/tty", "/dev/zero", "/proc/kmsg"):
            path = PurePosixPath(name)
            self.tree.make_parents(path)
            self.tree.folder(path.parent).entries[path.name] = Special(mode=0o666)
        for name, content in recipe.files.items():
            data = content.encode() if isinstance(content, str) else content
            self.tree.write(self.path(name), data)
        self.fs = FakeFileSystem(self)
        self._recipe = recipe
        self._host = host
        self._ports = Ports(recipe.ports)
        self._processes: set[FakeProcess] = set()
        self._lost: str | None = None

    def variables(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """Return the environment of a command that is given these."""
        self._host.seen.update(self.env)
        if self.faults.strikes(Fault.ENV_LEAKS):
            return {**self._host.seen, **given}
        return given

    async def reach(self) -> None:
        """Raise if there is no way to the sandbox. Let other tasks run."""
        await asyncio.sleep(0)
        self.raise_if_closed()
        if self._lost is not None:
            raise SandboxLost(self._lost, sandbox_id=self.id)

    def die(self, reason: str) -> None:
        """End the sandbox as from outside: everything raises `SandboxLost` from now on."""
        self._lost = reason
        self._host.sandboxes.pop(self.id, None)
        self._fail_all(SandboxLost(reason, sandbox_id=self.id))
        for job in self.table.jobs.values():
            job.kill(signal.SIGKILL)
        self._ports.close()

    @property
    def lost(self) -> bool:
        return self.closed or self._lost is not None

    def _fail_all(self, error: SandboxError) -> None:
        for process in [*self._processes]:
            process.fail(error)

    async def _start(self, command: Command) -> Process:
        argv = command.argv
        text = argv[2] if argv[:2] == ("sh", "-c") and len(argv) == 3 else shlex.join(argv)
        await self.reach()
        if command.user is not None:
            raise Unsupported("user=", backend=self.backend)
        self.calls.append(text)
        if order := self.faults.strikes(Fault.SLOW, text):
            await asyncio.sleep(order.seconds)
        if self.faults.strikes(Fault.DIES, text):
            self.die("it died, to order")
            await self.reach()
        self.tree.folder(command.cwd)
        process = FakeProcess(self, command, text)
        self._processes.add(process)
        process.on_end(self._processes.discard)
        process.begin()
        return process

    async def stats(self) -> Stats:
        await self.reach()
        return Stats(cpu=0.0, memory=0, memory_limit=None, pids=len(self.table.jobs))

    async def _fork(self, count: int) -> list[Sandbox]:
        await self.reach()
        forks: list[Sandbox] = []
        for _ in range(count):
            fork = FakeSandbox(self._recipe, self._host, self.faults)
            fork.tree.root = copy.deepcopy(self.tree.root)
            self._host.sandboxes[fork.id] = fork
            forks.append(fork)
        return forks

    async def _url(self, port: int) -> str:
        await self.reach()
        return await self._ports.url(port)

    async def _close(self) -> None:
        if self.faults.strikes(Fault.CLOSE_FAILS):
            raise SandboxError("the sandbox could not be removed, to order")
        self._fail_all(SandboxClosed(f"sandbox {self.id} is closed"))
        await self._ports.aclose()
        if self.faults.strikes(Fault.OUTLIVES_CLOSE):
            return
        await self.table.end([*self.table.jobs.values()], signal.SIGKILL)
        self._host.sandboxes.pop(self.id, None)
