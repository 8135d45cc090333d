"""Whether a container that was created has the hardening that a sandbox promises.

It reads what the engine reports, not what was asked for: an engine takes fields in any spelling,
and new ones that are unknown here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.backends.containers import INSTALLING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["binds_of_volume", "weaknesses"]

SHARED = ("PidMode", "UTSMode", "UsernsMode", "IpcMode", "NetworkMode")
OPEN = ("unconfined", "disable", "no-new-privileges:false", "no-new-privileges=false")
EMPTY = (
    *("Privileged", "Binds", "VolumesFrom", "Devices", "DeviceCgroupRules"),
    *("PublishAllPorts", "PortBindings", "Links", "OomKillDisable"),
)
"""Fields that a hardened container leaves empty."""

HIDDEN = {
    "MaskedPaths": {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
    "ReadonlyPaths": {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
}
"""What every engine hides or protects; newer ones have more."""


def weaknesses(host: Mapping[str, Any]) -> list[str]:
    """Return in what a container's HostConfig is weaker than a sandbox is, each in a few words."""
    return [*_fields(host), *_namespaces(host), *_privileges(host), *_mounts(host)]


def binds_of_volume(volume: Mapping[str, Any]) -> str | None:
    """Return the path of the engine's machine that a volume of its reports shows, if any."""
    options = volume.get("Options") or {}
    kind, flags = str(options.get("type", "")), str(options.get("o", "")).split(",")
    if "bind" in flags or "rbind" in flags or kind in ("none", "bind"):
        return str(options.get("device"))
    return None


def _fields(host: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{name}={host[name]!r}" for name in EMPTY if host.get(name))
    for name, paths in HIDDEN.items():
        if missing := sorted(paths - set(host.get(name) or ())):
            yield f"{name} without {', '.join(missing)}"
    if host.get("CgroupParent"):
        yield f"CgroupParent={host['CgroupParent']!r} leaves the engine's control groups"


def _namespaces(host: Mapping[str, Any]) -> Iterator[str]:
    for name in SHARED:
        mode = str(host.get(name) or "")
        if mode == "host" or mode.startswith(("container:", "ns:")) or mode == "shareable":
            yield f"{name}={mode!r} shares a namespace"


def _privileges(host: Mapping[str, Any]) -> Iterator[str]:
    added = {str(each).upper().removeprefix("CAP_") for each in host.get("CapAdd") or ()}
    if more := added - set(INSTALLING):
        yield f"CapAdd={sorted(more)}"
    if "ALL" not in (host.get("CapDrop") or ()):
        yield "CapDrop lacks ALL"
    security = [str(each) for each in host.get("SecurityOpt") or ()]
    if not any(each.startswith("no-new-privileges") for each in security):
        yield "SecurityOpt lacks no-new-privileges"
    if not any(each.startswith("seccomp") for each in security):
        yield "SecurityOpt lacks a seccomp profile"
    yield from (f"SecurityOpt={each!r}" for each in security if each.endswith(OPEN))


def _mounts(host: Mapping[str, Any]) -> Iterator[str]:
    for mount in host.get("Mounts") or ():
        options = (mount.get("VolumeOptions") or {}).get("DriverConfig")
        if mount.get("Type") != "volume" or options:
            yield f"Mounts={mount.get('Type')} of {mount.get('Source')!r}"
