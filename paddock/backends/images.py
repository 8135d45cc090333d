"""The images that sandboxes begin with, wherever a backend keeps them: `Backend.images`.

What an image is made of, `paddock.image` says. This module knows no engine and no service.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from paddock.errors import Unsupported

if TYPE_CHECKING:
    from datetime import datetime

    from paddock.image import Image
    from paddock.image.settings import BuildSettings

__all__ = [
    "ImageInfo",
    "ImageProgress",
    "ImageProgressCallback",
    "Images",
    "Output",
    "Step",
    "Transfer",
    "unwatched",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The step about to be done: `number` of `total`, which is None if it is not known."""

    image: str
    number: int
    total: int | None
    instruction: str

    def __str__(self) -> str:
        of = "" if self.total is None else f"/{self.total}"
        return f"{self.image}: step {self.number}{of}: {self.instruction}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A line that a command or the engine printed while `image` was made."""

    image: str
    line: str

    def __str__(self) -> str:
        return f"{self.image}: {self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """`done` of `total` bytes of `what`, such as a layer; `total` is None if it is not known."""

    image: str
    what: str
    done: int
    total: int | None = None

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        return f"{self.image}: {self.what}: {self.done}{of} bytes"


ImageProgress = Step | Output | Transfer
ImageProgressCallback = Callable[[ImageProgress], None]
"""Called on the event loop, so it has to be quick."""


def unwatched(event: ImageProgress) -> None:
    """Ignore an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """An image that `Images.list` found.

    `label` is what it was made from: a recipe's name, a digest, or the image's own reference.
    `size` is in bytes; `created` is in UTC.
    """

    reference: str
    label: str
    id: str
    size: int
    created: datetime


class Images(ABC):
    """The images of one engine or account. Holds no connection; each call makes its own.

    All methods raise `SandboxError` if the engine or service refuses or does not answer.
    """

    backend: ClassVar[str]

    @abstractmethod
    async def list(self) -> Sequence[ImageInfo]:
        """Return the images that can be removed by `remove`, newest first."""

    @abstractmethod
    async def find(self, names: Sequence[str]) -> Sequence[str]:
        """Return the references of listed images, given by reference or by what is unambiguous.

        Raise `ConfigError` for a name that no listed image has, or that several have.
        """

    @abstractmethod
    async def remove(self, name: str) -> str:
        """Remove a listed image, see `find`; return its reference.

        What sandboxes still use cannot be removed and raises `SandboxError`.
        """

    async def identity(self, reference: str) -> str | None:
        """Return the digest of the image that `reference` names now, which need not be listed.

        None if there is none, or if images have no digests here.
        """
        return None

    async def ensure(
        self,
        image: Image | str,
        *,
        settings: BuildSettings | None = None,
        on_progress: ImageProgressCallback | None = None,
    ) -> str:
        """Pull or build `image` if it is missing; return a reference that sandboxes can begin with.

        Concurrent callers for the same image wait for one build. Raise `BuildFailed` for a step
        that fails and `ConfigError` for an image that cannot be right. On cancellation the work
        ends, unless somebody else waits for it too. `settings` default to the environment's.
        """
        raise Unsupported("making an image before a sandbox", backend=self.backend)

    async def build(
        self,
        name: str,
        *,
        settings: BuildSettings | None = None,
        on_progress: ImageProgressCallback | None = None,
    ) -> str:
        """Build the recipe ``paddock:NAME`` even if it exists; return its reference.

        Images that it begins with are made if they are missing. See `ensure` for the errors.
        """
        raise Unsupported("building a recipe", backend=self.backend)

    async def bootstrap(
        self,
        *,
        suite: str | None = None,
        mirror: str | None = None,
        settings: BuildSettings | None = None,
        on_progress: ImageProgressCallback | None = None,
    ) -> str:
        """Make ``paddock:base`` from Debian packages, without a registry; return its reference.

        `suite` is a Debian release and `mirror` the address of a mirror; both have defaults.
        Raise `ConfigError` where mmdebstrap is not installed, else as `ensure`. On cancellation
        the images from before are still there.
        """
        raise Unsupported("making an image from Debian packages", backend=self.backend)
