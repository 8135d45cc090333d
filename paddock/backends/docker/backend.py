"""Sandboxes in containers of a Docker Engine: the guest is the first process of each.

A sandbox is one look at its image, one create, one attach and one start. The guest's
program goes down the attached stream, so an image needs a Python and nothing of ours; no
port is published, nothing is mounted.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import math
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from paddock._concurrency import acquire, interruptible
from paddock.backends.base import Backend, Progress
from paddock.backends.docker.containers import commits, inventory, owner, reaper
from paddock.backends.docker.containers.control import remove_container, resume_container
from paddock.backends.docker.containers.creation import create_container, start_container
from paddock.backends.docker.containers.exit_reason import exit_reason
from paddock.backends.docker.containers.plan import (
    LEAST,
    NOBODY,
    WORKING_DIR,
    ContainerPlan,
    Hardening,
    Network,
    numbers,
)
from paddock.backends.docker.containers.removal import remove, watch
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.engine.attach import join_stream, open_stream
from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.backends.docker.engine.features import features, refuse
from paddock.backends.docker.fallback import launch
from paddock.backends.docker.images import recipes
from paddock.backends.docker.images.access import DockerImages
from paddock.backends.docker.images.build import ensure
from paddock.backends.docker.images.store import inspect
from paddock.backends.egress import gate
from paddock.backends.guest.bundle import bundle
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.link import State
from paddock.backends.images import Step
from paddock.errors import ConfigError, SandboxLost, Unsupported
from paddock.image import Image
from paddock.image.steps import REFERENCE
from paddock.network import Allow
from paddock.sandbox import Resources, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import ProgressCallback, SandboxInfo
    from paddock.backends.images import ImageProgress
    from paddock.sandbox import Capability

__all__ = ["DockerBackend"]

READY_DEADLINE = 60.0
"""Seconds from the start of a container until its guest has to answer: it takes 0.05 s, on
an engine that starts fifty at once some 10 s."""

LEAST_LEASE = 1.0
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
"""What an engine takes for a container's name or id: nothing that leads elsewhere in its API."""


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
    - `user`: who commands run as, as the engine takes it (``name`` or ``uid:gid``); without
      it, as the image says. The working directory belongs to that user.
    - `working_dir`: without it, the image's own if it has one, else ``/workspace``.
    - `runtime`: an OCI runtime that the engine knows, such as ``runsc``.
    - `hardening`: `"default"` drops all capabilities but those that package installs
      need; `"strict"` drops them all, makes the root read-only with a working directory
      in memory, and runs as nobody.
    - `host`: the engine's address; found as the docker CLI finds it unless given.
    - `lease`: seconds, from 1, after which a sandbox whose maker is silent ends by itself.
      With None it outlives its maker, until somebody deletes it.
    """

    name: ClassVar[str] = "docker"
    default_working_dir: ClassVar[str | None] = WORKING_DIR

    image: str | Image = "paddock:base"
    resources: Resources = field(default_factory=Resources)
    network: Network = "full"
    user: str | None = None
    runtime: str | None = None
    hardening: Hardening = "default"
    host: str | None = None
    lease: float | None = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.network, Allow) and self.network not in ("full", "none"):
            raise ConfigError(f"network={self.network!r}: give full, none or Allow(...)")
        if self.hardening not in ("default", "strict"):
            raise ConfigError(f"hardening={self.hardening!r}: give default or strict")
        if not isinstance(self.image, Image) and not _is(REFERENCE, self.image):
            raise ConfigError(f"image={self.image!r}: give an Image or a reference")
        if self.working_dir is not None and not _is_absolute(self.working_dir):
            raise ConfigError(f"working_dir={self.working_dir!r}: give an absolute path without ..")
        for name, least in LEAST.items():
            value = getattr(self.resources, name)
            if value is not None and value < least:
                raise ConfigError(f"resources: {name}={value!r} is less than {least}")
        if self.lease is not None and not _is_lease(self.lease):
            raise ConfigError(f"lease={self.lease!r}: give a number of seconds from 1, or None")

    @property
    def known_working_dir(self) -> str | None:
        own = {f"{recipes.REPOSITORY}:{name}" for name in recipes.names()}
        return self.working_dir or (WORKING_DIR if self.image in own else None)

    @property
    def images(self) -> DockerImages:
        return DockerImages(self.host)

    async def engine_found(self, *, deadline: float) -> EngineFound:
        """Return which engine makes the sandboxes.

        Raise `SandboxError` if none answers within `deadline` seconds.
        """
        engine = await Engine.connect(self.host, deadline=deadline)
        told = await engine.call("asking for the version", engine.client.version, deadline=deadline)
        return EngineFound(
            version=str(told["Version"]),
            kernel=str(told.get("KernelVersion", "")),
            url=engine.endpoint.url,
        )

    async def attach(self, sandbox_id: str) -> Sandbox:
        if not _is(NAME, sandbox_id):
            raise ConfigError(f"{sandbox_id!r} is not a sandbox's id")
        engine = await Engine.connect(self.host)
        return await acquire(self._join(engine, sandbox_id), DockerSandbox.detach)

    async def _join(self, engine: Engine, sandbox_id: str) -> DockerSandbox:
        """Open another connection to the guest of a sandbox."""
        found = await inventory.find(engine, sandbox_id)
        plan = ContainerPlan.seen(found, await features(engine))
        if found["State"]["Paused"]:
            async with commits.standing_still(engine, plan.container):
                await resume_container(engine, plan.container)
        lock = await asyncio.to_thread(owner.OwnerLock.join, plan.name)
        client = GuestClient()
        try:
            stream = await join_stream(
                engine, plan.container, client.connect(), plan.join_token, user=plan.user
            )
            joining = asyncio.ensure_future(client.request("join"))
            answer = await interruptible(_ready(joining, client))
            if answer is None:
                raise SandboxLost(f"it could not be joined: {stream.log or 'it said nothing'}")
        except BaseException:
            client.link.fail("it could not be joined")
            lock.release()
            raise
        recipe = replace(
            self,
            env_vars={**answer["env_vars"], **self.env_vars},
            image=plan.image,
            labels=inventory.own_labels(plan.labels),
            lease=plan.lease,
            working_dir=plan.working_dir,
            resources=plan.resources,
            network=plan.network,
            user=plan.user,
            runtime=plan.runtime,
            hardening=plan.hardening,
        )
        sandbox = DockerSandbox(
            recipe,
            engine=engine,
            client=client,
            stream=stream,
            plan=plan,
            lock=lock,
            env={**answer["env"], **recipe.env_vars},
            gate=gate(self.network),
            host=answer["host"],
            switches=answer["switches"],
        )
        return self.set_secrets(sandbox)

    async def delete(self, sandbox_id: str) -> bool:
        return await inventory.delete(await Engine.connect(self.host), sandbox_id)

    async def gc(self) -> Sequence[str]:
        return await inventory.collect(await Engine.connect(self.host))

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        return await inventory.listing(await Engine.connect(self.host), labels or {})

    async def _make(self, tell: ProgressCallback) -> Sandbox:
        if self.resources.disk is not None and self.hardening != "strict":
            raise Unsupported(
                "a limit on disk space",
                backend=self.name,
                hint="hardening='strict' keeps all that is written in memory, within it",
            )
        engine = await Engine.connect(self.host)
        found = await features(engine)
        refuse(self.resources, found)
        await _sweep_once(engine)
        image, config = await self._find_image(engine, tell)
        return await acquire(self._provide(engine, image, config, found), Sandbox.aclose)

    async def _find_image(
        self, engine: Engine, tell: ProgressCallback
    ) -> tuple[str, Mapping[str, Any]]:
        """What the image is called on the engine, where it is after this, and its defaults."""
        if isinstance(self.image, str) and (found := await inspect(engine, self.image)):
            return self.image, found["Config"] or {}

        def tell_image(event: ImageProgress) -> None:
            is_step = isinstance(event, Step)
            tell(Progress(step="image", detail=str(event), milestone=is_step))

        image = await ensure(engine, self.image, on_progress=tell_image)
        found = await inspect(engine, image)
        if found is None:
            raise EngineError(f"{image} was removed from the engine while it was wanted")
        return image, found["Config"] or {}

    async def _provide(
        self, engine: Engine, image: str, config: Mapping[str, Any], found: frozenset[Capability]
    ) -> Sandbox:
        """Create, attach, start; on a failure the container is gone."""
        lock = await asyncio.to_thread(self._claim)
        try:
            plan = await asyncio.to_thread(self._plan, lock.name, image, config)
            plan = replace(plan, features=found)
            return await launch.start(self, engine, plan, lock, with_guest=self._start)
        except BaseException as error:
            await _take_back(engine, lock, error)
            raise

    def _claim(self) -> owner.OwnerLock:
        """Claim a new name, after a reaper was started that removes it should we be killed."""
        reaper.start(self.host)
        return owner.OwnerLock.take()

    def _plan(self, name: str, image: str, config: Mapping[str, Any]) -> ContainerPlan:
        """Where the recipe says nothing, `config` does, which the image has of its own."""
        join_token = secrets.token_urlsafe(16)
        inherited = config.get("WorkingDir")
        if inherited == "/":  # some builders say so where nobody has said anything
            inherited = None
        user = self.user or (NOBODY if self.hardening == "strict" else config.get("User")) or None
        changed = (config.get("Labels") or {}).get(owner.CHANGED_LABEL)
        guest_is_root = (
            user is not None
            and numbers(user) != (0, 0)
            and self.hardening == "default"
            and not changed
        )
        return ContainerPlan(
            name=name,
            image=image,
            working_dir=self.working_dir or inherited or WORKING_DIR,
            join_token=join_token,
            lease=self.lease,
            labels={
                owner.LABEL: name,
                owner.JOIN_TOKEN_LABEL: join_token,
                owner.LEASE_LABEL: "" if self.lease is None else str(self.lease),
                # No sweep judges a sandbox that is meant to outlive its owner.
                **({} if self.lease is None else {owner.HOST_LABEL: owner.host_id()}),
                **({owner.USER_LABEL: user or ""} if guest_is_root else {}),
                inventory.OWN_LABELS: json.dumps(dict(self.labels)),
            },
            resources=self.resources,
            network=self.network,
            user=user,
            ids=numbers(user),
            guest_is_root=guest_is_root,
            image_env=tuple(each.partition("=")[0] for each in config.get("Env") or ()),
            runtime=self.runtime,
            hardening=self.hardening,
        )

    async def _start(
        self, engine: Engine, plan: ContainerPlan, lock: owner.OwnerLock
    ) -> DockerSandbox:
        plan = await create_container(engine, plan)
        client = GuestClient()
        way_out = gate(self.network)
        connection = client.connect()
        stream = await open_stream(engine, plan.container, connection)
        connection.write(bundle())
        configured = asyncio.ensure_future(
            client.request(
                "configure",
                user=plan.user if plan.guest_is_root else None,
                image_env=plan.image_env,
                limits={},
                spill_dir=plan.spill_dir,
                lease=self.lease,
                outlives=self.lease is None,
                join_token=plan.join_token,
                listen=way_out.port,
                env_vars=dict(self.env_vars),
            )
        )
        try:
            await start_container(engine, plan)
            answer = await interruptible(_ready(configured, client))
            if answer is None:
                cause = stream.log or await exit_reason(engine, plan.container, said="")
                raise SandboxLost(f"its guest did not start: {cause}")
        except BaseException:
            configured.cancel()
            client.link.fail("it could not be started")
            raise
        return DockerSandbox(
            self,
            engine=engine,
            client=client,
            stream=stream,
            plan=plan,
            lock=lock,
            env={**answer["env"], **way_out.variables, **self.env_vars},
            gate=way_out,
            host=answer["host"],
            switches=answer["switches"],
        )


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_lease(value: object) -> bool:
    """Whether it is a finite number of seconds that a guest, which counts whole ones, can keep."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return LEAST_LEASE <= value < math.inf


