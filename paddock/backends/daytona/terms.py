"""Paddock's terms in Daytona's: resources, networks, snapshots."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, Unsupported
from paddock.image import Image
from paddock.image.steps import FromRegistry
from paddock.network import Allow, split_port

if TYPE_CHECKING:
    from paddock.sandbox import Resources

__all__ = ["network_settings", "resource_settings", "snapshot_image", "snapshot_of"]

GIBIBYTE = 1024**3
ENTRIES = 10
"""The most that a list of names, or of addresses, may have."""
NAME = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", re.IGNORECASE
)
"""A name of two parts at least: Daytona refuses ``localhost`` and bare top-level domains."""
SNAPSHOTS = "daytona-snapshot/"
"""Begins the reference of an image that is a snapshot of Daytona's and in no registry."""


def snapshot_image(name: str) -> Image:
    """A snapshot as an image, for `DaytonaBackend` to begin with."""
    return Image.from_registry(SNAPSHOTS + name)


def snapshot_of(image: object) -> str | None:
    """The snapshot that an image is, if it is one."""
    if isinstance(image, Image) and len(image.steps) == 1:
        (image,) = image.steps
    name = image.name if isinstance(image, FromRegistry) else image
    if isinstance(name, str) and name.startswith(SNAPSHOTS):
        return name.removeprefix(SNAPSHOTS)
    return None


def resource_settings(resources: Resources) -> dict[str, int]:
    """`cpu` in cores, `memory` and `disk` in GiB, all whole: Daytona takes no others."""
    if resources.shm_size is not None:
        raise Unsupported("a size of /dev/shm", backend="daytona")
    if resources.pids is not None:
        raise Unsupported("a limit on processes", backend="daytona")
    told: dict[str, int] = {}
    for name, unit in (("cpu", 1), ("memory", GIBIBYTE), ("disk", GIBIBYTE)):
        value = getattr(resources, name)
        if value is None:
            continue
        if value < unit or value % unit:
            what = "whole cores" if unit == 1 else "whole GiB (multiples of 1024**3 bytes)"
            raise ConfigError(f"resources: {name}={value}: Daytona counts in {what}")
        told[name] = int(value // unit)
    return told


def _checked(name: str) -> str:
    """Raises `Unsupported` for a name that Daytona refuses, such as ``localhost``."""
    if not NAME.fullmatch(name):
        raise Unsupported(
            f"network: {name!r}",
            backend="daytona",
            hint="its list takes names such as example.com or *.example.com",
        )
    return name


def network_settings(network: Allow | str) -> dict[str, Any]:
    """Raises `Unsupported` for what Daytona cannot enforce, or refuses: ports, IPv6 addresses,
    names of one part, and more than `ENTRIES` names or addresses."""
    if network == "full":
        return {}
    if network == "none":
        return {"network_block_all": True}
    assert isinstance(network, Allow)
    if not network.hosts:
        return {"network_block_all": True}
    names, addresses = [], []
    for entry in network.hosts:
        host, port = split_port(entry)
        if port is not None or host.startswith("["):
            raise Unsupported(
                f"network: {entry!r}",
                backend="daytona",
                hint="its lists are of names, IPv4 addresses and their networks, without ports",
            )
        try:
            addresses.append(str(ip_network(host)))
        except ValueError:
            names.append(_checked(host))
    for entries, what in ((names, "names"), (addresses, "addresses")):
        if len(entries) > ENTRIES:
            raise Unsupported(
                f"network: {len(entries)} {what}",
                backend="daytona",
                hint=f"its lists take at most {ENTRIES} of each; *.example.com is one",
            )
    told = {"domain_allow_list": ",".join(names), "network_allow_list": ",".join(addresses)}
    return {name: value for name, value in told.items() if value}
