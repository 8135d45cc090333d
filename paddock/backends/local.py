"""Sandboxes on this machine: a guest as a child process, fenced in by bubblewrap or Landlock.

A probe finds what the machine can enforce; `capabilities` and `paddock doctor` report it.
Nothing runs without isolation unless `isolation="none"` was chosen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from paddock._concurrency import acquire
from paddock._frozen import FrozenMapping
from paddock.backends import lease
from paddock.backends.base import Backend, SandboxInfo
from paddock.backends.egress import gate
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.link import Liveness
from paddock.backends.guest.monitor import Monitor
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.backends.guest.stderr import GuestStderr
from paddock.backends.isolation import cgroups
from paddock.backends.isolation.levels import Enforced, Isolation, checked, requested
from paddock.backends.isolation.plan import Plan, confined, fenced, plain
from paddock.backends.isolation.probe import Prober
from paddock.backends.isolation.processes import ForkedProcess, fork_server
from paddock.errors import ConfigError, SandboxLost, Unsupported
from paddock.network import Allow
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import ProgressCallback
    from paddock.backends.guest.ports import Gate
    from paddock.sandbox import Sandbox

__all__ = ["Enforced", "Isolation", "LocalBackend", "probe"]

Network = Literal["auto", "none", "full"] | Allow

START_DEADLINE = 20.0
"""Seconds until a guest has to answer: it takes some 50 ms, on a machine under load a few s."""
HEARTBEAT_INTERVAL = 10.0
"""Seconds between two looks whether a guest still answers: a command may have stopped it."""
STOP_GRACE = 3.0
"""Seconds for a guest to end what it started; the kernel does it after that."""
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a process ends that is killed, and how bubblewrap tells it of the one inside."""

ALWAYS = frozenset({Capability.URL, Capability.TCP}) | (
    {Capability.TREE_KILL} if sys.platform == "linux" else frozenset()
)
TRIAL = Resources(memory=1024**3, cpu=1.0)
"""What the probe asks for, to see whether it can be had."""


@dataclass(frozen=True, kw_only=True)
class LocalBackend(Backend):
    """Sandboxes on this machine.

    - `isolation`: `"bubblewrap"` shows the sandbox the system's directories read-only,
      its working directory and nothing else; `"landlock"` closes files alone; `"none"`
      gives it the rights of this process; `"auto"` takes the first of the other two that
      works here, and raises `IsolationUnavailable` if neither does. None means what
      ``PADDOCK_ISOLATION`` says, or else `"auto"`.
    - `network`: `"none"` needs bubblewrap and is what `"auto"` means with it; so does
      ``Allow(hosts=[...])``, by which only those hosts can be reached, through a proxy.
      At the other levels `"auto"` means `"full"`.
    - `resources`: upper bounds; those that cannot be enforced raise `Unsupported`.
      Processes are always bounded in isolation; memory, which counts swap and what is
      in temporary directories, and CPU time only if asked, where control groups can be made.
    - `working_dir`: used in place, made if missing, never removed, never chowned. Without
      it a fresh directory is made, and removed at the end.
    """

    name: ClassVar[str] = "local"

    isolation: Isolation | None = None
    network: Network = "auto"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.isolation is not None:
            checked(self.isolation, "isolation")
        if not isinstance(self.network, Allow) and self.network not in ("auto", "none", "full"):
            raise ConfigError(f"network={self.network!r}: give auto, none, full or Allow(...)")
        cpu = self.resources.cpu
        if cpu is not None and cpu < cgroups.LEAST_CPU:
            raise ConfigError(f"resources: cpu={cpu!r} is less than {cgroups.LEAST_CPU}")

    async def delete(self, sandbox_id: str) -> bool:
        """See `Backend.delete`; one whose owner is alive raises `Unsupported`: it ends with it."""
        found = {path.name: (path, told) for path, told in await asyncio.to_thread(lease.records)}
        if sandbox_id not in found:
            return False
        path, told = found[sandbox_id]
        removed = await asyncio.to_thread(lease.remove, path)
        if not removed and path.exists():
            raise Unsupported(
                f"taking {sandbox_id} from its owner, which is alive",
                backend=self.name,
                hint=f"end process {told.pid}, and it goes too",
            )
        return removed

    async def gc(self) -> Sequence[str]:
        return [path.name for path in await asyncio.to_thread(lease.sweep)]

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        return await asyncio.to_thread(_list, labels or {})

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        found = await _prober.find(requested(self.isolation))
        self._check(found)
        return await acquire(_start(self, found), LocalSandbox.aclose)

    def _check(self, found: Enforced) -> None:
        """Refuse what could not be enforced, before anything is made."""
        hint = found.unlimited
        if found.level != "bubblewrap":
            if self.network not in ("auto", "full"):
                raise Unsupported(
                    f"network={self.network!r} with isolation={found.level!r}",
                    backend=self.name,
                    hint=f"{NO_NETWORK[found.level]}; it needs isolation='bubblewrap'",
                )
            if found.level == "none":
                hint = "it needs isolation='bubblewrap'; see paddock doctor"
        wanted = self.resources
        for what, value, capability in (
            ("a limit on memory", wanted.memory, Capability.LIMIT_MEMORY),
            ("a limit on CPU", wanted.cpu, Capability.LIMIT_CPU),
            ("a limit on processes", wanted.pids, Capability.LIMIT_PIDS),
        ):
            if value is not None and capability not in found.limits:
                raise Unsupported(what, backend=self.name, hint=hint)
        if wanted.disk is not None:
            raise Unsupported("a limit on disk space", backend=self.name)
        if wanted.shm_size is not None and found.level != "bubblewrap":
            what = f"a size of /dev/shm with isolation={found.level!r}"
            hint = "it is this machine's; isolation='bubblewrap' makes one"
            raise Unsupported(what, backend=self.name, hint=hint)


