"""What a recipe asks of the engine beyond a sandbox's own settings: devices, volumes, hosts.

It becomes fields of the engine's HostConfig. Options that Paddock does not know are passed on as
they are, unless they lower the hardening; `posture` looks at what came of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from paddock._frozen import FrozenMapping
from paddock.errors import ConfigError

__all__ = ["EngineOptions", "check_platform", "deep_frozen", "is_absolute"]

VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
SYSCTL = re.compile(r"(net\.|fs\.mqueue\.|kernel\.(shm|msg|sem))[a-z0-9_./-]*")
"""Settings of the kernel that a container has for itself."""
PLATFORM = re.compile(r"[a-z0-9]+(/[a-z0-9_]+){0,2}")
FIELD = re.compile(r"[A-Za-z0-9]+")
"""Of ASCII alone: to an engine a long s is an s, and a Kelvin sign is a k."""
GATEWAY = "host-gateway"
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/run")
"""Where a volume would replace what the guest and the engine rely on."""
OURS = frozenset(
    {"autoremove", "init", "logconfig", "restartpolicy", "consolesize", "containeridfile"}
)
"""Fields on which the life of a sandbox depends."""
TYPED: Mapping[str, str] = {
    "binds": "volumes=",
    "capadd": "hardening=",
    "capdrop": "hardening=",
    "cgroupnsmode": "hardening=",
    "devicerequests": "gpus=",
    "extrahosts": "extra_hosts=",
    "ipcmode": "hardening=",
    "memory": "resources=",
    "memoryswap": "resources=",
    "mounts": "volumes=",
    "nanocpus": "resources=",
    "networkmode": "network=",
    "pidslimit": "resources=",
    "readonlyrootfs": "hardening=",
    "runtime": "runtime=",
    "securityopt": "hardening=",
    "shmsize": "resources=",
    "sysctls": "sysctls=",
    "tmpfs": "hardening=",
}
"""Fields that have a setting of ours, by lower case: engines do not tell the two apart."""


KEPT = ("DeviceRequests", "Mounts", "Sysctls", "Binds", "Ulimits", "Devices")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The options of a recipe, checked. See `DockerBackend` for what they mean."""

    gpus: int | str | None = None
    volumes: Sequence[Sequence[str]] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=FrozenMapping)
    sysctls: Mapping[str, str] = field(default_factory=FrozenMapping)
    others: Mapping[str, Any] = field(default_factory=FrozenMapping)
    hardened: bool = True

    def __post_init__(self) -> None:
        _device_request(self.gpus)
        for volume in self.volumes:
            _check_volume(volume)
        for name, address in self.extra_hosts.items():
            _check_host(name, address)
        for name, value in self.sysctls.items():
            _check_sysctl(name, value)
        for name in self.others:
            _check_other(name, hardened=self.hardened)

    @classmethod
    def seen(cls, host: Mapping[str, Any]) -> Self:
        """Return the options of a container that exists, as far as its forks need them."""
        return cls(
            others=FrozenMapping(
                {name: deep_frozen(host[name]) for name in KEPT if host.get(name)}
            ),
            hardened=False,
        )

    def host_config(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a HostConfig that these options add to `ours`, or replace there."""
        request = _device_request(self.gpus)
        mounts = [
            {"Type": "volume", "Source": name, "Target": path, "ReadOnly": bool(mode)}
            for name, path, *mode in self.volumes
        ]
        spelled = {name.lower(): name for name in ours}
        return {
            **({"DeviceRequests": [request]} if request else {}),
            **({"Mounts": mounts} if mounts else {}),
            **({"Sysctls": dict(self.sysctls)} if self.sysctls else {}),
            **{
                spelled.get(name.lower(), name): _plain(value)
                for name, value in self.others.items()
            },
        }


def check_platform(value: object) -> None:
    """Raise `ConfigError` for what is no platform."""
    if value is not None and not (isinstance(value, str) and PLATFORM.fullmatch(value)):
        raise ConfigError(f"platform={value!r}: give one such as linux/arm64")


def deep_frozen(value: Any) -> Any:
    """Return a copy of plain data that can be hashed. Raise `ConfigError` for anything else."""
    if isinstance(value, Mapping):
        return FrozenMapping({key: deep_frozen(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return tuple(map(deep_frozen, value))
    if value is None or isinstance(value, str | int | float):
        return value
    raise ConfigError(f"engine_options: {value!r} is not text, a number, a list or a mapping")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return list(map(_plain, value)) if isinstance(value, tuple) else value


def _device_request(gpus: int | str | None) -> dict[str, Any] | None:
    """Return what the docker CLI makes of ``--gpus``: all, a number, or device=ID,ID."""
    request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]], "Options": {}}
    if gpus is None:
        return None
    if gpus == "all":
        return request | {"Count": -1}
    if isinstance(gpus, int) and not isinstance(gpus, bool) and gpus > 0:
        return request | {"Count": gpus}
    if isinstance(gpus, str) and gpus.startswith("device="):
        ids = gpus.removeprefix("device=").split(",")
        if all(ids):
            return request | {"DeviceIDs": ids}
    raise ConfigError(f"gpus={gpus!r}: give 'all', a number from 1, or 'device=0,1'")


def is_absolute(path: object) -> bool:
    """Return whether it is an absolute path without ``..``, which engines and kernels resolve
    differently."""
    return isinstance(path, str) and path.startswith("/") and ".." not in path.split("/")


def _check_volume(volume: object) -> None:
    if isinstance(volume, str) or not isinstance(volume, Sequence) or len(volume) not in (2, 3):
        raise ConfigError(f"volumes: {volume!r}: give (name, path) or (name, path, 'ro')")
    name, path, *mode = volume
    if not isinstance(name, str) or not VOLUME.fullmatch(name):
        raise ConfigError(
            f"volumes: {name!r} is not the name of a volume; directories of this machine are not "
            "mounted: upload them, or make a volume"
        )
    place = "/" + "/".join(filter(None, str(path).split("/")))
    if (
        not is_absolute(path)
        or place == "/"
        or any(f"{place}/".startswith(f"{each}/") for each in SYSTEM)
    ):
        raise ConfigError(
            f"volumes: {path!r}: give an absolute path that is none of the system's own"
        )
    if mode not in ([], ["ro"]):
        raise ConfigError(f"volumes: {mode[0]!r}: the third is 'ro' or is left out")


def _check_host(name: object, address: object) -> None:
    if not isinstance(name, str) or not HOST.fullmatch(name):
        raise ConfigError(f"extra_hosts: {name!r} is not the name of a host")
    try:
        if address != GATEWAY:
            ipaddress.ip_address(str(address))
    except ValueError:
        raise ConfigError(
            f"extra_hosts: {name}: {address!r} is neither an address nor {GATEWAY}"
        ) from None


def _check_sysctl(name: object, value: object) -> None:
    if not SYSCTL.fullmatch(str(name)) or not isinstance(value, str) or not value:
        raise ConfigError(
            f"sysctls: {name!r}: {value!r} is not text for a setting that a container has of its "
            "own: net.*, fs.mqueue.*, kernel.shm*, kernel.msg* or kernel.sem"
        )


def _check_other(name: object, *, hardened: bool) -> None:
    if not isinstance(name, str) or not FIELD.fullmatch(name):
        raise ConfigError(f"engine_options: {name!r} is not a field of the engine's HostConfig")
    if name.lower() in OURS:
        raise ConfigError(f"engine_options: {name}: a sandbox depends on it being as it is")
    if hardened and (instead := TYPED.get(name.lower())):
        raise ConfigError(
            f"engine_options: {name}: use {instead}; with hardening='none' it can be given here"
        )
