"""A bench to build images on: a real engine, which is left without what was built."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from paddock.backends.docker.images.build import ensure
from paddock.backends.docker.images.store import identity, list_images, remove_image, remove_unnamed
from paddock.backends.images import ImageProgress, Output, Step
from paddock.image import Image

if TYPE_CHECKING:
    from paddock.backends.docker.engine.client import Engine

__all__ = ["PATIENCE", "Bench", "steps"]

PATIENCE = 60
LAYER = re.compile(r" ---> ([0-9a-f]{12})")


@dataclass
class Bench:
    """The engine, what was told, and what has to be removed at the end."""

    engine: Engine
    base: str
    told: list[ImageProgress] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    awaited: str = ""
    found: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def image(self) -> Image:
        """An image that no other test, and no earlier one, has built."""
        return Image.from_registry(self.base).env({"UNIQUE": uuid4().hex})

    def tell(self, event: ImageProgress) -> None:
        self.told.append(event)
        if self.awaited and isinstance(event, Output) and self.awaited in event.line:
            self.found.set()

    async def ensure(self, image: Image | str) -> str:
        if isinstance(image, Image):
            for one in (image, image.parent):
                if one is not None and one.name is None:
                    self.made.add(await asyncio.to_thread(one.reference))
        return await ensure(self.engine, image, on_progress=self.tell)

    async def run(self, image: str, *command: str) -> str:
        """What a command prints in a container of the image."""
        client = self.engine.client
        created = await asyncio.to_thread(client.create_container, image, list(command))
        try:
            await asyncio.to_thread(client.start, created["Id"])
            ended = await asyncio.to_thread(client.wait, created["Id"], timeout=PATIENCE)
            output: bytes = await asyncio.to_thread(client.logs, created["Id"])
        finally:
            await asyncio.to_thread(client.remove_container, created["Id"], force=True)
        assert ended["StatusCode"] == 0, output.decode()
        return output.decode()

    async def running(self, marker: str) -> list[str]:
        """Containers, ended ones too, whose command holds `marker`."""
        found = await asyncio.to_thread(self.engine.client.containers, all=True, trunc=False)
        return [each["Id"] for each in found if marker in each["Command"]]

    async def heard(self, text: str) -> None:
        """Wait until a line of output holds `text`."""
        self.awaited = text
        await asyncio.wait_for(self.found.wait(), PATIENCE)

    async def tidy(self) -> None:
        before = {info.id for info in await list_images(self.engine)}
        for reference in self.made:
            if await identity(self.engine, reference):
                await remove_image(self.engine, reference)
        for event in reversed(self.told):
            match = LAYER.fullmatch(event.line) if isinstance(event, Output) else None
            if match and not any(match[1] in identity for identity in before):
                await remove_unnamed(self.engine, match[1])


def steps(told: list[ImageProgress]) -> list[str]:
    return [event.instruction for event in told if isinstance(event, Step)]
