"""Files on their way in and out, many in a request or one by a signed URL: streams both ways.

Whatever their size, files are held in memory by the chunk. The boundary of downloads is always
the same, as the daemon's is: a file that contains it arrives cut.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from aiohttp import BodyPartReader, web

from paddock.testing.daytona.toolbox.replies import DaemonError, error_details, of_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from paddock.testing.daytona.toolbox.routing import Handler
    from paddock.testing.daytona.toolbox.shells import Surroundings

__all__ = ["Transfers"]

BOUNDARY = "DAYTONA-FILE-BOUNDARY"
CHUNK = 256 * 1024
"""Bytes in memory for each file that is on its way."""


class Transfers:
    """Files of one sandbox on their way in and out."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def routes(self) -> dict[str, Handler]:
        return {
            "POST /files/bulk-upload": self._upload,
            "POST /files/bulk-download": self._download,
            "POST /files/upload-v2": self._upload_one,
            "GET /files/download": self._download_one,
        }

    async def _upload(self, request: web.Request) -> web.Response:
        """Each ``files[i].path`` names where the ``files[i].file`` after it goes."""
        if not request.content_type.startswith("multipart/"):
            raise DaemonError(400, "request Content-Type isn't multipart/form-data")
        stored: list[dict[str, Any]] = []
        errors: list[str] = []
        destinations: dict[str, str] = {}
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                continue
            index, _, field = part.name.rpartition(".")
            if field == "path":
                destinations[index] = await part.text()
                continue
            path = destinations.get(index) or unquote(part.filename or "")
            try:
                stored.append({"path": path, "bytes": await self._store(part, path)})
            except OSError as error:
                errors.append(f"{path}: {error.strerror}")
        if errors:
            return web.json_response({"errors": errors}, status=400)
        return web.json_response({"files": stored})

    async def _upload_one(self, request: web.Request) -> web.Response:
        path = request.query["path"]
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name == "file":
                try:
                    await self._store(part, path)
                except OSError as error:
                    raise of_system(error, path) from error
                name = os.path.basename(path)
                return web.json_response({"name": name, "path": path, "type": "file"})
        raise DaemonError(400, "no file in the form")

    async def _store(self, part: BodyPartReader, path: str) -> int:
        file = await asyncio.to_thread(self._create, path)
        size = 0
        try:
            while chunk := await part.read_chunk(CHUNK):
                size += await asyncio.to_thread(file.write, chunk)
        finally:
            file.close()  # unbuffered: nothing left to write
        return size

    def _create(self, path: str) -> IO[bytes]:
        target = self._surroundings.resolve(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return open(target, "wb", buffering=0)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """Every path of the request becomes a part: the file, or why it cannot be read."""
        paths: list[str] = (await request.json())["paths"]
        if not paths:
            raise DaemonError(400, "request body must be {paths: [...]} and non-empty")
        response = web.StreamResponse()
        response.headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        await response.prepare(request)
        for path in paths:
            await self._send(path, request, response)
        await response.write(f"--{BOUNDARY}--\r\n".encode())
        await response.write_eof()
        return response

    async def _download_one(self, request: web.Request) -> web.StreamResponse:
        path = request.query["path"]
        try:
            file = await asyncio.to_thread(_open, self._surroundings.resolve(path))
        except OSError as error:
            raise of_system(error, path) from error
        with file:
            response = web.StreamResponse()
            response.content_type = "application/octet-stream"
            response.content_length = os.fstat(file.fileno()).st_size
            await response.prepare(request)
            await _copy(file, response)
        await response.write_eof()
        return response

    async def _send(self, path: str, request: web.Request, response: web.StreamResponse) -> None:
        try:
            file = await asyncio.to_thread(_open, self._surroundings.resolve(path))
        except OSError as error:
            refusal = of_system(error, path)
            details = error_details(refusal, path=request.path, method=request.method)
            content = json.dumps(details).encode()
            await response.write(_head(path, "error", "application/json; charset=utf-8"))
            await response.write(content + b"\r\n")
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            await response.write(_head(path, "file", "application/octet-stream", size))
            await _copy(file, response)
            await response.write(b"\r\n")


async def _copy(file: IO[bytes], response: web.StreamResponse) -> None:
    while chunk := await asyncio.to_thread(file.read, CHUNK):
        await response.write(chunk)


def _open(path: Path) -> IO[bytes]:
    return open(path, "rb", buffering=0)


def _head(path: str, name: str, content_type: str, size: int | None = None) -> bytes:
    return "\r\n".join(_head_lines(path, name, content_type, size)).encode()


def _head_lines(path: str, name: str, content_type: str, size: int | None) -> Iterator[str]:
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    labels = f"filename=\"{quoted}\"; filename*=utf-8''{quote(path, safe='')}"
    yield f"--{BOUNDARY}"
    yield f'Content-Disposition: form-data; name="{name}"; {labels}'
    if size is not None:
        yield f"Content-Length: {size}"
    yield f"Content-Type: {content_type}"
    yield from ("", "")
