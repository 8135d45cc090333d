"""Sandboxes in containers of a Docker Engine: the guest is the first process of each.

A sandbox is one look at its image, one create, one attach and one start. The guest's
program goes down the attached stream, so an image needs a Python and nothing of ours; no
port is published, nothing is mounted.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from paddock._concurrency import acquire
from paddock._frozen import FrozenMapping
from paddock.backends.base import Backend, Progress
from paddock.backends.containers import MEMORY
from paddock.backends.docker.containers import commits, inventory, owner
from paddock.backends.docker.containers.control import resume_container
from paddock.backends.docker.containers.guests import join_guest
from paddock.backends.docker.containers.options import (
    EngineOptions,
    check_platform,
    deep_frozen,
    is_absolute,
)
from paddock.backends.docker.containers.plan import (
    BACKEND,
    LEAST,
    NOBODY,
    WORKING_DIR,
    ContainerPlan,
    Hardening,
    Network,
    new_join_token,
    numbers,
    variable_names,
)
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.backends.docker.engine.endpoint import Endpoint
from paddock.backends.docker.engine.features import can_spare_network, features, refuse
from paddock.backends.docker.images import recipes
from paddock.backends.docker.images.access import DockerImages
from paddock.backends.docker.images.build import ensure
from paddock.backends.docker.images.store import inspect
from paddock.backends.docker.making import make
from paddock.backends.images import Step
from paddock.errors import ConfigError, Unsupported
from paddock.image import Image
from paddock.image.settings import BuildSettings, RegistryLogin
from paddock.image.steps import REFERENCE
from paddock.network import check_network
from paddock.sandbox import Resources, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.base import ProgressCallback, SandboxInfo
    from paddock.backends.images import ImageProgress
    from paddock.sandbox import Capability

__all__ = ["DockerBackend"]

LEAST_LEASE = 1.0
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
"""A container's name or id; nothing else may become part of an address of the engine's API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFound:
    """An engine that answers: its version, that of its kernel if it says so, and where it is."""

    version: str
    kernel: str
    url: str


