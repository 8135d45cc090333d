"""Sandboxes in containers of Podman, which has no daemon: its program starts one, and leads to
the guest in it for as long as the sandbox lives."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from paddock._arguments import check_absolute
from paddock._concurrency import acquire
from paddock._frozen import FrozenMapping
from paddock.backends import containers, owner
from paddock.backends.base import Backend, Progress
from paddock.backends.containers import LABEL, MEMORY
from paddock.backends.egress import gate
from paddock.backends.guest.bundle import boot, bundle
from paddock.backends.guest.program import WITH_GUEST, ProgramSandbox, call, start_guest
from paddock.backends.isolation.levels import LIMITS_BY, refuse_limits
from paddock.errors import ConfigError, SandboxError, SandboxLost, Unsupported
from paddock.image.steps import REFERENCE
from paddock.network import Allow, check_network
from paddock.sandbox import Capability, Resources, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import ProgressCallback, SandboxInfo

__all__ = ["PodmanBackend"]

PULL_TIMEOUT = 1800.0
"""Seconds for an image of some gigabytes over a slow line."""
NOT_FOUND, KILLED = 127, 128 + signal.SIGKILL
"""How Podman ends if there is no such program, and if a signal has killed the first process."""


@dataclass(frozen=True, kw_only=True)
class PodmanBackend(Backend):
    """Sandboxes in containers of this user's Podman; images need a Python of 3.8 or newer.

    - `image`: a reference, pulled if Podman does not have it.
    - `resources`: upper bounds; without them a sandbox gets 4 GiB and 512 processes, where
      Podman can hold it to them.
    - `network`: `"full"` is Podman's default network, `"none"` none; with
      ``Allow(hosts=[...])`` only those hosts can be reached, through a proxy.
    - `working_dir`: made if the image does not have it; ``/workspace`` unless given.
    """

    name: ClassVar[str] = "podman"
    default_working_dir: ClassVar[str | None] = "/workspace"

    image: str = "paddock:base"
    network: Literal["full", "none"] | Allow = "full"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not REFERENCE.fullmatch(str(self.image)):
            raise ConfigError(
                f"image={self.image!r}: give a reference; Podman is to have it, or pull"
            )
        check_network(self.network, "full", "none")
        check_absolute("working_dir", self.working_dir)

    async def delete(self, sandbox_id: str) -> bool:
        found = sandbox_id in [info.id for info in await self.list()]
        if found:
            await _take_down(sandbox_id)
        return found

    async def gc(self) -> Sequence[str]:
        await asyncio.to_thread(owner.forget_dead)
        gone = [info.id for info in await self.list() if info.owner == "gone"]
        await _take_down(*gone)
        return gone

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        label = f"label={LABEL}"
        listed = json.loads(await _podman("ps", "--all", "--filter", label, "--format", "json"))
        # An image's labels are those of its containers, too; names are not.
        ours = [each for each in listed if each["Labels"][LABEL] in each["Names"]]
        return await asyncio.to_thread(containers.select, ours, labels or {}, backend=self.name)

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        limits = await self._limits()
        await self._collect_once()
        config = await self._find_image(on_progress)
        return await acquire(self._start(limits, config), Sandbox.aclose)

    async def _limits(self) -> frozenset[Capability]:
        """Return the limits that Podman can enforce; raise `Unsupported` for others asked for."""
        told = json.loads(await _podman("info", "--format", "{{json .Host.CgroupControllers}}"))
        found = frozenset(LIMITS_BY[name] for name in LIMITS_BY if name in (told or ()))
        hint = "Podman has no control groups for it; see `podman info` and docs/podman.md"
        refuse_limits(self.resources, found, backend=self.name, hint=hint)
        return found

    async def _find_image(self, on_progress: ProgressCallback) -> Mapping[str, Any]:
        """Make sure that Podman has the image; return its configuration."""
        look = ("image", "inspect", "--format", "{{json .Config}}", self.image)
        try:
            return json.loads(await _podman(*look)) or {}
        except SandboxError as error:
            if self.image.startswith("paddock:"):  # no registry has it
                raise ConfigError(f"{error}; docs/podman.md tells how to make it") from None
        on_progress(Progress(step="image", detail=f"pulling {self.image}", milestone=True))
        await _podman("pull", "--quiet", self.image, timeout=PULL_TIMEOUT)
        return json.loads(await _podman(*look)) or {}

    async def _start(self, limits: frozenset[Capability], config: Mapping[str, Any]) -> Sandbox:
        way_out = gate(self.network)
        lock = await asyncio.to_thread(owner.OwnerLock.take)
        try:
            command = await asyncio.to_thread(self._command, lock.name, limits)
            guest = await start_guest(command, bundle())
        except BaseException:
            lock.release()
            raise
        sandbox = PodmanSandbox(
            guest,
            sandbox_id=lock.name,
            backend=self.name,
            working_dir=PurePosixPath(self.known_working_dir or "/"),
            env=self.env_vars,
            labels=self.labels,
            capabilities=WITH_GUEST | containers.FENCED | limits,
            gate=way_out,
        )
        sandbox.lock = lock
        try:
            answer = await sandbox.begin(
                make_working_dir=True,
                user=None,
                image_env=[each.partition("=")[0] for each in config.get("Env") or ()],
                spill_dir=containers.SPILL_DIR,
                listen=way_out.port,
            )
        except SandboxLost:
            if guest.process.returncode != NOT_FOUND:
                raise
            hint = f"{self.image} needs a python3 of 3.8 or newer"
            raise Unsupported("images without Python", backend=self.name, hint=hint) from None
        sandbox.env = FrozenMapping({**answer["env"], **way_out.variables, **self.env_vars})
        if answer["switches"]:
            sandbox.capabilities |= {Capability.USER}
        return sandbox

    def _command(self, name: str, limits: frozenset[Capability]) -> Sequence[str]:
        """Return the command line of a container that ends, and goes, with its stdin; blocks."""
        own, memory = self.resources, self.resources.memory or MEMORY
        labels = containers.labels_of(name, self.labels, host=owner.host_id())
        bounds = {
            Capability.LIMIT_MEMORY: [f"--memory={memory}", f"--memory-swap={memory}"],
            Capability.LIMIT_PIDS: [f"--pids-limit={own.pids or containers.PIDS}"],
            Capability.LIMIT_CPU: [f"--cpus={own.cpu}"] if own.cpu else [],
        }
        return [
            *("podman", "run", "--interactive", "--rm", "--pull=never", f"--name={name}"),
            *(f"--hostname={name}", "--workdir=/", "--log-driver=none", "--no-healthcheck"),
            *(f"--label={key}={value}" for key, value in labels.items()),
            *("--cap-drop=all", f"--cap-add={','.join(containers.INSTALLING)}"),
            *("--security-opt=no-new-privileges", "--http-proxy=false", "--systemd=false"),
            *([] if self.network == "full" else ["--network=none"]),
            *(word for limit in sorted(limits) for word in bounds[limit]),
            *(f"--shm-size={own.shm_bytes(MEMORY)}", "--entrypoint=python3", self.image),
            *("-I", "-S", "-B", "-X", "utf8", "-c", boot(bundle())),
        ]


class PodmanSandbox(ProgramSandbox):
    """Owns a container, by the program that runs it, and the lock of its maker."""

    lock: owner.OwnerLock
    start_deadline = 60.0
    one_user = "the image's user is not root, who alone can become others"

    def _describe_exit(self, status: int) -> str:
        if status == KILLED:
            return "signal 9 ended its container: from outside, or for lack of memory"
        return f"its container ended ({status})"

    async def _remove(self) -> None:
        await _take_down(self.id)
        self.lock.release()


_podman = functools.partial(call, "podman")


async def _take_down(*names: str) -> None:
    if names:
        await _podman("rm", "--force", "--ignore", "--volumes", "--time=0", *names)
