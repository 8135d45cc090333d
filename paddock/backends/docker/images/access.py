"""`DockerBackend.images`: the images of one engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from paddock._frozen import FrozenMapping
from paddock.backends.docker.engine.client import Engine
from paddock.backends.docker.images import build, store
from paddock.backends.docker.images.bootstrap import DebianSource
from paddock.backends.images import ImageInfo, ImageProgressCallback, Images
from paddock.image.settings import BuildSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.image import Image
    from paddock.image.settings import RegistryLogin

__all__ = ["DockerImages"]


@dataclass(frozen=True, slots=True)
class DockerImages(Images):
    """The images that Paddock made on the engine at `host`; they have a label and name of ours."""

    backend: ClassVar[str] = "docker"

    host: str | None
    auth: Mapping[str, RegistryLogin] = field(default_factory=FrozenMapping, repr=False)

    async def list(self) -> Sequence[ImageInfo]:
        return await store.list_images(await Engine.connect(self.host))

    async def find(self, names: Sequence[str]) -> Sequence[str]:
        return await store.find_images(await Engine.connect(self.host), names)

    async def remove(self, name: str) -> str:
        return await store.remove_image(await Engine.connect(self.host), name)

    async def identity(self, reference: str) -> str | None:
        return await store.identity(await Engine.connect(self.host), reference)

    async def ensure(
        self,
        image: Image | str,
        *,
        settings: BuildSettings | None = None,
        on_progress: ImageProgressCallback | None = None,
    ) -> str:
        engine = await Engine.connect(self.host)
        settings = self._settings(settings)
        return await build.ensure(engine, image, on_progress=on_progress, settings=settings)

    async def build(
        self,
        name: str,
        *,
        settings: BuildSettings | None = None,
        on_progress: ImageProgressCallback | None = None,
    ) -> str:
        engine = await Engine.connect(self.host)
        settings = self._settings(settings)
        return await build.build_recipe(engine, name, on_progress=on_progress, settings=settings)

    async def bootstrap(
        self,
        *,
        suite: str | None = None,
        mirror: str | None = None,
        settings: BuildSettings | None = None,
        on_progress: ImageProgressCallback | None = None,
    ) -> str:
        source = DebianSource(mirror=mirror, **({"suite": suite} if suite else {}))
        engine = await Engine.connect(self.host)
        return await build.bootstrap(engine, source, on_progress=on_progress, settings=settings)

    def _settings(self, given: BuildSettings | None) -> BuildSettings:
        settings = given or BuildSettings.from_environment()
        return replace(settings, auth={**self.auth, **settings.auth})
