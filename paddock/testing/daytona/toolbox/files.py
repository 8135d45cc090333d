"""The calls of ``/files`` that list, look at, make, move and delete.

As in the daemon links are followed: one that leads nowhere is not there.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.toolbox.replies import DaemonError, no_content, of_system

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.testing.daytona.toolbox.routing import Handler
    from paddock.testing.daytona.toolbox.shells import Surroundings

__all__ = ["Files"]


class Files:
    """The files of one sandbox, or of this machine where a path is absolute."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def routes(self) -> dict[str, Handler]:
        return {
            "GET /files": self._list,
            "DELETE /files": self._delete,
            "GET /files/info": self._info,
            "POST /files/folder": self._make_folder,
            "POST /files/move": self._move,
            "POST /files/permissions": self._permit,
        }

    async def _list(self, request: web.Request) -> web.Response:
        path = request.query.get("path") or "."
        depth = _depth(request.query.get("depth"))
        folder = self._surroundings.resolve(path)
        try:
            found = await asyncio.to_thread(_listed, folder, Path(path), depth)
        except OSError as error:
            raise of_system(error, path) from error
        return web.json_response(found)

    async def _info(self, request: web.Request) -> web.Response:
        path = _required(request, "path")
        try:
            found = await asyncio.to_thread(_described, self._surroundings.resolve(path))
        except OSError as error:
            raise of_system(error, path) from error
        return web.json_response(found)

    async def _make_folder(self, request: web.Request) -> web.Response:
        path, mode = _required(request, "path"), _mode(request.query.get("mode") or "0755")
        try:
            await asyncio.to_thread(_make_folder, self._surroundings.resolve(path), mode)
        except OSError as error:
            raise of_system(error, path) from error
        return web.Response(status=201)

    async def _delete(self, request: web.Request) -> web.Response:
        path = _required(request, "path")
        recursive = request.query.get("recursive", "").lower() == "true"
        try:
            await asyncio.to_thread(_delete, self._surroundings.resolve(path), recursive)
        except OSError as error:
            raise of_system(error, path) from error
        return no_content()

    async def _move(self, request: web.Request) -> web.Response:
        source, destination = _required(request, "source"), _required(request, "destination")
        resolve = self._surroundings.resolve
        try:
            await asyncio.to_thread(_move, resolve(source), resolve(destination))
        except OSError as error:
            raise of_system(error, f"{source} -> {destination}") from error
        return web.Response()

    async def _permit(self, request: web.Request) -> web.Response:
        path = _required(request, "path")
        target = self._surroundings.resolve(path)
        try:
            await asyncio.to_thread(_permit, target, dict(request.query))
        except LookupError as error:  # no such user or group
            raise DaemonError(400, str(error)) from error
        except OSError as error:
            raise of_system(error, path) from error
        return web.Response()


def _listed(folder: Path, shown: Path, depth: int | None) -> list[dict[str, Any]]:
    return [
        _described(path) if depth is None else {**_described(path), "path": str(shown / below)}
        for path, below in _walk(folder, Path(), depth or 1)
        if path.exists()
    ]


def _walk(folder: Path, below: Path, depth: int) -> Iterator[tuple[Path, Path]]:
    for name in sorted(os.listdir(folder)):
        path = folder / name
        yield path, below / name
        if depth > 1 and path.is_dir() and not path.is_symlink():
            yield from _walk(path, below / name, depth - 1)


def _described(path: Path) -> dict[str, Any]:
    details = path.stat()
    modified = datetime.fromtimestamp(details.st_mtime, UTC)
    return {
        "name": path.name,
        "isDir": stat.S_ISDIR(details.st_mode),
        "size": details.st_size,
        "mode": stat.filemode(details.st_mode),
        "permissions": f"{stat.S_IMODE(details.st_mode):04o}",
        "owner": _owner(details.st_uid),
        "group": _group(details.st_gid),
        # Go's way of printing a time, which no other language reads.
        "modTime": f"{modified:%Y-%m-%d %H:%M:%S.%f} +0000 UTC",
        "modifiedAt": f"{modified:%Y-%m-%dT%H:%M:%S.%fZ}",
    }


def _owner(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _make_folder(path: Path, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)  # `mkdir` gives what the umask leaves


def _delete(path: Path, recursive: bool) -> None:
    if stat.S_ISDIR(path.stat().st_mode) and not recursive:
        raise DaemonError(400, "cannot delete directory without recursive flag")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _move(source: Path, destination: Path) -> None:
    source.stat()
    destination.parent.stat()
    if destination.exists():
        raise DaemonError(409, "destination already exists")
    shutil.move(source, destination)


def _permit(path: Path, wanted: dict[str, str]) -> None:
    if wanted.get("mode"):
        path.chmod(_mode(wanted["mode"]))
    if wanted.get("owner"):
        shutil.chown(path, user=wanted["owner"])
    if wanted.get("group"):
        shutil.chown(path, group=wanted["group"])


def _required(request: web.Request, name: str) -> str:
    if not (value := request.query.get(name)):
        raise DaemonError(400, f"{name} is required")
    return value


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise DaemonError(400, f"invalid mode: {text}") from None


def _depth(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise DaemonError(400, f"depth must be a positive integer: {text}")
    return int(text)
