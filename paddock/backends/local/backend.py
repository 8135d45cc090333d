"""`LocalBackend`: the recipe, and the sandboxes of this machine as others see them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from paddock._concurrency import acquire
from paddock._frozen import FrozenMapping
from paddock.backends import lease
from paddock.backends.base import Backend, SandboxInfo
from paddock.backends.isolation import cgroups
from paddock.backends.isolation.dirs import checked_dirs
from paddock.backends.isolation.levels import Enforced, Isolation, checked, refuse_limits, requested
from paddock.backends.local import probing
from paddock.backends.local.sandbox import BACKEND, LocalSandbox
from paddock.backends.local.starting import Network, Wanted, start
from paddock.errors import ConfigError, Unsupported
from paddock.network import check_network
from paddock.sandbox import Resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from paddock.backends.base import ProgressCallback
    from paddock.sandbox import Sandbox

__all__ = ["LocalBackend"]

NO_NETWORK = {
    "none": "a command has your own network",
    "landlock": "Landlock cannot close UDP",
}
"""Why a level cannot restrict the network."""


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
    - `dirs`: more directories that commands may write to, by their absolute paths, used in place.
    """

    name: ClassVar[str] = BACKEND

    isolation: Isolation | None = None
    network: Network = "auto"
    resources: Resources = field(default_factory=Resources)
    dirs: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dirs", checked_dirs(self.dirs))
        if self.isolation is not None:
            checked(self.isolation, "isolation")
        check_network(self.network, "auto", "none", "full")
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

    async def is_here(self) -> bool:
        return True

    async def gc(self) -> Sequence[str]:
        return [path.name for path in await asyncio.to_thread(lease.sweep)]

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        return await asyncio.to_thread(_list, labels or {})

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        found = await probing.prober.find(requested(self.isolation))
        self._check(found)
        wanted = Wanted(
            network=self.network,
            resources=self.resources,
            working_dir=self.working_dir,
            dirs=tuple(self.dirs),
            env_vars=self.env_vars,
            labels=self.labels,
        )
        return await acquire(start(wanted, found), LocalSandbox.aclose)

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
        refuse_limits(self.resources, found.limits, backend=self.name, hint=hint)
        if self.resources.shm_size is not None and found.level != "bubblewrap":
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
