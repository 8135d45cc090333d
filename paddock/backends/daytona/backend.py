"""Sandboxes in Daytona: made by its SDK, with our guest inside.

A sandbox is one create, the service's own wait for it, and one request that puts the guest
there and hears it. The account's client is shared by all sandboxes of a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from paddock._arguments import check_absolute
from paddock._concurrency import finish
from paddock.backends.base import Backend, unwatched
from paddock.backends.daytona import adoption, creation, deletion, inventory, making, terms
from paddock.backends.daytona.failures import sdk
from paddock.backends.daytona.plan import Plan
from paddock.backends.daytona.service import Service
from paddock.backends.daytona.snapshots import DaytonaImages
from paddock.backends.uv import install_command
from paddock.errors import ConfigError, SandboxError, Unsupported
from paddock.network import Allow, check_network
from paddock.sandbox import Resources, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from daytona import DaytonaConfig
    from daytona import Image as NativeImage

    from paddock.backends.base import ProgressCallback, SandboxInfo
    from paddock.image import Image

__all__ = ["DaytonaBackend"]

DEFAULT_IMAGE = "daytonaio/sandbox:latest"
WITH_LOCAL_PROGRAMS = 'PATH="$PATH:$HOME/.local/bin"; export PATH\n'
"""Has one command find what a user has installed; other commands have the image's own PATH."""
ERRED = frozenset({"error", "build_failed"})
STARTING = frozenset({*inventory.MAKING, "starting", "restoring", "resuming", "forking"})
"""States from which a sandbox comes to run by itself."""


