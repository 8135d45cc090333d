"""What a container of ours looks like to the engine. Makes no calls.

Hardened unless the posture rows say why not: no capabilities but those that package
installs need, no new privileges, our system call profile, bounds on memory, swap,
processes and logs, no shared namespaces, no mounts of the host.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from paddock._frozen import FrozenMapping
from paddock.backends.containers import INSTALLING, MEMORY, PIDS, SPILL_DIR, own_labels
from paddock.backends.docker.containers import owner, seccomp
from paddock.backends.docker.containers.options import EngineOptions
from paddock.backends.docker.containers.posture import weaknesses
from paddock.backends.guest.bundle import boot, bundle
from paddock.backends.isolation.etc import HOSTS
from paddock.errors import ConfigError
from paddock.network import Allow
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

__all__ = [
    "BACKEND",
    "LEAST",
    "NOBODY",
    "WORKING_DIR",
    "ContainerPlan",
    "Hardening",
    "Network",
    "new_join_token",
    "numbers",
    "variable_names",
]

BACKEND = "docker"
"""The backend's name."""
Hardening = Literal["default", "strict", "none"]
Network = Literal["full", "none"] | Allow

WORKING_DIR = "/workspace"
LEAST = {"cpu": 0.01, "memory": 6 * 1024**2}
"""An engine takes no limit below these."""
TMP_BYTES = 1024**3
NOBODY = "65534:65534"
ROOT = "0:0"
NO_LOGS = {"Type": "none", "Config": {}}
"""The stream is ours alone; an engine that kept a copy would fill its disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """One container, with all that was decided about it. Limits are set as far as the engine has
    the `features` for them."""

    name: str
    image: str
    working_dir: str
    labels: Mapping[str, str]
    resources: Resources
    network: Network
    user: str | None
    ids: tuple[int, int] | None
    """The user's numbers; None for a name, which only the image can resolve."""
    guest_is_root: bool = False
    """Whether the guest is root, to start commands as the user and as others."""
    image_env: tuple[str, ...] = ()
    """Names of the variables that the image sets."""
    runtime: str | None
    hardening: Hardening
    join_token: str
    lease: float | None
    options: EngineOptions = field(default_factory=EngineOptions)
    platform: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=FrozenMapping)
    """The recipe's, which the guest adds to the image's environment."""
    features: frozenset[Capability] = frozenset()
    can_spare_network: bool = False
    """Whether the engine's runtime brings up loopback in a network namespace of its own making."""
    container: str = ""
    """The engine's id of the container after its creation; unlike a name, it never changes."""
    spill_dir: str = SPILL_DIR

    @classmethod
    def seen(cls, found: Mapping[str, Any], features: frozenset[Capability]) -> Self:
        """Return the plan of a container of ours, from what an engine with `features` reports.

        Raises `ConfigError` for one that cannot be joined or does not run.
        """
        config, host = found["Config"], found["HostConfig"]
        labels: dict[str, str] = config["Labels"] or {}
        name = labels[owner.LABEL]
        if owner.JOIN_TOKEN_LABEL not in labels:
            raise ConfigError(f"{name} is not a sandbox that can be joined")
        if not found["State"]["Running"]:
            raise ConfigError(f"the sandbox {name} does not run ({found['State']['Status']})")
        lease = labels[owner.LEASE_LABEL]
        user = labels.get(owner.USER_LABEL) or config["User"] or None
        return cls(
            name=name,
            image=config["Image"],
            working_dir=config["WorkingDir"],
            labels=labels,
            resources=Resources(
                cpu=host["NanoCpus"] / 1e9 or None,
                memory=host["Memory"] or None,
                pids=host["PidsLimit"] or None,
                shm_size=host["ShmSize"] or None,
            ),
            network="none" if host["NetworkMode"] == "none" else "full",
            user=user,
            ids=numbers(user),
            guest_is_root=bool(labels.get(owner.USER_LABEL)),
            image_env=variable_names(config),
            runtime=host["Runtime"] or None,
            hardening=_hardening_seen(host),
            options=EngineOptions.seen(host),
            join_token=labels[owner.JOIN_TOKEN_LABEL],
            lease=float(lease) if lease else None,
            features=features,
            container=found["Id"],
        )

    def for_fork(self, image: str, name: str, *, guest_is_root: bool) -> Self:
        """Return the plan of a sandbox like this one that begins with `image`; blocks."""
        join_token = new_join_token()
        return replace(
            self,
            name=name,
            image=image,
            labels=owner.labels_of(
                name,
                join_token=join_token,
                lease=self.lease,
                own=self.own_labels,
                user=self.user if guest_is_root else None,
            ),
            guest_is_root=guest_is_root,
            join_token=join_token,
            container="",
        )

    @property
    def own_labels(self) -> Mapping[str, str]:
        """The recipe's labels."""
        return FrozenMapping(own_labels(self.labels))

    @property
    def is_root(self) -> bool:
        """Whether commands run as root by default."""
        return self.ids is not None and self.ids[0] == 0

    @property
    def keeps_files(self) -> bool:
        """Whether the working directory is part of the container's own files."""
        return self.hardening != "strict"

    @property
    def hosts(self) -> str | None:
        """The /etc/hosts that the guest writes; None where the engine does that.

        A container that cannot reach anything gets its network namespace from the runtime: an
        engine takes as long to set up a namespace as for all the rest of a container. The guest
        has to be root, and the file to be as the engine would have written it.
        """
        spares = (
            self.can_spare_network
            and self.network != "full"
            and self.keeps_files
            and (self.guest_is_root or self.is_root)
            and self.runtime is None
            and not (self.options.extra_hosts or self.options.others)
        )
        return f"{HOSTS}127.0.0.1 {self.name}\n" if spares else None

    def config(self, client: APIClient) -> dict[str, Any]:
        """Return the body of a create request."""
        strict = self.hardening == "strict"
        config: dict[str, Any] = client.create_container_config(
            image=self.image,
            command=[],
            entrypoint=["python3", "-I", "-S", "-B", "-X", "utf8", "-c", boot(bundle())],
            stdin_open=True,
            working_dir=self.working_dir,
            user=ROOT if self.guest_is_root else self.user,
            labels=dict(self.labels),
        )
        streams = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
        host = self._host_config(client, strict=strict)
        # An image's own health check would be one more process in the sandbox.
        check = {"Healthcheck": {"Test": ["NONE"]}}
        network = {"NetworkDisabled": self.hosts is not None}
        rest = {"StdinOnce": True, "Hostname": self.name, "HostConfig": host}
        return config | streams | check | network | rest

    def _host_config(self, client: APIClient, *, strict: bool) -> dict[str, Any]:
        memory = pids = None
        if Capability.LIMIT_MEMORY in self.features:
            memory = self.resources.memory or MEMORY
        if Capability.LIMIT_PIDS in self.features:
            pids = self.resources.pids or PIDS
        config: dict[str, Any] = client.create_host_config(
            auto_remove=True,
            network_mode="default" if self.network == "full" else "none",
            cap_drop=["ALL"],
            cap_add=[] if strict else list(INSTALLING),
            security_opt=["no-new-privileges", f"seccomp={seccomp.profile()}"],
            pids_limit=pids,
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=round(self.resources.cpu * 1e9) if self.resources.cpu else None,
            ipc_mode="private",
            shm_size=self.resources.shm_bytes(MEMORY),
            extra_hosts={
                **({} if self.network == "full" else {self.name: "127.0.0.1"}),
                **self.options.extra_hosts,
            },
            read_only=strict,
            tmpfs=self._in_memory() if strict else None,
            runtime=self.runtime,
        )
        return config | {"LogConfig": NO_LOGS} | self.options.host_config(config)

    def _in_memory(self) -> dict[str, str]:
        owner = "" if self.ids is None else f",uid={self.ids[0]},gid={self.ids[1]}"
        disk = self.resources.disk or TMP_BYTES
        return {
            "/tmp": f"rw,exec,nosuid,nodev,size={TMP_BYTES},mode=1777",
            self.working_dir: f"rw,exec,nosuid,nodev,size={disk}{owner}",
        }


def _hardening_seen(host: Mapping[str, Any]) -> Hardening:
    if weaknesses(host):
        return "none"
    return "strict" if host["ReadonlyRootfs"] else "default"


def variable_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the variables that the configuration of an image or container sets."""
    return tuple(each.partition("=")[0] for each in config.get("Env") or ())


def new_join_token() -> str:
    return secrets.token_urlsafe(16)


def numbers(user: str | None) -> tuple[int, int] | None:
    """Return the ids of a user as engines accept it; None for a name other than root."""
    name, _, group = (user or "root").partition(":")
    if name == "root":
        return 0, 0
    if not name.isdecimal():
        return None
    return int(name), int(group) if group.isdecimal() else 0
