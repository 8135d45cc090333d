"""Archives that were downloaded, extracted as uploads are: nothing outside, and all or nothing."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from paddock.backends.guest.inside.extraction import extract
from paddock.backends.guest.inside.selection import Selection

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

__all__ = ["Stopped", "is_archive", "unpack"]

MAX_UNPACKED = 8 * 1024**3
"""Bytes of what an archive may hold: four times the largest download."""
_KINDS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
MAX_LINK = 4096
"""Bytes of what a symbolic link refers to: the system takes no longer path."""
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    gzip.BadGzipFile,
    NotImplementedError,
)
_ZSTD = ("compression.zstd", "backports.zstd", "zstandard")
"""Modules that read zstd: Python's own from 3.14 on, the same for older ones, and another."""


class Stopped(Exception):
    """The unpacked files are no longer wanted."""


def is_archive(name: str) -> bool:
    """Whether a download of this name is unpacked."""
    return name.lower().endswith(_KINDS)


def unpack(archive: str, folder: str, name: str, stopped: threading.Event) -> None:
    """Extract the file `archive`, which was downloaded as `name`, below `folder`. Blocks.

    Raise `ValueError` for an archive that cannot be read, or holds what may not be extracted, and
    `Stopped` soon after `stopped` was set; then nothing was extracted.
    """
    try:
        with _tar_stream(archive, name.lower(), stopped) as stream:
            extract(cast("IO[bytes]", _Bounded(stream, stopped)), folder, Selection(links="keep"))
    except _BROKEN as error:
        raise ValueError(f"it is not a whole archive: {error}") from None


@contextlib.contextmanager
def _tar_stream(path: str, name: str, stopped: threading.Event) -> Iterator[_Readable]:
    if name.endswith(".zip"):
        with tempfile.TemporaryFile() as tar, zipfile.ZipFile(path) as found:
            _as_tar(found, tar, stopped)
            tar.seek(0)
            yield tar
    elif name.endswith((".gz", ".tgz")):
        with gzip.open(path) as stream:
            yield stream
    elif name.endswith(".zst"):
        with _zstd().open(path, "rb") as stream:
            yield stream
    else:
        with open(path, "rb") as stream:
            yield stream


def _zstd() -> Any:
    for module in _ZSTD:
        with contextlib.suppress(ImportError):
            return importlib.import_module(module)
    raise ValueError("nothing here reads .tar.zst: install zstandard")


def _as_tar(found: zipfile.ZipFile, tar: IO[bytes], stopped: threading.Event) -> None:
    entries = found.infolist()
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
        raise ValueError(f"it holds more than {MAX_UNPACKED} bytes")
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as writer:
        for entry in entries:
            _add(writer, found, entry, stopped)


def _add(
    writer: tarfile.TarFile,
    found: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    stopped: threading.Event,
) -> None:
    member = tarfile.TarInfo(entry.filename)
    mode = entry.external_attr >> 16
    member.mode = stat.S_IMODE(mode) & 0o777 or (0o755 if entry.is_dir() else 0o644)
    if entry.flag_bits & 1:
        raise ValueError("it is encrypted")
    if entry.is_dir():
        member.type = tarfile.DIRTYPE
        writer.addfile(member)
    elif stat.S_ISLNK(mode):
        if entry.file_size > MAX_LINK:
            raise ValueError("it holds a symbolic link that is too long")
        member.type = tarfile.SYMTYPE
        member.linkname = found.read(entry).decode("utf-8", "surrogateescape")
        writer.addfile(member)
    else:
        member.size = entry.file_size
        with found.open(entry) as data:
            writer.addfile(member, cast("IO[bytes]", _Bounded(data, stopped)))


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Bounded:
    """A stream that raises when it gives too much, or when it is cancelled."""

    def __init__(self, stream: _Readable, stopped: threading.Event) -> None:
        self._stream = stream
        self._stopped = stopped
        self._left = MAX_UNPACKED

    def read(self, size: int = -1) -> bytes:
        if self._stopped.is_set():
            raise Stopped
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it holds more than {MAX_UNPACKED} bytes")
        return data
