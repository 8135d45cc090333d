"""What a server answers to a call, as the result of a tool: text and images, bounded."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING

from paddock.runtime.core.content import ImagePart
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.tools.mcp.messages import MAX_BLOCKS

if TYPE_CHECKING:
    from mcp import types

__all__ = ["as_output"]

MAX_TEXT = 1_000_000
"""Characters of a result that are looked at; the model reads a fiftieth of it."""


def as_output(result: types.CallToolResult) -> ToolOutput:
    """Return `result` as the result of a tool. What no model can be shown is named."""
    texts: list[str] = []
    images: list[ImagePart] = []
    for block in result.content[:MAX_BLOCKS]:
        shown = _shown(block)
        if isinstance(shown, ImagePart):
            images.append(shown)
            shown = str(shown)
        texts.append(shown)
    if len(result.content) > MAX_BLOCKS:
        texts.append(f"[more than {MAX_BLOCKS} parts; the rest is left out]")
    if not texts and result.structured_content is not None:
        texts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(texts)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}\n[{len(text) - MAX_TEXT} characters left out]"
    return ToolOutput(content=text, success=not result.is_error, images=images)


def _shown(block: types.ContentBlock) -> str | ImagePart:
    match block.type:
        case "text":
            return block.text
        case "image":
            return _image(block)
        case "audio":
            return f"[audio, {block.mime_type}, not shown]"
        case "resource_link":
            return f"[resource {block.uri}: {block.title or block.name}]"
        case "resource":
            resource = block.resource
            text = getattr(resource, "text", None)
            return f"[resource {resource.uri}]" + ("" if text is None else f"\n{text}")


def _image(block: types.ImageContent) -> str | ImagePart:
    try:
        return ImagePart(base64.b64decode(block.data, validate=True))
    except (binascii.Error, ValueError):
        return f"[an image of the type {block.mime_type}, which cannot be shown]"
