"""The tools that bring files into the sandbox and out of it, and that publish its ports."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from paddock.errors import ToolError, Unsupported
from paddock.runtime.core.content import MAX_IMAGE_BYTES, ImagePart
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.permissions.paths import parse_path, show_path
from paddock.runtime.permissions.protected import protected_reason
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.files import failed, not_written, refused

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["DownloadHandler", "FileOutput", "UploadHandler", "UrlHandler"]

MAX_INLINE: Final = 4 * 1024 * 1024
"""Bytes of a file that goes through the call or its result itself."""


@dataclass
class FileOutput(ToolOutput):
    """A result with the file `path` of the sandbox, for programs that can take one."""

    path: str = ""
    data: bytes = b""


def _schema(shared: Path | None, required: str, **properties: Any) -> dict[str, Any]:
    if shared is None:
        del properties["shared_path"]
    return object_schema(required=[required], **properties)


class UploadHandler(ToolHandler):
    """Writes a file from base64, or copies one, or a tree, of the directory `shared`."""

    name = "upload"

    def __init__(self, *, shared: Path | None = None) -> None:
        self._shared = shared
        source = "" if shared is None else ", or copy a file or directory of the shared directory"
        self.description = f"Put a file into the sandbox: give its bytes in base64{source}."
        self.parameters = _schema(
            shared,
            "path",
            path={"type": "string", "description": "Where it goes in the sandbox."},
            data={"type": "string", "description": "The bytes of the file, in base64."},
            shared_path={
                "type": "string",
                "description": "What to copy, relative to the shared directory.",
            },
        )

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = invocation.arguments
        path = parse_path(arguments["path"])
        if ("data" in arguments) == ("shared_path" in arguments):
            return failed("give either data or, where there is a shared directory, shared_path")
        if "shared_path" in arguments:
            return await self._copy(invocation, path)
        try:
            data = base64.b64decode(arguments["data"], validate=True)
        except (binascii.Error, ValueError) as error:
            return failed(f"data is not base64: {error}")
        if len(data) > MAX_INLINE:
            return failed(f"data has {len(data)} bytes; at most {MAX_INLINE} can be sent so")
        fs = (await invocation.context.sandbox()).fs
        try:
            await fs.write_bytes(path, data)
        except OSError as error:
            return await not_written(fs, error, path)
        return ToolOutput(content=f"Uploaded {len(data)} bytes to {show_path(path)}")

    async def _copy(self, invocation: ToolInvocation, path: str) -> ToolOutput:
        source = _shared_place(self._shared, invocation.arguments["shared_path"])
        sandbox = await invocation.context.sandbox()
        try:
            transfer = await sandbox.fs.upload(source, path, links="skip")
        except OSError as error:
            return failed(f"{invocation.arguments['shared_path']}: {error.strerror or error}")
        return ToolOutput(content=f"Uploaded to {show_path(path)}: {transfer}")


class DownloadHandler(ToolHandler):
    """Returns a file, or copies it, or a tree, to a place in the directory `shared`."""

    name = "download"

    def __init__(self, *, shared: Path | None = None) -> None:
        self._shared = shared
        where = "" if shared is None else ", or copy it, or a directory, to the shared directory"
        self.description = f"Get a file of the sandbox: its bytes are in the result{where}."
        self.parameters = _schema(
            shared,
            "path",
            path={"type": "string", "description": "What to get from the sandbox."},
            shared_path={
                "type": "string",
                "description": "Where to copy it, relative to the shared directory. Nothing may "
                "be there yet.",
            },
        )

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        path = parse_path(invocation.arguments["path"])
        if "shared_path" in invocation.arguments:
            return await self._copy(invocation, path)
        sandbox = await invocation.context.sandbox()
        try:
            info = await sandbox.fs.stat(path)
            if info.kind != "file":
                return failed(f"Not a file: {show_path(path)}")
            if info.size > MAX_INLINE:
                return failed(
                    f"{show_path(path)} has {info.size} bytes; at most {MAX_INLINE} can be sent so"
                )
            data = await sandbox.fs.read_bytes(path, limit=MAX_INLINE)
        except OSError as error:
            return refused(error, path)
        data = sandbox.redactor.data(data)
        told = f"{show_path(path)}, {len(data)} bytes"
        kind = mimetypes.guess_type(path)[0] or ""
        if kind.startswith("image/") and len(data) <= MAX_IMAGE_BYTES:
            try:
                return ToolOutput(content=told, images=[ImagePart(data)])
            except ValueError:
                pass  # it only has the name of one
        return FileOutput(content=told, path=str(sandbox.path(path)), data=data)

    async def _copy(self, invocation: ToolInvocation, path: str) -> ToolOutput:
        given = invocation.arguments["shared_path"]
        target = _shared_place(self._shared, given)
        assert self._shared is not None, "it has a place in it"
        if reason := protected_reason(str(target.relative_to(self._shared.resolve()))):
            return failed(f"Not copied to a protected path: {show_path(given)} is {reason}")
        if target.exists():  # a later task there did not ask for other contents
            return failed(f"{show_path(given)} exists already; choose another name")
        sandbox = await invocation.context.sandbox()
        try:
            transfer = await sandbox.fs.download(path, target)
        except OSError as error:
            return refused(error, path)
        except ValueError as error:
            return failed(f"{show_path(path)}: {error}")
        return ToolOutput(content=f"Downloaded {show_path(path)} to {given}: {transfer}")


def _shared_place(shared: Path | None, given: str) -> Path:
    """Return the place `given` in the directory `shared`. Raise `ToolError` for one outside."""
    if shared is None:
        raise ToolError("there is no shared directory")
    root = shared.resolve()
    place = (root / parse_path(given)).resolve()
    if not place.is_relative_to(root):
        raise ToolError(f"{show_path(given)} is not in the shared directory")
    return place


class UrlHandler(ToolHandler):
    """Tells where a port of the sandbox can be reached from outside."""

    name = "url"
    description = (
        "Return the URL by which a TCP port of the sandbox can be reached from outside. Start the "
        "server in the background first, for example with 'nohup ... >log 2>&1 &'."
    )
    parameters = object_schema(
        required=["port"],
        port={"type": "integer", "description": "The port.", "minimum": 1, "maximum": 65535},
    )

    is_concurrent: Final = True

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        sandbox = await invocation.context.sandbox()
        try:
            url = await sandbox.url(invocation.arguments["port"])
        except Unsupported as error:
            return failed(str(error))
        return ToolOutput(content=url)
