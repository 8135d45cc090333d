"""`DaytonaBackend.images`: the snapshots of an account that were taken of sandboxes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from paddock.backends.images import ImageInfo, Images
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from paddock.backends.daytona.service import Service

__all__ = ["DaytonaImages"]

PAGE = 100
GIBIBYTE = 1024**3


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


async def _taken(service: Service) -> list[Any]:
    async def look() -> list[Any]:
        found: list[Any] = []
        page = pages = 1
        while page <= pages:
            answer = await service.client.snapshot.list(page=page, limit=PAGE)
            found += answer.items
            page, pages = page + 1, int(answer.total_pages)
        return found

    found = await service.call("listing snapshots", look)
    return [native for native in found if native.source_sandbox_id and not native.general]


def _info(native: Any) -> ImageInfo:
    created = str(native.created_at).replace("Z", "+00:00")
    return ImageInfo(
        reference=native.name,
        label=native.source_sandbox_id,
        id=native.id,
        size=round((native.size or 0) * GIBIBYTE),
        created=datetime.fromisoformat(created).astimezone(UTC),
    )