def _list(labels: Mapping[str, str]) -> list[SandboxInfo]:
    found = [_seen(path, told) for path, told in lease.records()]
    wanted = [info for info in found if labels.items() <= info.labels.items()]
    return sorted(wanted, key=lambda info: info.created)


def _seen(path: Path, told: lease.Record) -> SandboxInfo:
    alive = lease.held(path.with_suffix(lease.LOCK))
    return SandboxInfo(
        id=path.name,
        backend=LocalBackend.name,
        state="running" if alive else "ended",
        owner="alive" if alive else "gone",
        created=datetime.fromtimestamp(told.created, UTC),
        working_dir=told.working_dir or str(path / "work"),
        labels=FrozenMapping(told.labels),
    )


NO_NETWORK = {
    "none": "a command has your own network",
    "landlock": "Landlock cannot close UDP",
}
"""Why a level cannot restrict the network."""


class LocalSandbox(GuestSandbox):
    """Owns a directory, a guest's process and the stream to it."""

    one_user = "a local sandbox has one user; DockerBackend runs commands as others"

    def __init__(
        self,
        backend: LocalBackend,
        *,
        client: GuestClient,
        process: asyncio.subprocess.Process | ForkedProcess,
        stderr: GuestStderr,
        directory: lease.OwnedDirectory,
        working_dir: str,
        env: Mapping[str, str],
        capabilities: frozenset[Capability],
        gate: Gate,
        groups: tuple[cgroups.Group, ...],
    ) -> None:
        super().__init__(
            client,
            sandbox_id=directory.path.name,
            backend=backend.name,
            working_dir=PurePosixPath(working_dir),
            env=env,
            labels=backend.labels,
            capabilities=capabilities,
            gate=gate,
        )
        self._process = process
        self._stderr = stderr
        self._directory = directory
        self._groups = groups
        client.link.probe = self._probe
        self._monitor = Monitor(
            client.link,
            client.channels,
            interval=HEARTBEAT_INTERVAL,
            exit_reason=self._exit_reason,
        )

    async def _probe(self) -> Liveness:
        return Liveness.RUNNING if self._process.returncode is None else Liveness.ENDED

    async def _exit_reason(self) -> str:
        """Why the guest's stream ended; a guest that only closed it is ended here."""
        ended = asyncio.ensure_future(self._process.wait())
        await asyncio.wait([ended], timeout=STOP_GRACE)
        if not ended.done():
            await _stop(self._process)
            return "its guest closed its stream"
        oom_kills = cgroups.oom_kills(self._groups)
        return _describe_exit(ended.result(), await self._stderr.last_words(), oom_kills)

    async def _close(self) -> None:
        self._client.link.close()
        await super()._close()
        await self._monitor.aclose()
        await _stop(self._process)
        self._stderr.close()
        await asyncio.to_thread(self._directory.remove)


async def _stop(process: asyncio.subprocess.Process | ForkedProcess) -> None:
    """Wait for a guest whose stream has ended; end it if it does not go by itself.

    SIGTERM comes first: at it a warden, or a guest without one, ends the whole tree below it.
    """
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.wait([waiting], timeout=STOP_GRACE)
    for end in (process.terminate, process.kill):
        if not waiting.done():
            with contextlib.suppress(ProcessLookupError):
                end()
            await asyncio.wait([waiting], timeout=STOP_GRACE)
    await waiting


def _describe_exit(status: int, complaint: str, oom_kills: int) -> str:
    """Return why a guest ended, with the end of what it wrote to stderr."""
    cause = f"signal {-status} ended its guest" if status < 0 else f"its guest ended ({status})"
    if oom_kills and status in KILLED:
        cause += f"; out of memory: the OOM killer ended {oom_kills} of its processes"
    return f"{cause}: {complaint}" if complaint else cause


# ------------------------------------------------------------------------- probing


