"""The calls of ``/files`` that look into files: find, search and replace.

As in the daemon text is looked for as it is written, never as a regular expression; files with
a NUL near their start are passed over; what cannot be read is not there.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.backends.guest.inside.globs import compiled
from paddock.testing.daytona.toolbox.replies import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.testing.daytona.toolbox.routing import Handler
    from paddock.testing.daytona.toolbox.shells import Surroundings

__all__ = ["Searching"]

HEAD = 512
"""Bytes of a file in which a NUL makes it binary."""


class Searching:
    """Looks into the files of one sandbox."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def routes(self) -> dict[str, Handler]:
        return {
            "GET /files/find": self._find,
            "GET /files/search": self._search,
            "POST /files/replace": self._replace,
        }

    async def _find(self, request: web.Request) -> web.Response:
        path, pattern = _asked(request)
        top = self._surroundings.resolve(path)
        return web.json_response(await asyncio.to_thread(_matches, top, Path(path), pattern))

    async def _search(self, request: web.Request) -> web.Response:
        path, pattern = _asked(request)
        top = self._surroundings.resolve(path)
        found = await asyncio.to_thread(_named, top, Path(path), pattern)
        return web.json_response({"files": found})

    async def _replace(self, request: web.Request) -> web.Response:
        order = await request.json()
        results = []
        for name in order["files"]:
            path = self._surroundings.resolve(name)
            try:
                await asyncio.to_thread(_replace, path, order["pattern"], order["newValue"])
            except OSError as error:
                results.append({"file": name, "success": False, "error": str(error)})
            else:
                results.append({"file": name, "success": True})
        return web.json_response(results)


def _matches(top: Path, shown: Path, text: str) -> list[dict[str, Any]]:
    return [
        {"file": str(shown / path.relative_to(top)), "line": number, "content": line}
        for path in _files(top)
        for number, line in enumerate(_lines(path), 1)
        if text in line
    ]


def _named(top: Path, shown: Path, pattern: str) -> list[str]:
    anchored = compiled("/" + pattern.removeprefix("/"))
    below = (path.relative_to(top) for path in _files(top))
    return [str(shown / path) for path in below if anchored.fullmatch(path.as_posix())]


def _files(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
    for folder, folders, names in os.walk(top):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    except OSError:
        return []
    if b"\0" in content[:HEAD]:
        return []
    return content.decode(errors="replace").splitlines()


def _replace(path: Path, pattern: str, value: str) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(pattern.encode(), value.encode()))


def _asked(request: web.Request) -> tuple[str, str]:
    path, pattern = request.query.get("path"), request.query.get("pattern")
    if not path or not pattern:
        raise DaemonError(400, "path and pattern are required")
    return path, pattern