@dataclass(frozen=True, kw_only=True)
class DaytonaBackend(Backend):
    """Sandboxes in Daytona.

    - `config`: the account, as a `daytona.DaytonaConfig`; what it leaves out is taken from
      DAYTONA_API_KEY, DAYTONA_API_URL, DAYTONA_TARGET (or DAYTONA_JWT_TOKEN and
      DAYTONA_ORGANIZATION_ID). No file of the working directory is read for it.
    - `image`: a reference, a `daytona.Image` or an `Image` of ours, built there; `snapshot`: a
      snapshot's name instead, which has resources of its own; an empty one is the account's
      default snapshot.
    - `env_vars`: Daytona hides variables of the image that have the same names, and takes no
      sandbox from a warm pool for a recipe that has any. Without them nothing is sent.
    - `resources`: bounds in whole cores and GiB, with an image only.
    - `auto_stop_interval`: minutes without use after which Daytona stops a sandbox, 0 is
      never. With a `lease` its maker's silence is meant, and the shorter of the two holds.
    - `lease`: seconds after which a sandbox whose maker is silent is deleted, in whole
      minutes. With None it outlives its maker, until somebody deletes it.
    - `network`: `"full"`, `"none"`, or ``Allow(hosts=[...])`` with names and IPv4 addresses
      without ports, which Daytona enforces.
    - `ephemeral`: delete a sandbox as soon as it is stopped, as a lease does; such a one cannot
      be archived.
    - `target`: the region; an unknown one is a `ConfigError` that names those there are.
    - `user`: the user of commands; `volumes`: pairs of a volume's id and the path where it is
      mounted; `uv_version`: the uv to install unless it is there.
    - `create_timeout`: seconds until a sandbox has to run, with the time for which Daytona asks
      to wait because too many are made.
    """

    name: ClassVar[str] = inventory.BACKEND
    default_working_dir: ClassVar[str | None] = "/home/daytona"

    # The SDK's own objects have no hash.
    config: DaytonaConfig | None = field(default=None, repr=False, hash=False)
    image: str | Image | NativeImage = field(default=DEFAULT_IMAGE, hash=False)
    snapshot: str | None = None
    resources: Resources = field(default_factory=Resources)
    auto_stop_interval: int = 0
    lease: float | None = 300.0
    network: Allow | str = "full"
    ephemeral: bool = False
    target: str | None = None
    user: str | None = None
    volumes: Sequence[tuple[str, str]] = ()
    uv_version: str | None = None
    create_timeout: float = 120.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_network(self.network, "full", "none")
        if self.lease is not None and self.lease <= 0:
            raise ConfigError("lease: give a number of seconds above 0, or None")
        if self.auto_stop_interval < 0:
            raise ConfigError("auto_stop_interval: give minutes, or 0")
        if not self.image:
            raise ConfigError("image: give a name that is not empty")
        if self.snapshot is not None and self.image != DEFAULT_IMAGE:
            raise ConfigError("give an image or a snapshot, not both")
        check_absolute("working_dir", self.working_dir)
        object.__setattr__(self, "volumes", tuple(map(tuple, self.volumes)))

    @property
    def silence(self) -> int | None:
        """Minutes without a word of its maker's after which Daytona stops a sandbox."""
        leased = None if self.lease is None else max(1, math.ceil(self.lease / 60))
        return min(filter(None, (leased, self.auto_stop_interval)), default=None)

    @property
    def images(self) -> DaytonaImages:
        return DaytonaImages(self.account)

    def setup_commands(self) -> Sequence[str]:
        if self.uv_version is None:
            return self.setup
        install = install_command(self.uv_version)
        own_path = "PATH" in self.env_vars
        return (install if own_path else WITH_LOCAL_PROGRAMS + install, *self.setup)

    async def attach(self, sandbox_id: str, *, recover: bool = False) -> Sandbox:
        """Another hold of a sandbox; one that was stopped, paused or archived is started.

        One that is in an error is an error, unless `recover` says to have Daytona recover it.
        It gets a guest of its own: what it runs, the others do not see.
        """
        service = await Service.open(self.config, self.target)
        try:
            native = await inventory.find(service, sandbox_id)
            await self._run(service, native, recover=recover)
            plan = replace(self._plan(), labels=inventory.own_labels(native.labels))
            return self.set_secrets(await making.join(service, plan, native))
        except BaseException:
            await finish(service.aclose())
            raise

    async def _run(self, service: Service, native: Any, *, recover: bool) -> None:
        """See that it runs."""
        state, timeout = inventory.state_of(native), self.create_timeout
        if state == "started":
            return
        if state not in ERRED:
            work = native.wait_for_sandbox_start if state in STARTING else native.start
            await service.call("starting a sandbox", lambda: work(timeout), within=timeout)
        elif recover and native.recoverable:
            await service.call(
                "recovering a sandbox", lambda: native.recover(timeout), within=timeout
            )
        else:
            can = (
                "Daytona can recover it: attach(id, recover=True)"
                if native.recoverable
                else "Daytona cannot recover it: delete it"
            )
            why = native.error_reason or state
            raise SandboxError(f"sandbox {native.id} is in an error ({why}). {can}")

    async def delete(self, sandbox_id: str) -> bool:
        async with self.account() as service:
            return await deletion.remove(service, sandbox_id)

    async def gc(self) -> Sequence[str]:
        async with self.account() as service:
            return await deletion.collect(service)

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        async with self.account() as service:
            return await inventory.listing(service, labels or {})

    @contextlib.asynccontextmanager
    async def account(self) -> AsyncIterator[Service]:
        """The account of this recipe, for one use."""
        service = await Service.open(self.config, self.target)
        try:
            yield service
        finally:
            await finish(service.aclose())

    # making

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        settings = await asyncio.to_thread(self._settings)  # it may import the SDK
        service = await Service.open(self.config, self.target)
        try:
            await deletion.collect_once(service)

            async def create(name: str) -> Any:
                return await self._create(service, name, settings, on_progress)

            return await making.make(service, self._plan(), create)
        except BaseException:
            await finish(service.aclose())
            raise

    async def _create(
        self,
        service: Service,
        name: str,
        settings: Mapping[str, Any],
        on_progress: ProgressCallback = unwatched,
    ) -> Any:
        named = {"name": name, "labels": inventory.labels(self._plan(), name), **settings}
        return await creation.create(
            service, self.image, named, within=self.create_timeout, on_progress=on_progress
        )

    def _settings(self) -> dict[str, Any]:
        """What is asked for, in Daytona's terms (times in minutes).

        Raises `Unsupported` and `ConfigError` for what it has none for.
        """
        intervals = adoption.until_adopted(self._plan())
        return {
            "env_vars": dict(self.env_vars),
            "auto_stop_interval": intervals.stop,
            "auto_delete_interval": intervals.delete,
            "os_user": self.user,
            "target": self.target,
            "volumes": [
                sdk().VolumeMount(volume_id=volume, mount_path=path)
                for volume, path in self.volumes
            ],
            **terms.network_settings(self.network),
            **self._beginning(),
        }

    def _beginning(self) -> dict[str, Any]:
        snapshot = terms.snapshot_of(self.image) if self.snapshot is None else self.snapshot
        bounds = terms.resource_settings(self.resources)
        if snapshot is None:
            return {"resources": sdk().Resources(**bounds)} if bounds else {}
        if bounds:
            raise Unsupported(
                "resources= with a snapshot", backend=self.name, hint="a snapshot has its own"
            )
        return {"snapshot": snapshot}

    def _plan(self) -> Plan:
        return Plan(
            env_vars=self.env_vars,
            labels=self.labels,
            working_dir=self.working_dir,
            lease=self.lease,
            silence=self.silence,
            goes_when_stopped=self.lease is not None or self.ephemeral,
        )
