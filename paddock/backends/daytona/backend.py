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

from paddock._concurrency import finish
from paddock.backends.base import Backend, Progress, unwatched
from paddock.backends.daytona import inventory, making, terms
from paddock.backends.daytona.images import daytona_image
from paddock.backends.daytona.plan import Plan
from paddock.backends.daytona.service import Service, sdk
from paddock.backends.daytona.snapshots import DaytonaImages
from paddock.backends.uv import install_command
from paddock.errors import ConfigError, Unsupported
from paddock.network import Allow
from paddock.sandbox import Resources, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from daytona import DaytonaConfig
    from daytona import Image as NativeImage

    from paddock.backends.base import ProgressCallback, SandboxInfo
    from paddock.image import Image

__all__ = ["DaytonaBackend"]

DEFAULT_IMAGE = "daytonaio/sandbox:latest"
PATH = "/home/daytona/.local/bin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, kw_only=True)
class DaytonaBackend(Backend):
    """Sandboxes in Daytona.

    - `config`: the account, as a `daytona.DaytonaConfig`; what it leaves out is taken from
      DAYTONA_API_KEY, DAYTONA_API_URL, DAYTONA_TARGET (or DAYTONA_JWT_TOKEN and
      DAYTONA_ORGANIZATION_ID). No file of the working directory is read for it.
    - `image`: a reference, a `daytona.Image` or an `Image` of ours, built there; `snapshot`: a
      snapshot's name instead, which has resources of its own.
    - `resources`: bounds in whole cores and GiB, with an image only.
    - `auto_stop_interval`: minutes without use after which Daytona stops a sandbox, 0 is
      never. With a `lease` its maker's silence is meant, and the shorter of the two holds.
    - `lease`: seconds after which a sandbox whose maker is silent is deleted, in whole
      minutes. With None it outlives its maker, until somebody deletes it.
    - `network`: `"full"`, `"none"`, or ``Allow(hosts=[...])`` with names and IPv4 addresses
      without ports, which Daytona enforces.
    - `ephemeral`: delete a sandbox as soon as it is stopped, as a lease does.
    - `target`: the region; `user`: who commands run as; `volumes`: pairs of a volume's id and
      the path where it is mounted; `uv_version`: the uv to install unless it is there;
      `create_timeout`: seconds until a sandbox has to run.
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
        if not isinstance(self.network, Allow) and self.network not in ("full", "none"):
            raise ConfigError(f"network={self.network!r}: give full, none or Allow(...)")
        if self.lease is not None and self.lease <= 0:
            raise ConfigError("lease: give a number of seconds above 0, or None")
        if self.auto_stop_interval < 0:
            raise ConfigError("auto_stop_interval: give minutes, or 0")
        if not self.image or self.snapshot == "":
            raise ConfigError("image and snapshot: give a name that is not empty")
        if self.snapshot is not None and self.image != DEFAULT_IMAGE:
            raise ConfigError("give an image or a snapshot, not both")
        if self.working_dir is not None and not self.working_dir.startswith("/"):
            raise ConfigError(f"working_dir={self.working_dir!r}: give an absolute path")
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
        uv = () if self.uv_version is None else (install_command(self.uv_version),)
        return (*uv, *self.setup)

    async def attach(self, sandbox_id: str) -> Sandbox:
        """Another hold of a sandbox; one that was stopped, paused or archived is started.

        It gets a guest of its own: what it runs, the others do not see.
        """
        service = await Service.open(self.config, self.target)
        try:
            native = await inventory.find(service, sandbox_id)
            if str(native.state.value) != "started":
                await service.call("starting a sandbox", lambda: native.start(self.create_timeout))
            plan = replace(self._plan(), labels=inventory.own_labels(native.labels))
            return self.set_secrets(await making.join(service, plan, native))
        except BaseException:
            await finish(service.aclose())
            raise

    async def delete(self, sandbox_id: str) -> bool:
        async with self.account() as service:
            return await inventory.remove(service, sandbox_id)

    async def gc(self) -> Sequence[str]:
        async with self.account() as service:
            return await inventory.collect(service)

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
            await inventory.collect_once(service)

            async def create(name: str) -> Any:
                return await self._create(service, name, settings, on_progress)

            return await making.make(service, self._plan(), create)
        except BaseException:
            await finish(service.aclose())
            raise

    def _settings(self) -> dict[str, Any]:
        """What is asked for, in Daytona's terms (times in minutes).

        Raises `Unsupported` and `ConfigError` for what it has none for.
        """
        goes_when_stopped = self.lease is not None or self.ephemeral
        return {
            "env_vars": {"PATH": PATH, **self.env_vars},
            "auto_stop_interval": self.silence or 0,
            "auto_delete_interval": 0 if goes_when_stopped else None,
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
        snapshot = self.snapshot or terms.snapshot_of(self.image)
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
        )

    async def _create(
        self,
        service: Service,
        name: str,
        settings: Mapping[str, Any],
        on_progress: ProgressCallback = unwatched,
    ) -> Any:
        def on_log(text: str) -> None:
            for line in text.splitlines():
                on_progress(Progress(step="image", detail=line))

        told = {"name": name, "labels": inventory.labels(self._plan(), name), **settings}
        async with daytona_image(self.image) as image:

            async def create() -> Any:
                # Made anew each time: the SDK writes into what it is given.
                if "snapshot" in told:
                    params = sdk().CreateSandboxFromSnapshotParams(**told)
                else:
                    params = sdk().CreateSandboxFromImageParams(image=image, **told)
                # To be told of a build costs a second at least.
                return await service.client.create(
                    params,
                    timeout=self.create_timeout,
                    on_snapshot_create_logs=None if on_progress is unwatched else on_log,
                )

            return await self._created(service, name, create)

    async def _created(
        self, service: Service, name: str, create: Callable[[], Awaitable[Any]]
    ) -> Any:
        """`create`, unless what it made is there although it failed: its answer was lost."""
        end = asyncio.get_running_loop().time() + self.create_timeout

        async def attempt() -> Any:
            try:
                return await create()
            except sdk().DaytonaError:
                native = await inventory.find_by_name(service, name)
                left = end - asyncio.get_running_loop().time()
                if native is None or left <= 0:
                    raise
            # Why a start failed is told to those who ask for the sandbox.
            await native.wait_for_sandbox_start(left)
            return native

        return await service.call("creating a sandbox", attempt)
