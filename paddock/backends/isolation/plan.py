"""How the guest of a local sandbox is started: what is made for it, and its command line.

It makes the directories and control groups of one sandbox, below a directory whose
owner removes all of it; it starts nothing.
"""

from __future__ import annotations

import functools
import os
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.backends.guest import precompiled
from paddock.backends.guest.inside.landlock import TRUNCATE_ABI
from paddock.backends.isolation import bubblewrap, cgroups, copies, etc, launcher, seccomp
from paddock.errors import ConfigError, IsolationUnavailable
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from paddock.backends.lease import OwnedDirectory
    from paddock.sandbox import Resources

__all__ = ["DEFAULT_PIDS", "Plan", "confined", "fenced", "plain"]

DEFAULT_PIDS = 512
"""Processes and threads of an isolated sandbox: plenty for builds, too few for a fork bomb."""
FREE_UIDS = range(1_900_000_000, 1_950_000_000)
"""Above what distributions, subordinate ids and containers hand out, below 2**31."""
LIMITS: dict[str, int] = {"RLIMIT_CORE": 0}

READABLE = (
    *(*bubblewrap.SYSTEM, *bubblewrap.MERGED, "/etc", "/etc/resolv.conf"),
    *("/proc", "/sys/devices/system/cpu"),
)
"""What a confined sandbox reads of this machine. resolv.conf is often a link to elsewhere."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
TERMINALS = ("/dev/ptmx", "/dev/pts", "/dev/tty")
"""Directories of the machine that only a user without them may write to."""
_copies = copies.Copies()
NEEDED_LATER = ("encodings.idna", "fcntl", "grp", "hashlib", "pwd", "termios")
"""What a guest imports when it needs it: under Landlock its user may not reach the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one guest is started, as a program or by the fork server. Paths are the sandbox's."""

    argv: list[str] = field(default_factory=list)
    orders: dict[str, Any] | None = None
    """For the fork server; without them `argv` is run."""
    env: dict[str, str]
    limits: dict[str, int]
    working_dir: str
    output: str
    passed: tuple[int, ...] = ()
    """Descriptors that the process inherits; ours are open until `close`."""
    groups: tuple[cgroups.Group, ...] = ()
    missing: frozenset[Capability] = frozenset()
    """What every local sandbox can do but this one."""

    def close(self) -> None:
        """Close what was to be inherited."""
        for fd in self.passed:
            os.close(fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directories:
    """The directories that a sandbox writes to; those that are `fresh` go with it."""

    home: Path
    output: Path
    work: Path
    fresh: tuple[Path, ...]


def _directories(folder: Path, working_dir: str | None) -> _Directories:
    home, output = folder / "home", folder / "output"
    fresh: tuple[Path, ...] = (home, output)
    if working_dir is None:
        work = folder / "work"
        fresh += (work,)
    else:
        work = Path(os.path.abspath(working_dir))
        work.mkdir(parents=True, exist_ok=True)
    for path in fresh:
        path.mkdir(mode=0o700)
    return _Directories(home=home, output=output, work=work, fresh=fresh)


def plain(folder: Path, working_dir: str | None, umask: int | None) -> Plan:
    """A guest with the rights of this process.

    It is a fork of the fork server, with this `umask`, or else a process of its own.
    """
    made = _directories(folder, working_dir)
    prefix = bubblewrap.interpreter()[1]
    path = os.environ.get("PATH", bubblewrap.STANDARD_PATH)
    guest = precompiled.guest()
    passed = () if umask is not None else (guest.descriptor(),)
    return Plan(
        argv=guest.command(*passed) if passed else [],
        orders=None if passed else {"umask": umask, **_forked_modules(late=True)},
        env=_environment(f"{prefix}/bin:{path}" if prefix else path, str(made.home)),
        limits=LIMITS,
        working_dir=str(made.work),
        output=str(made.output),
        passed=passed,
    )


def _environment(path: str, home: str) -> dict[str, str]:
    """All that a command sees of an environment, unless the recipe adds to it."""
    return {"PATH": path, "HOME": home, "USER": "sandbox", "LANG": "C.UTF-8", "TERM": "dumb"}


def fenced(
    directory: OwnedDirectory,
    working_dir: str | None,
    *,
    resources: Resources,
    places: tuple[cgroups.Place, ...],
    network: bool,
    dirs: tuple[str, ...] = (),
) -> Plan:
    """A guest in bubblewrap, held to `resources` by control groups at `places`."""
    made = _directories(directory.path, working_dir)
    pids = resources.pids or DEFAULT_PIDS
    groups = cgroups.plan(places, directory.path.name, replace(resources, pids=pids))
    directory.record(groups)
    cgroups.make(groups)
    uid = _free_uid() if os.getuid() == 0 else None
    shown = etc.shown(network=network)
    sources = _sources(made, shown, uid)
    shared = {f"dir{number}": path for number, path in enumerate(dirs)}
    sources |= {name: Path(path) for name, path in shared.items()}
    where = sources if uid is None else {name: Path(launcher.STAGE, name) for name in sources}
    inside_dir = "/workspace" if working_dir is None else str(made.work)
    filter_fd = _filter_descriptor(seccomp.filter_program())
    guest = precompiled.guest()
    passed = (filter_fd, guest.descriptor())
    fence = bubblewrap.Fence(
        program=bubblewrap.program() or "bwrap",
        working_dir=where["work"],
        working_dir_inside=inside_dir,
        dirs=tuple((where[name], path) for name, path in shared.items()),
        home=where["home"],
        output=where["output"],
        etc=where.get("etc") or Path(launcher.STAGE, "etc"),
        mounted=shown.mounted if uid is None else (),
        interpreter=where.get("python"),
        network=network,
        seccomp_fd=filter_fd,
        resources=resources,
    )
    argv = bubblewrap.arguments(fence, guest.command(passed[1]))
    orders: dict[str, Any] = {
        "argv": argv,
        "groups": [str(group.path) for group in groups],
        "uid": uid,
    }
    if uid is not None:
        mapped = {*shared, *(() if made.work in made.fresh else ("work",))}
        orders["mounts"] = [[name, str(path), name in mapped] for name, path in sources.items()]
        orders["etc"] = {
            "texts": shown.texts,
            "copies": shown.copies,
            "folders": shown.folders,
            "links": dict(shown.links),
        }
    return Plan(
        argv=argv,
        orders=orders if groups or uid is not None else None,
        env=_environment(bubblewrap.search_path(), bubblewrap.HOME),
        limits={**LIMITS, "RLIMIT_NPROC": pids},
        working_dir=inside_dir,
        output=bubblewrap.OUTPUT,
        passed=passed,
        groups=groups,
    )


def confined(
    directory: OwnedDirectory,
    working_dir: str | None,
    *,
    resources: Resources,
    places: tuple[cgroups.Place, ...],
    abi: int,
    dirs: tuple[str, ...] = (),
) -> Plan:
    """A guest under Landlock of this `abi`, held to `resources` by control groups at `places`."""
    made = _directories(directory.path, working_dir)
    temporary = directory.path / "tmp"
    temporary.mkdir(mode=0o700)
    in_use = [*map(Path, dirs), *(() if made.work in made.fresh else (made.work,))]
    user = _confined_user(in_use)
    if user is not None:
        # The user inside is another one, which must get there but see nothing on the way.
        for path in (directory.path.parent, directory.path):
            path.chmod(0o711)
        for path in (*made.fresh, temporary):
            os.chown(path, *user)
        _check_passable(made.work.parent, directory.path, *(Path(path).parent for path in dirs))
    terminals = TERMINALS if user is not None and not in_use else ()
    pids = resources.pids or DEFAULT_PIDS
    groups = cgroups.plan(places, directory.path.name, replace(resources, pids=pids))
    directory.record(groups)
    cgroups.make(groups)
    prefix = bubblewrap.interpreter()[1]
    filter_fd = _filter_descriptor(
        seccomp.filter_program(unix_sockets=False, truncation=abi >= TRUNCATE_ABI)
    )
    orders = {
        **_forked_modules(late=False),
        "groups": [str(group.path) for group in groups],
        "user": user,
        "readable": [*READABLE, *([str(prefix)] if prefix else [])],
        "writable": [
            *DEVICES,
            *terminals,
            *dirs,
            *map(str, (made.work, made.home, made.output, temporary)),
        ],
        "filter": filter_fd,
    }
    return Plan(
        orders=orders,
        env={
            **_environment(bubblewrap.search_path(), str(made.home)),
            "TMPDIR": str(temporary),
        },
        limits=LIMITS,
        working_dir=str(made.work),
        output=str(made.output),
        passed=(filter_fd,),
        groups=groups,
        missing=frozenset() if terminals else frozenset({Capability.PTY}),
    )


def _confined_user(in_use: list[Path]) -> tuple[int, int] | None:
    """Whom root's sandbox runs as: nobody else, or the owner of the directories that are `in_use`,
    the working directory last."""
    if os.getuid() != 0:
        return None
    if not in_use:
        uid = _free_uid()
        return uid, uid
    owners = {path: path.stat() for path in in_use}
    last = owners[in_use[-1]]
    for path, info in owners.items():
        if info.st_uid == 0 or info.st_uid != last.st_uid:
            whose = "root's, and nothing runs as root" if info.st_uid == 0 else "another user's"
            raise IsolationUnavailable(
                "landlock",
                f"the directory {path} is {whose} there",
                backend="local",
                hint="give it to another user, copy it with uploads, or install bubblewrap",
            )
    return last.st_uid, last.st_gid


def _check_passable(*folders: Path) -> None:
    """Raise `ConfigError` if a user who is not root cannot get to these directories."""
    for folder in folders:
        for path in (folder, *folder.parents):
            if not path.stat().st_mode & 0o001:
                raise ConfigError(
                    f"{path} is closed to the user that root's sandbox runs as "
                    f"(isolation='landlock'); chmod o+x {path}, or set TMPDIR elsewhere"
                )


def _forked_modules(*, late: bool) -> dict[str, list[str]]:
    """All that a guest ever imports, for the fork server to import once for all.

    What a guest only needs later may be imported `late`, for the next ones. Under Landlock a guest
    can import nothing.
    """
    inside = (f"backends.guest.{name}" for name in precompiled.guest_files())
    first, rest = ["backends.isolation.warden"], [*inside, *NEEDED_LATER]
    return {"modules": first, "late": rest} if late else {"modules": first + rest}


def _sources(made: _Directories, shown: etc.Etc, uid: int | None) -> dict[str, Path]:
    """The directories of this machine that a sandbox shows, besides the system's.

    If `uid` is the user that root's sandbox runs as, they are for the launcher to mount in one
    place, and it makes the etc. Otherwise the etc is one of them.
    """
    sources = {"work": made.work, "home": made.home, "output": made.output}
    prefix = bubblewrap.interpreter()[1]
    if prefix is not None:
        sources["python"] = prefix
    if uid is not None:
        for path in made.fresh:
            os.chown(path, uid, uid)
        return sources | {f"etc/{name}": Path("/etc", name) for name in shown.mounted}
    folder = made.home.parent / "etc"
    files = _copies.of(shown.copies, shown.texts)
    copies.write(str(folder), files=files, folders=shown.folders, links=shown.links)
    return sources | {"etc": folder}


def _filter_descriptor(program: bytes) -> int:
    """The system call filter as bubblewrap wants it: a descriptor to read to its end."""
    fd = os.memfd_create("seccomp")
    os.write(fd, program)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@functools.cache
def _mapped_uids() -> list[tuple[int, int]]:
    """The first user id, and the number of them, of each range that this user namespace maps."""
    lines = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return [(int(first), int(length)) for first, _, length in lines]


def _free_uid() -> int:
    """An unused user id: a random one of those this user namespace maps."""
    for first, length in _mapped_uids():
        start, stop = max(first, FREE_UIDS.start), min(first + length, FREE_UIDS.stop)
        if stop - start > 1000:
            return start + secrets.randbelow(stop - start)
        if length > 1000:
            return first + length - 1 - secrets.randbelow(length // 2)
    raise IsolationUnavailable("auto", "this user namespace has no spare user ids", backend="local")