@dataclass(frozen=True, kw_only=True)
class DockerBackend(Backend):
    """Sandboxes in containers.

    - `image`: a reference, pulled if the engine does not have it; ``paddock:NAME`` or an
      `Image`, built if it does not.
    - `resources`: upper bounds; without them a sandbox gets 4 GiB and 512 processes,
      where the engine can hold it to them.
    - `network`: `"full"` is the engine's default network, `"none"` none; with
      ``Allow(hosts=[...])`` only those hosts can be reached, through a proxy.
    - `user`: the user of commands, as the engine takes it (``name`` or ``uid:gid``); without
      it, as the image says. The working directory belongs to that user.
    - `working_dir`: without it, the image's own if it has one, else ``/workspace``.
    - `runtime`: an OCI runtime that the engine knows, such as ``runsc``.
    - `hardening`: `"default"` drops all capabilities but those that package installs
      need; `"strict"` drops them all, makes the root read-only with a working directory
      in memory, and runs as nobody.
      With `"none"` isolation is given up: `engine_options` and volumes may then weaken it.
    - `gpus`: `"all"`, a number, or ``"device=0,1"``; `platform`: such as ``linux/arm64``.
    - `volumes`: ``(name, path)`` or ``(name, path, "ro")``: volumes of the engine, made if they are
      missing. They outlive the sandbox, and others may use them too.
    - `extra_hosts`: addresses by name, for /etc/hosts; ``host-gateway`` is the engine's machine.
    - `sysctls`: kernel settings that a container has of its own, as ``net.core.somaxconn``.
    - `engine_options`: other fields of the engine's HostConfig, by its names, such as
      ``{"CpusetCpus": "0"}``. What would lower the hardening is refused before anything runs.
    - `auth`: logins by registry for pulling and building `image`, before those of the docker CLI.
    - `host`: the engine's address; found as the docker CLI finds it unless given. With a list of
      addresses the recipe is for a `Fleet`, which makes sandboxes on all of these engines.
    - `lease`: seconds, from 1, after which a sandbox whose maker is silent ends by itself.
      With None it outlives its maker, until somebody deletes it.
    """

    name: ClassVar[str] = BACKEND
    default_working_dir: ClassVar[str | None] = WORKING_DIR

    image: str | Image = "paddock:base"
    resources: Resources = field(default_factory=Resources)
    network: Network = "full"
    user: str | None = None
    runtime: str | None = None
    hardening: Hardening = "default"
    gpus: int | str | None = None
    platform: str | None = None
    volumes: Sequence[Sequence[str]] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=FrozenMapping)
    sysctls: Mapping[str, str] = field(default_factory=FrozenMapping)
    engine_options: Mapping[str, Any] = field(default_factory=FrozenMapping)
    auth: Mapping[str, RegistryLogin] = field(default_factory=FrozenMapping, repr=False)
    host: str | Sequence[str] | None = None
    lease: float | None = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.host is not None and not isinstance(self.host, str):
            object.__setattr__(self, "host", _hosts(self.host))
        check_network(self.network, "full", "none")
        if self.hardening not in get_args(Hardening):
            raise ConfigError(f"hardening={self.hardening!r}: give default, strict or none")
        self._check_options()
        if not isinstance(self.image, Image) and not _is(REFERENCE, self.image):
            raise ConfigError(f"image={self.image!r}: give an Image or a reference")
        if self.working_dir is not None and not is_absolute(self.working_dir):
            raise ConfigError(f"working_dir={self.working_dir!r}: give an absolute path without ..")
        for name, least in LEAST.items():
            value = getattr(self.resources, name)
            if value is not None and value < least:
                raise ConfigError(f"resources: {name}={value!r} is less than {least}")
        self.resources.shm_bytes(MEMORY)
        if self.lease is not None and not _is_lease(self.lease):
            raise ConfigError(f"lease={self.lease!r}: give a number of seconds from 1, or None")

    def _check_options(self) -> None:
        """Freeze the engine's options; raise `ConfigError` for what cannot be right."""
        check_platform(self.platform)
        for name in ("extra_hosts", "sysctls", "engine_options"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{name}: give a mapping of names to values")
            object.__setattr__(self, name, deep_frozen(getattr(self, name)))
        object.__setattr__(self, "auth", FrozenMapping(self.auth))
        options = self._options
        object.__setattr__(self, "volumes", tuple(map(tuple, options.volumes)))

    @property
    def _options(self) -> EngineOptions:
        return EngineOptions(
            gpus=self.gpus,
            volumes=self.volumes,
            extra_hosts=self.extra_hosts,
            sysctls=self.sysctls,
            others=self.engine_options,
            hardened=self.hardening != "none",
        )

    @property
    def known_working_dir(self) -> str | None:
        own = {f"{recipes.REPOSITORY}:{name}" for name in recipes.names()}
        return self.working_dir or (WORKING_DIR if self.image in own else None)

    def engines(self) -> Sequence[DockerBackend]:
        if self.host is None or isinstance(self.host, str):
            return (self,)
        return tuple(replace(self, host=each) for each in self.host)

    async def is_here(self) -> bool:
        found = await asyncio.to_thread(Endpoint.find, self._one_host)
        return found.url.startswith("unix://")

    @property
    def _one_host(self) -> str | None:
        """The address of the engine. Raise `ConfigError` if there are several."""
        if self.host is None or isinstance(self.host, str):
            return self.host
        raise ConfigError(f"a sandbox is made on one engine, and host has {len(self.host)}")

    @property
    def images(self) -> DockerImages:
        return DockerImages(self._one_host, self.auth)

    async def engine_found(self, *, deadline: float) -> EngineFound:
        """Return which engine makes the sandboxes.

        Raise `SandboxError` if none answers within `deadline` seconds.
        """
        engine = await Engine.connect(self._one_host, deadline=deadline)
        told = await engine.call("asking for the version", engine.client.version, deadline=deadline)
        return EngineFound(
            version=str(told["Version"]),
            kernel=str(told.get("KernelVersion", "")),
            url=engine.endpoint.url,
        )

    async def attach(self, sandbox_id: str) -> Sandbox:
        if not _is(NAME, sandbox_id):
            raise ConfigError(f"{sandbox_id!r} is not a sandbox's id")
        engine = await Engine.connect(self._one_host)
        return await acquire(self._join(engine, sandbox_id), DockerSandbox.detach)

    async def _join(self, engine: Engine, sandbox_id: str) -> DockerSandbox:
        found = await inventory.find(engine, sandbox_id)
        plan = ContainerPlan.seen(found, await features(engine))
        if found["State"]["Paused"]:
            async with commits.standing_still(engine, plan.container):
                await resume_container(engine, plan.container)
        lock = await asyncio.to_thread(owner.OwnerLock.join, plan.name)
        try:
            sandbox = await join_guest(
                engine, plan, lock, make, env_vars=self.env_vars, network=self.network
            )
        except BaseException:
            lock.release()
            raise
        return self.set_secrets(sandbox)

    async def delete(self, sandbox_id: str) -> bool:
        return await inventory.delete(await Engine.connect(self._one_host), sandbox_id)

    async def gc(self) -> Sequence[str]:
        return await inventory.collect(await Engine.connect(self._one_host))

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        return await inventory.listing(await Engine.connect(self._one_host), labels or {})

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        if self.resources.disk is not None and self.hardening != "strict":
            raise Unsupported(
                "a limit on disk space",
                backend=self.name,
                hint="hardening='strict' keeps all that is written in memory, within it",
            )
        engine = await Engine.connect(self._one_host)
        found = await features(engine)
        refuse(self.resources, found)
        await self._collect_once(engine.endpoint.url)
        image, config = await self._find_image(engine, on_progress)
        spares = await can_spare_network(engine)

        def planned(name: str) -> ContainerPlan:
            return replace(self._plan(name, image, config, found), can_spare_network=spares)

        return await make(engine, planned)

    async def _find_image(
        self, engine: Engine, on_progress: ProgressCallback
    ) -> tuple[str, Mapping[str, Any]]:
        """Make sure that the engine has the image; return its name there and its configuration."""
        if isinstance(self.image, str) and (found := await inspect(engine, self.image)):
            return self.image, found["Config"] or {}

        def tell_image(event: ImageProgress) -> None:
            is_step = isinstance(event, Step)
            on_progress(Progress(step="image", detail=str(event), milestone=is_step))

        settings = replace(BuildSettings.from_environment(), auth=self.auth, platform=self.platform)
        image = await ensure(engine, self.image, on_progress=tell_image, settings=settings)
        found = await inspect(engine, image)
        if found is None:
            raise EngineError(f"{image} was removed from the engine while it was wanted")
        return image, found["Config"] or {}

    def _plan(
        self,
        name: str,
        image: str,
        config: Mapping[str, Any],
        found: frozenset[Capability] = frozenset(),
    ) -> ContainerPlan:
        """Return the plan of a container called `name`; blocks.

        Where the recipe says nothing, `config` does, which is the image's own.
        """
        join_token = new_join_token()
        inherited = config.get("WorkingDir")
        if inherited == "/":  # some builders write it although no directory was given
            inherited = None
        user = self.user or (NOBODY if self.hardening == "strict" else config.get("User")) or None
        changed = (config.get("Labels") or {}).get(owner.CHANGED_LABEL)
        guest_is_root = (
            user is not None
            and numbers(user) != (0, 0)
            and self.hardening != "strict"
            and not changed
        )
        return ContainerPlan(
            name=name,
            image=image,
            working_dir=self.working_dir or inherited or WORKING_DIR,
            join_token=join_token,
            lease=self.lease,
            labels=owner.labels_of(
                name,
                join_token=join_token,
                lease=self.lease,
                own=self.labels,
                user=user if guest_is_root else None,
            ),
            env_vars=self.env_vars,
            resources=self.resources,
            network=self.network,
            user=user,
            ids=numbers(user),
            guest_is_root=guest_is_root,
            image_env=variable_names(config),
            runtime=self.runtime,
            hardening=self.hardening,
            options=self._options,
            platform=self.platform,
            features=found,
        )


def _hosts(given: Sequence[str]) -> tuple[str, ...]:
    hosts = tuple(given)
    if not hosts or not all(isinstance(each, str) for each in hosts):
        raise ConfigError(f"host={given!r}: give an address, or a list of addresses")
    if len(set(hosts)) < len(hosts):
        raise ConfigError(f"host={list(given)!r}: give each address once")
    return hosts


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_lease(value: object) -> bool:
    """Return whether it is a finite number of seconds, at least `LEAST_LEASE`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return LEAST_LEASE <= value < math.inf