async def probe() -> Enforced:
    """Return the strongest isolation that works on this machine; see `Prober.strongest`."""
    return await _prober.strongest()


async def _try(found: Enforced) -> None:
    """Make a sandbox with all that was `found`, and end it."""
    wanted = replace(
        Resources(),
        **{place.controller: getattr(TRIAL, place.controller) for place in found.places},
    )
    sandbox = await acquire(_start(LocalBackend(resources=wanted), found), LocalSandbox.aclose)
    await sandbox.aclose()


_prober = Prober(_try)


# ------------------------------------------------------------------------ starting


async def _start(backend: LocalBackend, found: Enforced) -> LocalSandbox:
    """Make a directory, a guest in it and the stream to it; on a failure none of them is left."""
    ends = await _Ends.open()
    try:
        directory, plan, forked = await asyncio.to_thread(_begin, backend, found, ends)
        try:
            client, process = await _follow(plan, forked, ends)
        except BaseException:
            await asyncio.to_thread(directory.remove)
            raise
    except BaseException:
        ends.ours.close()
        ends.stderr.close()
        raise
    finally:
        ends.close_theirs()
    stderr = ends.stderr
    way_out = gate(backend.network)
    sandbox = LocalSandbox(
        backend,
        client=client,
        process=process,
        stderr=stderr,
        directory=directory,
        working_dir=plan.working_dir,
        env={**plan.env, **way_out.variables, **backend.env_vars},
        capabilities=found.capabilities(ALWAYS),
        gate=way_out,
        groups=plan.groups,
    )
    try:
        async with asyncio.timeout(START_DEADLINE):
            await client.request(
                "configure",
                limits=plan.limits,
                spill_dir=plan.output,
                lease=None,
                listen=way_out.port,
            )
    except TimeoutError:
        await sandbox.aclose()
        raise SandboxLost(f"its guest did not answer within {START_DEADLINE:g} s") from None
    except BaseException:
        await sandbox.aclose()
        raise
    return sandbox


_swept: set[str] = set()


def _sweep_once() -> None:
    """Remove what dead processes have left, the first time that this one makes a sandbox."""
    base = tempfile.gettempdir()
    if base not in _swept:
        _swept.add(base)
        lease.sweep()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """The streams of a guest's process: the ends of its wire, and its stderr."""

    ours: socket.socket
    theirs: socket.socket
    stderr: GuestStderr
    writer: int

    @classmethod
    async def open(cls) -> _Ends:
        ours, theirs = socket.socketpair()
        try:
            stderr, writer = await GuestStderr.open()
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return cls(ours=ours, theirs=theirs, stderr=stderr, writer=writer)

    def close_theirs(self) -> None:
        self.theirs.close()
        os.close(self.writer)


def _begin(
    backend: LocalBackend, found: Enforced, ends: _Ends
) -> tuple[lease.OwnedDirectory, Plan, ForkedProcess | None]:
    """All that blocks: make the directory, and have the fork server start what it is to start."""
    _sweep_once()
    directory = lease.OwnedDirectory.create(labels=backend.labels, working_dir=backend.working_dir)
    try:
        plan = _prepare(backend, found, directory)
        if plan.orders is None:
            return directory, plan, None
        try:
            descriptors = (ends.theirs.fileno(), ends.writer, *plan.passed)
            return directory, plan, fork_server.start(plan.orders, descriptors)
        finally:
            plan.close()
    except BaseException:
        directory.remove()
        raise


def _prepare(backend: LocalBackend, found: Enforced, directory: lease.OwnedDirectory) -> Plan:
    if found.level == "none":
        return plain(directory.path, backend.working_dir, fork_server.umask())
    if backend.working_dir is not None:
        lease.check_working_dir(backend.working_dir)
    if found.level == "landlock":
        return confined(
            directory,
            backend.working_dir,
            resources=backend.resources,
            places=found.places,
            abi=found.abi,
        )
    return fenced(
        directory,
        backend.working_dir,
        resources=backend.resources,
        places=found.places,
        network=backend.network == "full",
    )


async def _follow(
    plan: Plan, forked: ForkedProcess | None, ends: _Ends
) -> tuple[GuestClient, asyncio.subprocess.Process | ForkedProcess]:
    """Start the process, unless it was `forked` already, and connect to it."""
    process: asyncio.subprocess.Process | ForkedProcess
    if forked is None:
        try:
            process = await asyncio.create_subprocess_exec(
                *plan.argv,
                stdin=ends.theirs.fileno(),
                stdout=ends.theirs.fileno(),
                stderr=ends.writer,
                env={},
                cwd="/",
                pass_fds=plan.passed,
                start_new_session=True,  # a terminal's Ctrl-C is for the host to act on
            )
        finally:
            plan.close()
    else:
        process = forked
        await forked.connect()
    client = GuestClient()
    await asyncio.get_running_loop().create_unix_connection(client.connect, sock=ends.ours)
    return client, process
