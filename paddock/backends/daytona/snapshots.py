"""`DaytonaBackend.images`: the snapshots of an account that were taken of sandboxes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from paddock.backends.daytona.failures import ServiceError
from paddock.backends.daytona.inventory import state_of
from paddock.backends.images import ImageInfo, Images
from paddock.errors import ConfigError, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from paddock.backends.daytona.service import Service

__all__ = ["DaytonaImages", "require_free", "wait_for"]

PAGE = 100
GIBIBYTE = 1024**3
APPEARING = 15.0
"""Seconds in which a snapshot is there after its sandbox went on."""
PROCESSING = 300.0
"""Seconds in which a snapshot that is there has become active."""
LOOK_AGAIN = 0.5
FAILED = frozenset({"error", "build_failed"})


@dataclass(frozen=True, slots=True)
class DaytonaImages(Images):
    """Snapshots that were taken of a sandbox, as `Sandbox.snapshot` does.

    Daytona keeps no labels of a snapshot, so one that another program took of a sandbox is listed
    too. Snapshots that were made from an image, or are Daytona's own, are left alone.
    """

    backend: ClassVar[str] = "daytona"

    account: Callable[[], AbstractAsyncContextManager[Service]]

    async def list(self) -> Sequence[ImageInfo]:
        async with self.account() as service:
            found = [_info(native) for native in await _taken(service)]
        return sorted(found, key=lambda info: info.created, reverse=True)

    async def find(self, names: Sequence[str]) -> Sequence[str]:
        there = {info.reference for info in await self.list()}
        for name in names:
            if name not in there:
                raise ConfigError(f"{name}: no snapshot of a sandbox has this name")
        return list(dict.fromkeys(names))

    async def remove(self, name: str) -> str:
        await self.find([name])
        async with self.account() as service:
            what = f"removing the snapshot {name}"
            await service.call(what, lambda: service.client.snapshot.delete(name))
        return name


async def require_free(service: Service, name: str) -> None:
    """Raise `ConfigError` if a snapshot is called so: Daytona would keep it, and say nothing."""
    if await _find(service, name) is not None:
        raise ConfigError(
            f"a snapshot called {name} exists, and Daytona replaces none: choose another name, or "
            f"remove it with paddock image rm --backend daytona {name}"
        )


async def wait_for(service: Service, name: str, sandbox_id: str) -> None:
    """Wait until the snapshot that was taken of a sandbox can be begun with.

    Daytona takes it in the background and does not report a failure: then it never appears.
    Raise `SandboxError` if it is not there soon after the sandbox went on.
    """
    loop = asyncio.get_running_loop()
    appears, ends = loop.time() + APPEARING, loop.time() + PROCESSING
    while True:
        native = await _find(service, name)
        if native is None and loop.time() > appears:
            raise SandboxError(
                f"Daytona did not take the snapshot {name} of sandbox {sandbox_id}, and does not "
                "say why; look at the sandbox in its dashboard, or try again"
            )
        if native is not None and await _is_taken(native, sandbox_id):
            return
        if loop.time() > ends:
            raise SandboxError(f"the snapshot {name} is not active after {PROCESSING:g} s")
        await asyncio.sleep(LOOK_AGAIN)


async def _is_taken(native: Any, sandbox_id: str) -> bool:
    """Whether it is active; raise `SandboxError` if it never will be, or is another sandbox's."""
    state = state_of(native)
    if state in FAILED:
        raise SandboxError(f"the snapshot {native.name} failed: {native.error_reason or state}")
    if native.source_sandbox_id not in (None, sandbox_id):
        raise SandboxError(f"the snapshot {native.name} was taken of another sandbox meanwhile")
    return state == "active"


async def _find(service: Service, name: str) -> Any | None:
    try:
        return await service.look(
            f"looking for the snapshot {name}", lambda: service.client.snapshot.get(name)
        )
    except ServiceError as error:
        if error.status == 404:
            return None
        raise


async def _taken(service: Service) -> list[Any]:
    async def look() -> list[Any]:
        found: list[Any] = []
        page = pages = 1
        while page <= pages:
            answer = await service.client.snapshot.list(page=page, limit=PAGE)
            found += answer.items
            page, pages = page + 1, int(answer.total_pages)
        return found

    found = await service.look("listing snapshots", look)
    return [native for native in found if native.source_sandbox_id and not native.general]


def _info(native: Any) -> ImageInfo:
    return ImageInfo(
        reference=native.name,
        label=native.source_sandbox_id,
        id=native.id,
        size=round((native.size or 0) * GIBIBYTE),
        created=datetime.fromisoformat(str(native.created_at)).astimezone(UTC),
    )
