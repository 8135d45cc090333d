"""Sandboxes on this machine: a guest as a child process, fenced in by bubblewrap where it can be.

What a machine can enforce is found by a probe, told in `capabilities` and by
`paddock doctor`; a weaker level than the one asked for is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from paddock._concurrency import acquire
from paddock.backends import lease
from paddock.backends.base import Backend
from paddock.backends.guest import inside
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.backends.isolation import bubblewrap, cgroups, launcher, seccomp
from paddock.errors import ConfigError, IsolationUnavailable, SandboxLost, Unsupported
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.sandbox import Sandbox

__all__ = ["Enforced", "Isolation", "LocalBackend", "probe"]

Isolation = Literal["auto", "none", "bubblewrap"]
Network = Literal["auto", "none", "full"]

START_DEADLINE = 20.0
"""Seconds until a guest has to answer: it takes some 50 ms, on a machine under load a few s."""
STOP_GRACE = 3.0
"""Seconds for a guest to end what it started; the kernel does it after that."""
DEFAULT_PIDS = 512
"""Processes and threads of an isolated sandbox: plenty for builds, too few for a fork bomb."""
BOOT = "import sys; sys.path.insert(0, {folder!r}); from inside.loop import main; main()"
FREE_UIDS = range(1_900_000_000, 1_950_000_000)
"""Above what distributions, subordinate ids and containers hand out, below 2**31."""
LIMITS: dict[str, int] = {"RLIMIT_CORE": 0}
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a process ends that is killed, and how bubblewrap tells it of the one inside."""

ALWAYS = frozenset({Capability.TREE_KILL}) if sys.platform == "linux" else frozenset()
FENCED = frozenset({Capability.ISOLATION, Capability.NETWORK_NONE, Capability.LIMIT_PIDS})
LIMITS_BY: dict[cgroups.Controller, Capability] = {
    "memory": Capability.LIMIT_MEMORY,
    "cpu": Capability.LIMIT_CPU,
    "pids": Capability.LIMIT_PIDS,
}
TRIAL = Resources(memory=1024**3, cpu=1.0)
"""What the probe asks for, to see whether it can be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """What the probe found: the strongest level that works here, or why it is `none`.

    `limits` are those that can be enforced, and `unlimited` says why the others cannot.
    """

    level: Literal["none", "bubblewrap"]
    reason: str = ""
    hint: str = ""
    places: tuple[cgroups.Place, ...] = ()
    unlimited: str = ""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What sandboxes of this level can do."""
        if self.level == "none":
            return ALWAYS
        return ALWAYS | FENCED | {LIMITS_BY[place.controller] for place in self.places}

    @property
    def limits(self) -> frozenset[Capability]:
        return self.capabilities & {*LIMITS_BY.values()}


@dataclass(frozen=True, kw_only=True)
class LocalBackend(Backend):
    """Sandboxes on this machine.

    - `isolation`: `"bubblewrap"` shows the sandbox the system's directories read-only,
      its working directory and nothing else; `"none"` gives it the rights of this
      process; `"auto"` takes the strongest that works here.
    - `network`: `"none"` needs isolation and is what `"auto"` means with it.
    - `resources`: upper bounds; those that cannot be enforced raise `Unsupported`.
      Processes are always bounded in isolation; memory, which counts swap and what is
      in temporary directories, and CPU time only if asked, where control groups can be made.
    - `working_dir`: used in place, made if missing, never removed, never chowned. Without
      it a fresh directory is made, and removed at the end.
    """

    name: ClassVar[str] = "local"

    isolation: Isolation = "auto"
    network: Network = "auto"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.isolation not in ("auto", "none", "bubblewrap"):
            raise ConfigError(f"isolation={self.isolation!r}: give auto, none or bubblewrap")
        if self.network not in ("auto", "none", "full"):
            raise ConfigError(f"network={self.network!r}: give auto, none or full")
        least = {"memory": 1, "cpu": cgroups.LEAST_CPU, "pids": 1, "disk": 1}
        for name, bound in least.items():
            value = getattr(self.resources, name)
            if value is not None and not value >= bound:
                raise ConfigError(f"resources: {name}={value!r} is less than {bound}")

    async def _make(self) -> Sandbox:
        found = await self._found()
        self._check(found)
        return await acquire(_start(self, found), LocalSandbox.aclose)

    async def _found(self) -> Enforced:
        if self.isolation == "none":
            return Enforced(level="none")
        found = await probe()
        if self.isolation == "bubblewrap" and found.level != "bubblewrap":
            raise IsolationUnavailable(
                "bubblewrap", found.reason, backend=self.name, hint=found.hint
            )
        return found

    def _check(self, found: Enforced) -> None:
        """Refuse what could not be enforced, before anything is made."""
        hint = found.unlimited
        if found.level == "none":
            hint = "it needs isolation='bubblewrap'; see paddock doctor"
            if self.network == "none":
                raise Unsupported("network='none' without isolation", backend=self.name, hint=hint)
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


