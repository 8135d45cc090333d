"""Images among what a model is told, bounded in number and size."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ImagePart", "bounded_images"]

MAX_IMAGE_BYTES = 3_750_000
"""Of one image: in base64 it is the 5 MB that the services accept."""

MAX_IMAGES = 4
"""Of one tool result. The history has them in each later request."""


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image as a part of a tool's result, for the model to see.

    `media_type` is found out from the data unless given. Raises `ValueError` for data that is no
    PNG, JPEG, GIF or WebP: no service takes others.
    """

    data: bytes = field(repr=False)
    media_type: str = ""

    def __post_init__(self) -> None:
        found = _media_type(self.data)
        if found is None or self.media_type not in ("", found):
            raise ValueError(
                f"an image has to be PNG, JPEG, GIF or WebP, and what its media_type says; "
                f"these {len(self.data)} bytes ({self.media_type or 'no media_type'}) begin "
                f"with {self.data[:8]!r}"
            )
        object.__setattr__(self, "media_type", found)

    def __str__(self) -> str:
        return f"[{self.media_type}, {len(self.data)} bytes]"

    def to_part(self) -> dict[str, Any]:
        """Return the image as a part of a message in OpenAI chat format."""
        data = base64.b64encode(self.data).decode("ascii")
        return {"type": "image_url", "image_url": {"url": f"data:{self.media_type};base64,{data}"}}


def bounded_images(images: Sequence[ImagePart]) -> tuple[tuple[ImagePart, ...], str]:
    """Return those of `images` that a service takes, and a note about those left out."""
    kept = tuple(each for each in images if len(each.data) <= MAX_IMAGE_BYTES)[:MAX_IMAGES]
    missing = len(images) - len(kept)
    if not missing:
        return kept, ""
    limits = f"at most {MAX_IMAGES} images of at most {MAX_IMAGE_BYTES} bytes can be shown"
    return kept, f"\n[{missing} of {len(images)} images left out: {limits}]"


def _media_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    starts = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
    found = (kind for start, kind in starts.items() if data.startswith(start))
    kind = next(found, None)
    return None if kind is None else f"image/{kind}"
