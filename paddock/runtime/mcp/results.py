"""The results of tools as clients get them: bounded, and valid Unicode."""

from __future__ import annotations

import base64
import mimetypes
from typing import TYPE_CHECKING
from urllib.parse import quote

from mcp import types

from paddock.runtime.core.content import bounded_images
from paddock.runtime.core.output import truncate_output
from paddock.runtime.tools.transfer import FileOutput

if TYPE_CHECKING:
    from paddock.runtime.core.tool import ToolOutput

__all__ = ["as_result", "failure"]


def as_result(output: ToolOutput) -> types.CallToolResult:
    """Return `output` as the result of a call. Text is cut as it is for a model of ours."""
    images, left_out = bounded_images(output.images)
    content: list[types.ContentBlock] = [
        types.TextContent(text=truncate_output(output.content) + left_out)
    ]
    content += [
        types.ImageContent(data=_base64(image.data), mime_type=image.media_type) for image in images
    ]
    if isinstance(output, FileOutput):
        resource = types.BlobResourceContents(
            uri=f"file://{quote(output.path)}",
            mime_type=mimetypes.guess_type(output.path)[0] or "application/octet-stream",
            blob=_base64(output.data),
        )
        content.append(types.EmbeddedResource(resource=resource))
    return types.CallToolResult(content=content, is_error=not output.success)


def failure(text: str) -> types.CallToolResult:
    """Return the result of a call that was not made."""
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