class LocalSandbox(GuestSandbox):
    """Owns a directory, a guest's process and the stream to it."""

    def __init__(
        self,
        backend: LocalBackend,
        *,
        client: GuestClient,
        process: asyncio.subprocess.Process,
        directory: lease.OwnedDirectory,
        working_dir: str,
        env: Mapping[str, str],
        capabilities: frozenset[Capability],
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
        )
        self._process = process
        self._directory = directory
        self._watcher = asyncio.create_task(_watch(client, process, directory.path, groups))

    async def _close(self) -> None:
        self._client.close()
        await _stop(self._process)
        await self._watcher
        await asyncio.to_thread(self._directory.remove)


async def _watch(
    client: GuestClient,
    process: asyncio.subprocess.Process,
    folder: Path,
    groups: tuple[cgroups.Group, ...],
) -> None:
    """Give the guest up when its process ends, or when its stream ended and it does not."""
    ended = asyncio.create_task(process.wait())
    gone = asyncio.create_task(client.disconnected.wait())
    await asyncio.wait([ended, gone], return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    await asyncio.wait([ended], timeout=STOP_GRACE)
    if ended.done():
        client.fail(_epitaph(ended.result(), folder, cgroups.oom_kills(groups)))
    else:
        client.fail("its guest closed its stream")
        await _stop(process)
        await ended


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Wait for a guest whose stream has ended; kill it if it does not go by itself."""
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.wait([waiting], timeout=STOP_GRACE)
    if not waiting.done():
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await waiting


def _epitaph(status: int, folder: Path, oom_kills: int) -> str:
    cause = f"signal {-status} ended its guest" if status < 0 else f"its guest ended ({status})"
    if oom_kills and status in KILLED:
        cause += f"; it is out of memory: the kernel's OOM killer struck in it ({oom_kills}x)"
    complaint = ""
    with contextlib.suppress(OSError):
        complaint = (folder / "guest.log").read_text(errors="replace")[-2000:].strip()
    return f"{cause}: {complaint}" if complaint else cause


# ------------------------------------------------------------------------- probing

_found: Enforced | None = None


async def probe() -> Enforced:
    """The strongest isolation that works on this machine, found by trying; tried once a process."""
    global _found
    if _found is None:
        _found = await _try()
    return _found


async def _try() -> Enforced:
    if sys.platform != "linux":
        return Enforced(level="none", reason="bubblewrap needs Linux")
    if bubblewrap.program() is None:
        return Enforced(
            level="none",
            reason="bubblewrap (bwrap) is not installed",
            hint="install your system's package 'bubblewrap'",
        )
    if not seccomp.supported():
        return Enforced(level="none", reason="there is no system call table for this machine")
    looked = [cgroups.place(controller) for controller in LIMITS_BY]
    found = Enforced(
        level="bubblewrap",
        places=tuple(place for place in looked if isinstance(place, cgroups.Place)),
        unlimited="; ".join(dict.fromkeys(why for why in looked if isinstance(why, str))),
    )
    failure = await _fails(found)
    if failure and found.places:
        found = Enforced(level="bubblewrap", unlimited=f"control groups do not work: {failure}")
        failure = await _fails(found)
    if failure:
        return Enforced(
            level="none",
            reason=f"bubblewrap does not work here: {failure}",
            hint="unprivileged user namespaces have to be allowed (in a container, too)",
        )
    return found


async def _fails(found: Enforced) -> str:
    """Make a sandbox with all that was `found`; why that fails, or nothing."""
    wanted = replace(
        Resources(),
        **{place.controller: getattr(TRIAL, place.controller) for place in found.places},
    )
    try:
        backend = LocalBackend(isolation="bubblewrap", resources=wanted)
        sandbox = await acquire(_start(backend, found), LocalSandbox.aclose)
    except (SandboxLost, OSError) as error:
        return str(error)
    await sandbox.aclose()
    return ""


# ------------------------------------------------------------------------ starting


async def _start(backend: LocalBackend, found: Enforced) -> LocalSandbox:
    """Make a directory, a guest in it and the stream to it; on a failure none of them is left."""
    await asyncio.to_thread(_sweep_once)
    directory = await asyncio.to_thread(lease.OwnedDirectory.create)
    try:
        plan = await asyncio.to_thread(_prepare, backend, found, directory)
        client, process = await _spawn(plan, directory.path)
    except BaseException:
        await asyncio.to_thread(directory.remove)
        raise
    sandbox = LocalSandbox(
        backend,
        client=client,
        process=process,
        directory=directory,
        working_dir=plan.working_dir,
        env={**plan.env, **backend.env_vars},
        capabilities=found.capabilities,
        groups=plan.groups,
    )
    try:
        async with asyncio.timeout(START_DEADLINE):
            await client.request("configure", limits=plan.limits, spill_dir=plan.output)
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
class _Plan:
    """How one guest is started. Paths are the sandbox's own."""

    argv: list[str]
    env: dict[str, str]
    limits: dict[str, int]
    working_dir: str
    output: str
    passed: tuple[int, ...] = ()
    """Descriptors that the process inherits; whoever starts it closes ours."""
    groups: tuple[cgroups.Group, ...] = ()


def _guest_folder() -> Path:
    return Path(inside.__file__).resolve().parent.parent


def _guest_command(folder: str) -> list[str]:
    executable = bubblewrap.interpreter()[0]
    return [executable, "-I", "-S", "-B", "-X", "utf8", "-c", BOOT.format(folder=folder)]


def _prepare(backend: LocalBackend, found: Enforced, directory: lease.OwnedDirectory) -> _Plan:
    """Make the directories and control groups of a sandbox and settle how its guest starts."""
    folder, given = directory.path, backend.working_dir
    working_dir = folder / "work" if given is None else Path(os.path.abspath(given))
    made = [folder / name for name in ("home", "output")]
    if given is None:
        made.append(working_dir)
    for path in made:
        path.mkdir(mode=0o700)
    if given is not None:
        working_dir.mkdir(parents=True, exist_ok=True)
    if found.level == "none":
        return _plain_plan(folder, working_dir)
    pids = backend.resources.pids or DEFAULT_PIDS
    groups = cgroups.plan(found.places, folder.name, replace(backend.resources, pids=pids))
    directory.record(groups)
    cgroups.make(groups)
    return _fenced_plan(backend, pids, groups, working_dir, made)


def _plain_plan(folder: Path, working_dir: Path) -> _Plan:
    prefix = bubblewrap.interpreter()[1]
    path = os.environ.get("PATH", bubblewrap.STANDARD_PATH)
    return _Plan(
        argv=_guest_command(str(_guest_folder())),
        env=_environment(f"{prefix}/bin:{path}" if prefix else path, str(folder / "home")),
        limits=LIMITS,
        working_dir=str(working_dir),
        output=str(folder / "output"),
    )


def _environment(path: str, home: str) -> dict[str, str]:
    """All that a command sees of an environment, unless the recipe adds to it."""
    return {"PATH": path, "HOME": home, "USER": "sandbox", "LANG": "C.UTF-8", "TERM": "dumb"}


def _fenced_plan(
    backend: LocalBackend,
    pids: int,
    groups: tuple[cgroups.Group, ...],
    working_dir: Path,
    made: list[Path],
) -> _Plan:
    home, output = made[:2]
    in_place = backend.working_dir is not None
    as_root = os.getuid() == 0
    sources = _sources(working_dir, home, output)
    where = {name: Path(launcher.STAGE, name) for name in sources} if as_root else sources
    inside_dir = str(working_dir) if in_place else "/workspace"
    uid = _free_uid() if as_root else None
    if uid is not None:
        for path in made:
            os.chown(path, uid, uid)
    filter_fd = _filter_descriptor()
    fence = bubblewrap.Fence(
        working_dir=where["work"],
        working_dir_inside=inside_dir,
        home=where["home"],
        output=where["output"],
        identity=where["etc"],
        guest=where["guest"],
        interpreter=where.get("python"),
        network=backend.network == "full",
        seccomp_fd=filter_fd,
        memory=backend.resources.memory,
    )
    argv = bubblewrap.arguments(fence, _guest_command(bubblewrap.GUEST))
    if groups or as_root:
        argv = _launch(argv, uid, sources, mapped=["work"] if in_place else [], groups=groups)
    return _Plan(
        argv=argv,
        env=_environment(bubblewrap.search_path(), bubblewrap.HOME),
        limits={**LIMITS, "RLIMIT_NPROC": pids},
        working_dir=inside_dir,
        output=bubblewrap.OUTPUT,
        passed=(filter_fd,),
        groups=groups,
    )


def _sources(working_dir: Path, home: Path, output: Path) -> dict[str, Path]:
    """The directories of this machine that a sandbox shows, besides the system's."""
    identity = home.parent / "etc"
    identity.mkdir(mode=0o755)
    for name, text in bubblewrap.IDENTITY.items():
        (identity / name).write_text(text)
    sources = {
        "work": working_dir,
        "home": home,
        "output": output,
        "etc": identity,
        "guest": _guest_folder(),
    }
    prefix = bubblewrap.interpreter()[1]
    return sources if prefix is None else {**sources, "python": prefix}


def _filter_descriptor() -> int:
    """The system call filter as bubblewrap wants it: a descriptor to read to its end."""
    fd = os.memfd_create("seccomp")
    os.write(fd, seccomp.filter_program())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _launch(
    argv: list[str],
    uid: int | None,
    sources: dict[str, Path],
    mapped: list[str],
    groups: tuple[cgroups.Group, ...],
) -> list[str]:
    """The launcher's command line, for what has to be done before bubblewrap starts."""
    orders = {
        "groups": [str(group.path) for group in groups],
        "mounts": [[name, str(path), name in mapped] for name, path in sources.items()],
        "uid": uid,
        "argv": argv,
    }
    executable = bubblewrap.interpreter()[0]
    return [executable, "-I", "-S", "-B", str(launcher.__file__), json.dumps(orders)]


def _free_uid() -> int:
    """A user id that nobody has: a random one of those this user namespace maps."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, length = (int(word) for word in line.split())
        start, stop = max(first, FREE_UIDS.start), min(first + length, FREE_UIDS.stop)
        if stop - start > 1000:
            return start + secrets.randbelow(stop - start)
        if length > 1000:
            return first + length - 1 - secrets.randbelow(length // 2)
    raise IsolationUnavailable(
        "bubblewrap", "this user namespace has no spare user ids", backend=LocalBackend.name
    )


async def _spawn(plan: _Plan, folder: Path) -> tuple[GuestClient, asyncio.subprocess.Process]:
    """Start the guest's process with one end of a socket pair as its stdin and stdout."""
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as opened:
        opened.callback(theirs.close)
        log = opened.enter_context(open(folder / "guest.log", "wb"))  # noqa: ASYNC230 - a new file
        for fd in plan.passed:
            opened.callback(os.close, fd)
        try:
            process = await asyncio.create_subprocess_exec(
                *plan.argv,
                stdin=theirs,
                stdout=theirs,
                stderr=log,
                env={},
                cwd="/",
                pass_fds=plan.passed,
            )
        except BaseException:
            ours.close()
            raise
    _, client = await asyncio.get_running_loop().create_unix_connection(GuestClient, sock=ours)
    return client, process
