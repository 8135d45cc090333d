"""Prompts and the images sent to a model, bounded in number and size."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from paddock.errors import ConfigError
from paddock.runtime.core.text import clean_text

__all__ = ["ImagePart", "Prompt", "PromptContent", "bounded_images", "read_prompt"]

MAX_IMAGE_BYTES = 3_750_000
"""Of one image: in base64 it is the 5 MB that the services accept."""

MAX_IMAGES = 4
"""Of one tool result. The history has them in each later request."""

MAX_PROMPT_IMAGES = 20
"""Of one prompt: what all services take at once."""

MAX_PROMPT_DATA = 20_000_000
"""Characters of the images of one prompt, in base64: as many as `MAX_IMAGES` have. A compaction
keeps three prompts in one record of the trace, which is read up to 64 MiB."""

_DATA_URL = re.compile(r"data:image/[a-z]+;base64,(.*)", re.DOTALL)


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
            said = f", and here {self.media_type}" if self.media_type else ""
            raise ValueError(
                f"an image has to be PNG, JPEG, GIF or WebP{said}; these {len(self.data)} bytes "
                f"begin with {self.data[:8]!r}"
            )
        object.__setattr__(self, "media_type", found)

    def __str__(self) -> str:
        return f"[{self.media_type}, {len(self.data)} bytes]"

    def to_part(self) -> dict[str, Any]:
        """Return the image as a part of a message in OpenAI chat format."""
        data = base64.b64encode(self.data).decode("ascii")
        return {"type": "image_url", "image_url": {"url": f"data:{self.media_type};base64,{data}"}}


Prompt: TypeAlias = str | Sequence[Mapping[str, Any] | ImagePart]
"""What an agent is asked: a text, or a list of parts.

A part is an `ImagePart`, or a mapping as OpenAI's chat format has it: ``{"type": "text", "text":
...}`` or ``{"type": "image_url", "image_url": {"url": ...}}``, whose address is a ``data:`` URL or
one that the model's service can reach.
"""


PromptContent: TypeAlias = str | list[dict[str, Any]]
"""A prompt as the content of a message."""


def read_prompt(prompt: Prompt) -> tuple[str, PromptContent]:
    """Return `prompt` as a text to show, and as the content of a message.

    Raises `ConfigError` that names the part which is not one.
    """
    if isinstance(prompt, str):
        text = clean_text(prompt)
        return text, text
    given: object = prompt
    if not isinstance(given, Sequence) or not given:
        raise ConfigError(f"a prompt is a text or a list of parts, not {given!r:.60}")
    parts = [_prompt_part(part, f"part {number}") for number, part in enumerate(given, 1)]
    images = sum(part["type"] == "image_url" for part in parts)
    if images > MAX_PROMPT_IMAGES:
        raise ConfigError(f"a prompt has at most {MAX_PROMPT_IMAGES} images, not {images}")
    size = sum(len(part["image_url"]["url"]) for part in parts if part["type"] == "image_url")
    if size > MAX_PROMPT_DATA:
        most = MAX_IMAGES * MAX_IMAGE_BYTES
        raise ConfigError(f"the images of a prompt have at most {most} bytes, not {size * 3 // 4}")
    shown = [part["text"] if part["type"] == "text" else "[image]" for part in parts]
    return "\n".join(shown), parts


def _prompt_part(part: Any, place: str) -> dict[str, Any]:
    match part:
        case ImagePart():
            found = part.to_part()
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": clean_text(text)}
        case {"type": "image_url", "image_url": {"url": str()}}:
            found = {"type": "image_url", "image_url": dict(part["image_url"])}
        case _:
            raise ConfigError(
                f"{place} of the prompt is neither an ImagePart, nor a mapping of the type text "
                f"or image_url: {part!r:.60}"
            )
    _check_image(found["image_url"]["url"], place)
    return found


def _check_image(url: str, place: str) -> None:
    """Raise `ConfigError` for what no service could show."""
    if url.startswith(("http://", "https://")):
        return
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise ConfigError(f"{place} of the prompt: an image's address is data:image/... or http(s)")
    try:
        image = ImagePart(base64.b64decode(match[1], validate=True))
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{place} of the prompt: {error}") from None
    if len(image.data) > MAX_IMAGE_BYTES:
        size = len(image.data)
        raise ConfigError(
            f"{place} of the prompt has {size} bytes; at most {MAX_IMAGE_BYTES} can be shown"
        )


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
