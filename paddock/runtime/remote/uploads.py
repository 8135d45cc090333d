"""Uploads of a run's artifacts: the client is asked where each goes, and it arrives there whole."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
import posixpath
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from paddock.runtime.remote.folders import FileState
from paddock.runtime.remote.messages import ArtifactUploadFailedMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import httpx2

    from paddock.runtime.remote.frames import RunFrames
    from paddock.runtime.remote.messages import ArtifactUploadResponseMessageInterface
    from paddock.runtime.remote.settings import ServerSettings

__all__ = ["Artifact", "Uploads"]

MAX_ARTIFACT = 5 * 1024**3
"""Bytes of one artifact: what stores take in one request."""
MAX_ASKED = 16
"""Artifacts that are asked for and not answered at a time: a client answers one after another."""
MAX_UPLOADS = 8
"""Uploads at a time: more do not make one connection to a store faster."""
PIECE = 256 * 1024
"""Bytes that are read at a time."""
RETRIED = frozenset({408, 425, 429})
"""Answers of a store, beside 5xx, after which the same upload may succeed."""

Status = Literal["uploaded", "failed", "unanswered", "ignored_too_big"]


@dataclass(slots=True, kw_only=True)
class Artifact:
    """A file on its way out."""

    path: str
    relative_path: str
    folder: str = ""
    size: int = 0
    sha256: str = ""
    status: Status | None = None
    error: str | None = None
    answer: asyncio.Future[tuple[str, str]] | None = field(repr=False, default=None)

    def told(self) -> dict[str, Any]:
        """Return what the metadata of the terminal message says of it."""
        found = {
            "path": self.path,
            "relative_path": self.relative_path,
            "size": self.size,
            "sha256": self.sha256,
            "status": self.status,
        }
        return found if self.error is None else {**found, "error": self.error}


class Uploads:
    """Asks by `frames`, and uploads what the client answers about."""

    def __init__(self, frames: RunFrames, settings: ServerSettings) -> None:
        self._frames = frames
        self._settings = settings
        self._asked: dict[tuple[str, str], Artifact] = {}
        self._names: dict[str, tuple[str, str]] = {}
        """The name of each path for the client; no two paths share one."""
        self._used: set[tuple[str, str]] = set()
        self._answered_at = 0.0

    async def bring(self, wanted: Sequence[Artifact]) -> None:
        """Upload files, and note of each what became of it. Those that have a status stay so."""
        if not wanted:
            return
        import httpx2

        asking, uploading = asyncio.Semaphore(MAX_ASKED), asyncio.Semaphore(MAX_UPLOADS)
        self._answered_at = time.monotonic()
        async with (
            httpx2.AsyncClient(timeout=self._settings.upload_timeout) as client,
            asyncio.TaskGroup() as group,
        ):
            for artifact in wanted:
                group.create_task(self._bring_one(artifact, client, asking, uploading))

    def answer(
        self, message: ArtifactUploadResponseMessageInterface | ArtifactUploadFailedMessage
    ) -> bool:
        """Take an answer; False if nothing was asked for under these names."""
        artifact = self._asked.pop((message.filename, message.filepath), None)
        if artifact is None or artifact.answer is None or artifact.answer.done():
            return False
        self._answered_at = time.monotonic()
        if isinstance(message, ArtifactUploadFailedMessage):
            artifact.answer.set_exception(_Unanswered(message.error))
        else:
            artifact.answer.set_result((message.presigned_url, message.content_type))
        return True

    async def _bring_one(
        self,
        artifact: Artifact,
        client: httpx2.AsyncClient,
        asking: asyncio.Semaphore,
        uploading: asyncio.Semaphore,
    ) -> None:
        if artifact.status is not None:
            return
        try:
            async with asking:
                url, content_type = await self._ask(artifact)
            async with uploading:
                await self._upload(artifact, client, url, content_type)
            artifact.status = "uploaded"
        except _Unanswered as error:
            artifact.status, artifact.error = "unanswered", str(error)
        except _TooBig as error:
            artifact.status, artifact.error = "ignored_too_big", str(error)
        except (_NotUploaded, OSError) as error:
            artifact.status = "failed"
            artifact.error = getattr(error, "strerror", None) or str(error)

    async def _ask(self, artifact: Artifact) -> tuple[str, str]:
        await self._read(artifact)
        silence = time.monotonic() - self._answered_at
        left = min(self._settings.ask_timeout, self._settings.asks_timeout - silence)
        if left <= 0:
            raise _Unanswered(f"the client answered nothing for {silence:.0f} s")
        artifact.answer = asyncio.get_running_loop().create_future()
        names = self._names_of(artifact.path)
        self._asked[names] = artifact
        guess, _ = mimetypes.guess_type(artifact.relative_path)
        self._frames.ask(
            {
                "filename": names[0],
                "filepath": names[1],
                "relative_path": self._shown(artifact.relative_path),
                "size": artifact.size,
                "sha256": artifact.sha256,
                "content_type_guess": guess or "application/octet-stream",
            }
        )
        try:
            async with asyncio.timeout(left):
                return await artifact.answer
        except TimeoutError:
            raise _Unanswered(f"the client did not answer within {left:.0f} s") from None
        finally:
            self._asked.pop(names, None)

    def _names_of(self, path: str) -> tuple[str, str]:
        """Return the name and the path of a file for the client; they never change."""
        if path not in self._names:
            stem, whole = self._shown(posixpath.basename(path)), self._shown(path)
            names, count = (stem, whole), 1
            while names in self._used:
                count += 1
                names = f"{stem}~{count}", f"{whole}~{count}"
            self._names[path] = names
            self._used.add(names)
        return self._names[path]

    def _shown(self, path: str) -> str:
        """Return a path without secrets, and without bytes that are no UTF-8: no frame has them."""
        text = path.encode(errors="surrogateescape").decode(errors="replace")
        return self._frames.redactor.text(text)

    async def _read(self, artifact: Artifact) -> FileState:
        state, artifact.size, artifact.sha256 = await asyncio.to_thread(_digest, artifact.path)
        if artifact.size > MAX_ARTIFACT:
            raise _TooBig(f"it has more than {MAX_ARTIFACT} bytes")
        return state

    async def _upload(
        self, artifact: Artifact, client: httpx2.AsyncClient, url: str, content_type: str
    ) -> None:
        """PUT the file until it has arrived as it is. Raise `_NotUploaded`."""
        failure = ""
        for pause in (0.0, *self._settings.upload_pauses):
            await asyncio.sleep(pause)
            state = await self._read(artifact)
            failure, may_retry = await self._attempt(artifact, client, url, content_type)
            if failure:
                if not may_retry:
                    break
            elif await asyncio.to_thread(_state, artifact.path) == state:
                return
            else:
                failure = "it changed while it was uploaded"
        raise _NotUploaded(failure)

    async def _attempt(
        self, artifact: Artifact, client: httpx2.AsyncClient, url: str, content_type: str
    ) -> tuple[str, bool]:
        """Return why an attempt failed, if it did, and whether another may succeed."""
        import httpx2

        headers = {"Content-Type": content_type, "Content-Length": str(artifact.size)}
        try:
            _ = urlsplit(url).port  # one that is out of range is no error to httpx2
            async with asyncio.timeout(self._settings.upload_timeout):
                response = await client.put(
                    url, content=_pieces(artifact.path, artifact.size), headers=headers
                )
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, ValueError):
            return "presigned_url is no URL with http or https, or content_type no header", False
        except TimeoutError:
            return f"the upload took more than {self._settings.upload_timeout:g} s", True
        except httpx2.HTTPError as error:
            return f"the store could not be reached: {type(error).__name__}", True
        if response.is_success:
            return "", False
        status = response.status_code
        told = f"the store answered {status} {response.reason_phrase}".strip()
        return told, status >= 500 or status in RETRIED


class _NotUploaded(Exception):
    """Says why."""


class _Unanswered(Exception):
    """Says why."""


class _TooBig(Exception):
    """Says how much would have been taken."""


def _open(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(0, "it is no longer a regular file", path)
    return fd


def _digest(path: str) -> tuple[FileState, int, str]:
    with open(_open(path), "rb") as file:
        state, digest, size = FileState.of(os.fstat(file.fileno())), hashlib.sha256(), 0
        while (piece := file.read(PIECE)) and size <= MAX_ARTIFACT:
            digest.update(piece)
            size += len(piece)
    return state, size, digest.hexdigest()


def _state(path: str) -> FileState:
    return FileState.of(os.stat(path, follow_symlinks=False))


async def _pieces(path: str, size: int) -> AsyncIterator[bytes]:
    """Read so many bytes: what is appended meanwhile is not a part of this request."""
    with os.fdopen(await asyncio.to_thread(_open, path), "rb") as file:
        while size and (piece := await asyncio.to_thread(file.read, min(size, PIECE))):
            size -= len(piece)
            yield piece
