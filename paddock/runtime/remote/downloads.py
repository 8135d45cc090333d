"""Files that a request wants in the sandbox before anything runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import posixpath
import secrets
import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from paddock.runtime.remote.failures import RequestFailed
from paddock.runtime.remote.unpacking import is_archive, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import httpx2

    from paddock.runtime.remote.messages import RuntimeEnvironmentDownloadableInterface

__all__ = ["MAX_DOWNLOAD", "download_all", "file_name"]

MAX_DOWNLOAD = 2 * 1024**3
"""Bytes of one file: more than that belongs into the sandbox's image."""
PIECE = 256 * 1024
"""Bytes that are written at a time."""
DEFAULT_PORTS = {"http": 80, "https": 443}
FOR = "paddock_download"
"""The key under which a request has what it downloads."""
CONNECT_TIMEOUT = 30.0
"""Seconds until a connection stands, and without a byte after that."""


async def download_all(
    wanted: Sequence[RuntimeEnvironmentDownloadableInterface],
    *,
    working_dir: str,
    timeout: float,  # noqa: ASYNC109 - it is one download's, and its error says so
) -> None:
    """Download files, one after the other; unpack archives where they are, and remove them.

    If cancelled, nothing of the current one is left. Raises `RequestFailed`, which shows no URL:
    those have keys in them.
    """
    if not wanted:
        return
    import httpx2

    limits = httpx2.Timeout(CONNECT_TIMEOUT)
    hooks = {"request": [_keep_headers_at_home]}
    async with httpx2.AsyncClient(
        timeout=limits, follow_redirects=True, event_hooks=hooks
    ) as client:
        for each in wanted:
            name = file_name(each.download_url)
            folder = os.path.join(working_dir, each.working_dir)
            with _translated(name, timeout):
                async with asyncio.timeout(timeout):
                    await _download(client, each, folder, name)


@contextlib.contextmanager
def _translated(name: str, limit: float) -> Iterator[None]:
    """Raise `RequestFailed` for what a download of `name` raises."""
    import httpx2

    try:
        yield
    except TimeoutError:
        raise RequestFailed(f"Download of {name} took more than {limit:g} s") from None
    except httpx2.HTTPError as error:
        raise RequestFailed(f"Download failed: {name}: {type(error).__name__}") from error
    except OSError as error:
        raise RequestFailed(f"Download failed: {name}: {error.strerror or error}") from error
    except (httpx2.InvalidURL, ValueError):
        told = f"Download failed: {name}: its URL, a header or working_dir is not valid"
        raise RequestFailed(told) from None


def file_name(url: str) -> str:
    """Return the name of the file that `url` is saved as: the last part of its path, decoded.

    Raise `RequestFailed` for one that is no plain name, and for other than HTTP.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # one that is out of range is an error only now
    except ValueError:
        raise RequestFailed("download_url: it is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestFailed("download_url: give a URL with http or https")
    name = unquote(posixpath.basename(parts.path))
    if name in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise RequestFailed(f"download_url: its path ends in {name!r}, which is no file name")
    return name


async def _download(
    client: httpx2.AsyncClient,
    wanted: RuntimeEnvironmentDownloadableInterface,
    folder: str,
    name: str,
) -> None:
    target = os.path.join(folder, name)
    beside = os.path.join(folder, f".{secrets.token_hex(8)}.download")
    await asyncio.to_thread(os.makedirs, folder, exist_ok=True)
    try:
        headers = dict(wanted.headers or {})
        async with client.stream(
            "GET", wanted.download_url, headers=headers, extensions={FOR: wanted}
        ) as response:
            if not response.is_success:
                told = f"{response.status_code} {response.reason_phrase}".strip()
                raise RequestFailed(f"Download failed: {told}")
            digest = await _save(response, beside, name)
        if wanted.sha256 is not None and digest != wanted.sha256.lower():
            raise RequestFailed(f"Download failed: {name}: its SHA-256 is {digest}")
        if is_archive(name):
            await _unpack(beside, folder, name)
        else:
            await asyncio.to_thread(os.replace, beside, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)


async def _keep_headers_at_home(request: httpx2.Request) -> None:
    """Take the headers of a download from a request that was sent on to another server.

    They are keys of the server that the download's URL names.
    """
    wanted: RuntimeEnvironmentDownloadableInterface = request.extensions[FOR]
    if _server(wanted.download_url) != _server(str(request.url)):
        for name in wanted.headers or {}:
            if name.lower() != "host":
                request.headers.pop(name, None)


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


async def _save(response: httpx2.Response, path: str, name: str) -> str:
    """Write the body to `path`; return its SHA-256."""
    digest, size = hashlib.sha256(), 0
    file = await asyncio.to_thread(open, path, "xb")
    with file:
        async for piece in response.aiter_bytes(PIECE):
            size += len(piece)
            if size > MAX_DOWNLOAD:
                raise RequestFailed(f"Download failed: {name} has more than {MAX_DOWNLOAD} bytes")
            digest.update(piece)
            await asyncio.to_thread(file.write, piece)
    return digest.hexdigest()


async def _unpack(archive: str, folder: str, name: str) -> None:
    """Unpack where it is, all of it or nothing. A cancellation waits for the current piece."""
    stopped = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(unpack, archive, folder, name, stopped))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.gather(working, return_exceptions=True)
        raise
    except ValueError as error:
        raise RequestFailed(f"Download failed: {name}: {error}") from error
