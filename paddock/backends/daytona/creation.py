"""Has Daytona make one sandbox, and waits until it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock.backends.base import Progress, unwatched
from paddock.backends.daytona import inventory
from paddock.backends.daytona.failures import (
    ServiceError,
    is_throttled,
    is_unconnected,
    sdk,
)
from paddock.backends.daytona.images import daytona_image
from paddock.errors import ConfigError, SandboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from paddock.backends.base import ProgressCallback
    from paddock.backends.daytona.service import Service

__all__ = ["create"]

NO_REGION = "region not found"
SHORTEST = 1.0
"""Seconds that a try has at least: the SDK counts whole ones."""


async def create(
    service: Service,
    image: Any,
    settings: Mapping[str, Any],
    *,
    within: float,
    on_progress: ProgressCallback = unwatched,
) -> Any:
    """Return the SDK's object for a sandbox that runs, made of `settings` `within` so many seconds.

    With a `snapshot` in `settings`, that is what it begins with (an empty one is the account's
    default); else `image` is.
    """
    build = _Build(image, on_progress)
    async with daytona_image(image) as native_image:

        async def make(left: float) -> Any:
            # Made anew each time: the SDK writes into what it is given.
            if "snapshot" in settings:
                snapshot = sdk().CreateSandboxFromSnapshotParams(**settings)
                return await service.client.create(snapshot, timeout=left)
            params = sdk().CreateSandboxFromImageParams(image=native_image, **settings)
            # To be told of a build costs a second at least.
            logs = None if on_progress is unwatched else build.log
            build.begin()
            return await service.client.create(params, timeout=left, on_snapshot_create_logs=logs)

        try:
            native = await _made(service, settings["name"], make, within)
        except ServiceError as error:
            if error.status == 404 and NO_REGION in str(error).lower():
                raise await _no_region(service, settings.get("target")) from None
            raise
    build.end()
    return native


class _Build:
    """Tells of an image's build, also where Daytona tells nothing as it has the image already."""

    def __init__(self, image: Any, on_progress: ProgressCallback) -> None:
        self._image = image if isinstance(image, str) else "the image"
        self._on_progress = on_progress
        self._begun = False
        self._logged = False

    def begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._tell(f"asking Daytona for {self._image}")

    def log(self, text: str) -> None:
        self._logged = True
        for line in text.splitlines():
            self._tell(line)

    def end(self) -> None:
        if self._begun and not self._logged:
            self._tell(f"Daytona had {self._image} already: nothing was built")

    def _tell(self, detail: str) -> None:
        self._on_progress(Progress(step="image", detail=detail))


async def _made(
    service: Service, name: str, make: Callable[[float], Awaitable[Any]], within: float
) -> Any:
    """What `make` makes, also if its answer was lost and the sandbox `name` is there."""
    end = asyncio.get_running_loop().time() + within

    def left() -> float:
        return end - asyncio.get_running_loop().time()

    async def attempt() -> Any:
        try:
            return await make(max(left(), SHORTEST))
        except sdk().DaytonaError as error:
            if is_throttled(error) or is_unconnected(error):
                raise  # what was made all the same is found when its name is taken
            native = await inventory.find_by_name(service, name)
            if native is None or left() <= 0:
                raise
        await _started(service, native, left())
        return native

    return await service.call("creating a sandbox", attempt, within=within)


async def _started(service: Service, native: Any, seconds: float) -> None:
    """Wait for the start of a sandbox that is there; an error tells why it failed.

    The SDK leaves that out where an event told it of the error.
    """
    try:
        await native.wait_for_sandbox_start(seconds)
    except sdk().DaytonaError as error:
        there = await inventory.find_by_name(service, native.id)
        if there is None or not there.error_reason or there.error_reason in str(error):
            raise
        raise ServiceError(f"creating a sandbox: {there.error_reason}") from None


async def _no_region(service: Service, target: str | None) -> ConfigError:
    """Return the error that names the regions there are, as far as Daytona tells them."""
    from daytona_api_client_async import RegionsApi

    asked = target or service.config.target
    regions = RegionsApi(service.client._api_client)
    try:
        found = await service.look("listing regions", regions.list_shared_regions)
    except (SandboxError, ConfigError) as error:
        there = f"its regions could not be listed: {error}"
    else:
        there = f"there are: {', '.join(sorted(region.id for region in found)) or 'none'}"
    return ConfigError(f"target={asked!r}: Daytona has no such region; {there}")
