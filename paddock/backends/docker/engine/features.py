"""Which features an engine has for every container.

An engine without control groups can neither limit, pause nor measure: it accepts a container's
limits with a warning and ignores them. That is an engine that runs without root where the host has
control groups of version 1 or does not delegate them, or a host whose kernel was booted without a
controller.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from paddock.backends.isolation.levels import refuse_limits
from paddock.errors import Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

    from paddock.backends.docker.engine.client import Engine
    from paddock.sandbox import Resources

__all__ = ["can_spare_network", "features", "from_info", "missing", "refuse"]

LIMITS = {
    "MemoryLimit": Capability.LIMIT_MEMORY,
    "CpuCfsQuota": Capability.LIMIT_CPU,
    "PidsLimit": Capability.LIMIT_PIDS,
}
"""The engine's names for the controllers that it has."""
MEASURED = {Capability.LIMIT_MEMORY, Capability.LIMIT_PIDS}
"""An engine measures what it can limit."""
PLAIN_RUNTIMES = ("runc", "crun")
"""Runtimes that bring up loopback in a network namespace that they make."""
HINT = "the engine lacks the control groups for it; see `docker info` and docs/docker.md"


async def features(engine: Engine) -> frozenset[Capability]:
    """Return the features of `engine`; asks once per process."""
    return from_info(await engine.call("asking what the engine can limit", _info, engine.client))


async def can_spare_network(engine: Engine) -> bool:
    """Return whether containers of `engine` have loopback though it sets up no network for them;
    asks once per process."""
    info = await engine.call("asking for the engine's runtime", _info, engine.client)
    return info.get("DefaultRuntime") in PLAIN_RUNTIMES


@functools.lru_cache(maxsize=8)
def _info(client: APIClient) -> Mapping[str, Any]:
    found: dict[str, Any] = client.info()
    return found


def from_info(info: Mapping[str, Any]) -> frozenset[Capability]:
    """Return the features that the engine's ``/info`` reports."""
    if info["CgroupDriver"] == "none":
        return frozenset()
    found = {capability for name, capability in LIMITS.items() if info[name]}
    measured = {Capability.STATS} if found >= MEASURED else set()
    return frozenset(found | measured | {Capability.PAUSE})


def refuse(wanted: Resources, found: frozenset[Capability]) -> None:
    """Raise `Unsupported` for a limit that the engine would drop."""
    # The size of a disk is no matter of control groups: see `DockerBackend._make`.
    refuse_limits(wanted, found | {Capability.LIMIT_DISK}, backend="docker", hint=HINT)


def missing(what: str) -> Unsupported:
    """Return the error for what needs control groups that the engine does not have."""
    return Unsupported(what, backend="docker", hint=HINT)
