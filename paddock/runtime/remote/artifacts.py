"""Artifacts of a run: which files are new or changed, and what became of them.

The folders are read when the request begins and once more before its end, so nothing depends on
an event or on a moment; looks in between bring out early what is finished by then. Each file is
known by its path, never by its name alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from paddock.runtime.remote.failures import RequestFailed
from paddock.runtime.remote.folders import Change, Reading, changes, read_folder
from paddock.runtime.remote.uploads import Artifact, Uploads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.remote.frames import RunFrames
    from paddock.runtime.remote.settings import ServerSettings

__all__ = ["MAX_LISTED", "Artifacts"]

LOOK_SHARE = 20
"""Times as long as a look took that the next one waits, at least."""
MAX_LISTED = 1000
"""Artifacts and changes that the metadata names; all are counted."""


class Artifacts:
    """The artifacts of one run, in `folders`."""

    def __init__(
        self,
        folders: Sequence[str],
        ignore: str | None,
        frames: RunFrames,
        settings: ServerSettings,
    ) -> None:
        self._folders = list(folders)
        self._ignore = ignore
        self._settings = settings
        self.uploads = Uploads(frames, settings)
        self._first: dict[str, Reading] = {}
        """How the folders were when the request began, those that could be read then."""
        self._taken: dict[str, Reading] = {}
        """The same, with the files that are on their way out."""
        self._seen: dict[str, Reading] = {}  # how they were at the last look
        self._is_stopped = asyncio.Event()
        self._by_path: dict[str, Artifact] = {}
        self.changes: list[Change] = []

    @property
    def all(self) -> list[Artifact]:
        """Those of which anything is known, the last state of each file."""
        return list(self._by_path.values())

    async def begin(self) -> None:
        """Make the folders, and read how they are now. Raise `RequestFailed` if they cannot be."""
        for folder in self._folders:
            try:
                await asyncio.to_thread(os.makedirs, folder, exist_ok=True)
                found = await asyncio.to_thread(read_folder, folder, self._ignore)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                raise RequestFailed(f"artifacts_dirs: {folder}: {why}") from error
            self._first[folder], self._taken[folder] = found, dict(found)

    async def watch(self) -> None:
        """Bring out, until `stop`, what did not change between two looks.

        Nothing depends on it: what it misses is brought out in the end.
        """
        interval = self._settings.look_interval
        while self._folders and not self._is_stopped.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._is_stopped.wait()
                    return
            began = time.monotonic()
            settled = [each for folder in self._folders for each in await self._settled(folder)]
            # Folders that take long to read are looked at less often.
            interval = max(interval, LOOK_SHARE * (time.monotonic() - began))
            await self._bring(settled)

    def stop(self) -> None:
        """Have `watch` return when what it brings out now has left."""
        self._is_stopped.set()

    async def bring_out(self, extra: Sequence[Artifact] = ()) -> None:
        """Ask where the files go that are new or changed, and upload them.

        Never raises for a file that does not arrive: it says so in `all`. One that did not
        arrive before is tried again.
        """
        for artifact in self.all:
            if artifact.status in ("failed", "unanswered"):
                self._taken[artifact.folder].pop(artifact.relative_path, None)
        wanted = [each for folder in self._first for each in await self._rest(folder)]
        await self._bring([*wanted, *extra])

    async def _settled(self, folder: str) -> list[Artifact]:
        """Take the files that are new or changed, and as they were at the last look."""
        try:
            now = await asyncio.to_thread(read_folder, folder, self._ignore)
        except (OSError, ValueError):
            return []  # reported at the end
        seen, self._seen[folder] = self._seen.get(folder, {}), now
        found = [
            each
            for each in changes(folder, self._taken[folder], now)
            if each.kind != "deleted" and seen.get(each.relative_path) == now[each.relative_path]
        ]
        self._taken[folder] |= {each.relative_path: now[each.relative_path] for each in found}
        return _artifacts(found)

    async def _rest(self, folder: str) -> list[Artifact]:
        """Take all files that are new or changed, and note what the run changed."""
        try:
            now = await asyncio.to_thread(read_folder, folder, self._ignore)
        except (OSError, ValueError) as error:
            lost = Artifact(path=folder, relative_path="", folder=folder, status="failed")
            lost.error = str(error)
            return [lost]
        self.changes += changes(folder, self._first[folder], now)
        return _artifacts(changes(folder, self._taken[folder], now))

    async def _bring(self, wanted: Sequence[Artifact]) -> None:
        found = {artifact.path: artifact for artifact in wanted}  # one folder may be in another
        self._by_path |= found
        await self.uploads.bring(list(found.values()))

    def metadata(self) -> dict[str, Any]:
        """Return what the terminal message says of artifacts, if there are folders."""
        if not self._folders and not self.all:
            return {}
        found: dict[str, Any] = {"artifacts": [each.told() for each in self.all[:MAX_LISTED]]}
        if len(self.all) > MAX_LISTED:
            found["artifacts_total"] = len(self.all)
        return found

    @property
    def missing(self) -> list[Artifact]:
        """Those that did not arrive."""
        return [each for each in self.all if each.status != "uploaded"]


def _artifacts(found: Sequence[Change]) -> list[Artifact]:
    """Return what is to be brought out of changes: empty files are not, as they always were."""
    return [
        Artifact(
            path=each.path, relative_path=each.relative_path, folder=each.folder, size=each.size
        )
        for each in found
        if each.kind != "deleted" and each.size
    ]