def _is_absolute(path: object) -> bool:
    """Whether a path means the same to an engine, which takes out ``..``, as to a kernel."""
    return isinstance(path, str) and path.startswith("/") and ".." not in path.split("/")


async def _ready(configured: asyncio.Task[Any], client: GuestClient) -> dict[str, Any] | None:
    """What the guest says of itself, or None if the stream to it ended instead."""
    gone = asyncio.create_task(client.link.changed_from(State.RUNNING))
    try:
        await asyncio.wait(
            [configured, gone], timeout=READY_DEADLINE, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        gone.cancel()
    if configured.done():
        answer: dict[str, Any] = configured.result()[0]
        return answer
    configured.cancel()
    if not client.channels.connected:
        return None
    raise SandboxLost(f"its guest did not answer within {READY_DEADLINE:g} s")


async def _take_back(engine: Engine, lock: owner.OwnerLock, error: BaseException) -> None:
    """Remove the container that has the name of `lock`, whose making failed with `error`."""
    removal = functools.partial(remove_container, engine, lock.name)
    if isinstance(error, EngineError) and error.status is None:
        watch(lock, removal)  # what was asked for last may appear late
        return
    with contextlib.suppress(EngineError):
        await remove(lock, removal)


_swept: set[str] = set()
_log = logging.getLogger(__name__)


async def _sweep_once(engine: Engine) -> None:
    """Remove what dead processes left there, the first time this one uses the engine; what
    cannot be removed is no reason to do without it."""
    if engine.endpoint.url in _swept:
        return
    _swept.add(engine.endpoint.url)
    try:
        await inventory.collect(engine)
    except EngineError as error:
        _log.warning("not all that dead processes have left is removed: %s", error)
