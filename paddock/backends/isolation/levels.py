"""How far a local sandbox can be kept from the rest of the machine: three levels.

`bubblewrap` hides files, processes, sockets and the network. `landlock` needs no user
namespaces and closes files alone. `none` is no fence. Which one holds for a sandbox is
decided here from what was asked for and what the machine can do; a lower one is never
taken for want of the one that was asked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from paddock.backends.guest.inside.landlock import SCOPE_ABI
from paddock.errors import ConfigError, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paddock.backends.isolation import cgroups
    from paddock.resources import Resources

__all__ = [
    "CHOOSE_NONE", "LIMITS_BY", "SETTING", "Enforced", "Isolation", "Level", "refuse_limits",
    "requested",
]  # fmt: skip

Level = Literal["none", "landlock", "bubblewrap"]
Isolation = Literal["auto", "none", "landlock", "bubblewrap"]

SETTING = "PADDOCK_ISOLATION"
"""The environment variable that chooses the level where nothing else does."""
CHOOSE_NONE = (
    "to run commands with your own rights instead, choose isolation='none' "
    f"(option --isolation none, or {SETTING}=none)"
)
REACHABLE: dict[Level, str] = {
    "bubblewrap": "",
    "landlock": (
        "names and arguments of this machine's processes; its network, loopback included; names, "
        "sizes, modes and times of files (those of your files can be changed, what is in them "
        "cannot be read or written)"
    ),
    "none": "everything that your user may do",
}
"""What of the machine a sandbox of each level can still see or reach."""
SIGNALS = "processes of your user can be signalled (Landlock ABI 6, Linux 6.12, closes that)"

LIMITS_BY: dict[cgroups.Controller, Capability] = {
    "memory": Capability.LIMIT_MEMORY,
    "cpu": Capability.LIMIT_CPU,
    "pids": Capability.LIMIT_PIDS,
}
CAPABILITIES: dict[Level, frozenset[Capability]] = {
    "bubblewrap": frozenset(
        {
            Capability.ISOLATION,
            Capability.FILE_ISOLATION,
            Capability.NETWORK_NONE,
            Capability.NETWORK_ALLOWLIST,
            Capability.LIMIT_PIDS,
        }
    ),
    "landlock": frozenset({Capability.FILE_ISOLATION}),
    "none": frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """What a machine can enforce: a level, or `none` with the reason and what to do.

    `reason` says why the level is not a higher one. `places` are where limits can be
    enforced, and `unlimited` says why the others cannot be. `abi` is Landlock's.
    """

    level: Level
    reason: str = ""
    hint: str = ""
    places: tuple[cgroups.Place, ...] = ()
    unlimited: str = ""
    abi: int = 0

    def capabilities(self, always: Iterable[Capability]) -> frozenset[Capability]:
        """Return what sandboxes of this level can do, besides what they `always` can."""
        return frozenset(always) | CAPABILITIES[self.level] | self._by_groups()

    @property
    def limits(self) -> frozenset[Capability]:
        return self.capabilities(()) & {*LIMITS_BY.values()}

    @property
    def reachable(self) -> str:
        """What of the machine a sandbox can still see or reach; empty for nothing."""
        scoped = self.level != "landlock" or self.abi >= SCOPE_ABI
        return REACHABLE[self.level] if scoped else f"{REACHABLE[self.level]}; {SIGNALS}"

    def _by_groups(self) -> frozenset[Capability]:
        return frozenset(LIMITS_BY[place.controller] for place in self.places)


def refuse_limits(
    wanted: Resources, enforced: frozenset[Capability], *, backend: str, hint: str
) -> None:
    """Raise `Unsupported` for a limit that would not be among those that are `enforced`."""
    for what, value, capability in (
        ("a limit on memory", wanted.memory, Capability.LIMIT_MEMORY),
        ("a limit on CPU", wanted.cpu, Capability.LIMIT_CPU),
        ("a limit on processes", wanted.pids, Capability.LIMIT_PIDS),
    ):
        if value is not None and capability not in enforced:
            raise Unsupported(what, backend=backend, hint=hint)
    if wanted.disk is not None and Capability.LIMIT_DISK not in enforced:
        raise Unsupported("a limit on disk space", backend=backend)


def requested(isolation: Isolation | None) -> Isolation:
    """Return the level that holds: `isolation`, or else the environment's, or else `auto`.

    Raise `ConfigError` if it is none of the levels.
    """
    if isolation is not None:
        return checked(isolation, "isolation")
    return checked(os.environ.get(SETTING) or "auto", SETTING)


def checked(value: object, name: str) -> Isolation:
    """Return `value` if it is one of the levels; raise `ConfigError` naming `name` otherwise."""
    for level in get_args(Isolation):
        if value == level:
            return level  # type: ignore[no-any-return]  # one of the literals
    raise ConfigError(f"{name}={value!r}: give auto, bubblewrap, landlock or none")
