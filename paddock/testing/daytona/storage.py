"""The part of S3 that the SDK uploads build contexts with; knows nothing of what they are.

The SDK's client refuses plain http, so a test lets it: it patches
``daytona._async.object_storage.S3Store`` to be given ``client_options={"allow_http": True}``.
Signatures are not checked, the access key is.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Storage"]

_XML = "application/xml"


class Storage:
    """Objects by their key, whole ones only."""

    def __init__(self, url: Callable[[], str]) -> None:
        self.objects: dict[str, bytes] = {}
        self.bucket = "paddock-contexts"
        self._url = url
        self._access_key = secrets.token_hex(8)
        self._parts: dict[str, dict[int, bytes]] = {}

    def credentials(self) -> dict[str, str]:
        """The answer for the SDK, without the organisation."""
        return {
            "accessKey": self._access_key,
            "secret": secrets.token_hex(16),
            "sessionToken": secrets.token_hex(16),
            "storageUrl": self._url(),
            "bucket": self.bucket,
            "region": "us-east-1",
        }

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call of S3."""
        if self._access_key not in request.headers.get("Authorization", ""):
            return web.Response(status=403)
        key = request.match_info["key"]
        upload = request.query.get("uploadId")
        if request.method == "HEAD":
            return self._head(key)
        if request.method == "PUT":
            return self._put(key, upload, request.query.get("partNumber"), await request.read())
        if request.method == "POST":
            return self._begin(key) if upload is None else self._complete(key, upload)
        if request.method == "DELETE" and upload is not None:
            self._parts.pop(upload, None)
            return web.Response(status=204)
        return web.Response(status=405)

    def _head(self, key: str) -> web.Response:
        if (content := self.objects.get(key)) is None:
            return web.Response(status=404)
        headers = {"ETag": _tag(content), "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return web.Response(headers={**headers, "Content-Length": str(len(content))})

    def _put(self, key: str, upload: str | None, part: str | None, body: bytes) -> web.Response:
        if upload is None:
            self.objects[key] = body
        elif upload in self._parts and part is not None:
            self._parts[upload][int(part)] = body
        else:
            return web.Response(status=404)
        return web.Response(headers={"ETag": _tag(body)})

    def _begin(self, key: str) -> web.Response:
        upload = secrets.token_hex(8)
        self._parts[upload] = {}
        return _xml(
            "InitiateMultipartUploadResult",
            f"<Bucket>{self.bucket}</Bucket><Key>{key}</Key><UploadId>{upload}</UploadId>",
        )

    def _complete(self, key: str, upload: str) -> web.Response:
        if (parts := self._parts.pop(upload, None)) is None:
            return web.Response(status=404)
        content = b"".join(parts[number] for number in sorted(parts))
        self.objects[key] = content
        return _xml(
            "CompleteMultipartUploadResult",
            f"<Bucket>{self.bucket}</Bucket><Key>{key}</Key><ETag>{_tag(content)}</ETag>",
        )


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


def _xml(name: str, inner: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inner}</{name}>'
    return web.Response(text=text, content_type=_XML)
