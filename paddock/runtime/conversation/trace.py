"""The trace as a file: one JSON object a line, appended, checked, repaired.

A record that `append` returned for survives the death of this process; after `sync`
it survives the machine's. Each line ends in a checksum of the rest of it, so a byte
that changed is noticed; lines without one (other programs write such traces) are
accepted as they are. Knows no record's meaning.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import math
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from paddock._concurrency import finish
from paddock._directory import PrivateDirectory
from paddock.errors import TraceError, TraceWriteError
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.conversation.records import Record

__all__ = [
    "MAX_LINE",
    "MAX_TRACE",
    "PIECE",
    "TornTail",
    "TraceContent",
    "TraceWriter",
    "encode_record",
    "read_piece",
    "read_records",
]

PIECE = 1 << 20
"""Bytes of a trace that are read in place: more would hold the event loop for longer than
some milliseconds."""

MAX_TRACE = 1 << 30
"""Bytes of a trace that is read at once. A sparse file can pretend to hold any number."""

MAX_LINE = 64 << 20
"""Bytes of a record that is read: a message with its images is smaller. Without a bound a file
of zeros, which takes no space on the disk, would take all memory."""

MAX_DEPTH = 100
"""Levels of nesting that are kept where plain encoding failed; jq 1.6 reads 256."""

MAX_INT_BITS = 4096
"""Beyond this Python itself refuses to write an integer in decimal."""

_SURROGATE = "\\ud"  # as it is escaped
_read_json = json.JSONDecoder().raw_decode  # `json.loads` of bytes takes twice as long
_CHECK = b',"crc":"%08x"}'
_CHECK_LENGTH = len(_CHECK % 0)

_PROBES = 5
_PROBE_PAUSE = 0.0005
"""Seconds. Who lists sessions holds a lock for some microseconds to see whether it is
free; a writer that comes in that moment tries again, so often and at this interval."""


def encode_record(record: Mapping[str, Any]) -> bytes:
    """`record` as a line, ASCII only, with its checksum and its newline.

    Never fails for what a record holds: numbers that JSON lacks become text, unknown
    objects their repr, lone surrogates U+FFFD, and nesting beyond `MAX_DEPTH` is cut
    where it is too deep to write.
    """
    try:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        text = None
    if text is None or _SURROGATE in text:  # in a pair they are fine; jq refuses one alone
        text = json.dumps(_plain(record, MAX_DEPTH), allow_nan=False, separators=(",", ":"))
    body = text[:-1].encode("ascii")
    return body + _CHECK % zlib.crc32(body) + b"\n"


def _plain(value: object, depth: int) -> object:
    match value:
        case None | bool():
            return value
        case str():
            return clean_text(value)
        case int():
            return value if value.bit_length() <= MAX_INT_BITS else hex(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping() | Sequence() | AbstractSet() if depth == 0:
            return "..."
        case Mapping():
            return {clean_text(str(key)): _plain(item, depth - 1) for key, item in value.items()}
        case bytes() | bytearray():
            return repr(value)
        case Sequence() | AbstractSet():
            return [_plain(item, depth - 1) for item in value]
        case _:
            return repr(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContent:
    """What a trace holds: `records`, which end at byte `end`, and the `torn` bytes after them.

    `complete` is False when the last record lacks its newline and nothing else.
    """

    records: list[Record]
    end: int
    torn: bytes = b""
    complete: bool = True


def read_records(data: bytes, *, start: int = 0) -> TraceContent:
    """The records in `data`, which is a trace from byte `start` on.

    A last line that was not written whole is `torn`. Raises `TraceError` that names
    the line for anything else that is not a record, or is not what was written.
    """
    lines = data.split(b"\n")
    tail = lines.pop()
    records = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                records.append(_decode(line))
            except (ValueError, RecursionError) as error:
                place = f"line {number}" + (f" after byte {start}" if start else "")
                raise TraceError(f"the trace is damaged in {place}: {error}") from error
    end = start + len(data) - len(tail)
    if not tail:
        return TraceContent(records=records, end=end)
    try:
        records.append(_decode(tail))
    except (ValueError, RecursionError):
        return TraceContent(records=records, end=end, torn=tail)
    return TraceContent(records=records, end=end + len(tail), complete=False)


def read_piece(file: BinaryIO, start: int) -> TraceContent:
    """The records in the next `PIECE` bytes after `start`, in whole lines. Blocks.

    Needs no lock: what is there stays as it is. Raises `OSError` and `TraceError`.
    """
    file.seek(start)
    data = file.read(PIECE)
    if not data.endswith(b"\n"):
        data += file.readline(MAX_LINE)
        if len(data) >= MAX_LINE:
            raise TraceError(f"the trace is damaged: a record after byte {start} has no end")
    return read_records(data[: data.rfind(b"\n") + 1], start=start)


def _decode(line: bytes) -> Record:
    text = line.decode().strip()
    record, end = _read_json(text)
    if end != len(text):
        raise ValueError("something comes after it")
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        raise ValueError("it is not an object with a type")
    body, check = line[:-_CHECK_LENGTH], line[-_CHECK_LENGTH:]
    expected = _CHECK % zlib.crc32(body)
    if check == expected:
        del record["crc"]
    elif "crc" in record or check[-10:] == expected[-10:]:
        raise ValueError("its checksum does not fit")
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class TornTail:
    """`size` bytes of a record that was not written whole, now in the file `quarantine`."""

    size: int
    quarantine: Path


class TraceWriter:
    """The one writer of a trace. Holds a lock on the file until `close()`, or until it dies.

    `append` is for the event loop's thread: it takes about 10 us. `sync` is done in
    another thread, since a disk may take as long as it likes (here 0.1 ms inline and
    0.2 ms that way; on a loaded disk the loop would stand still for everybody).
    """

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path
        self._files = PrivateDirectory(path.parent)
        self._end = 0
        self._broken: BaseException | None = None
        self._new = False

    @classmethod
    def open(cls, path: Path, *, start: int = 0) -> tuple[Self, list[Record], TornTail | None]:
        """Lock the trace, read it from byte `start`, and move a torn tail out of the way.

        The file is made (mode 0600) if it is missing. Raises
        `BlockingIOError` if another process writes it, `TraceError` if it is damaged or shorter
        than `start`, and `OSError` as `PrivateDirectory.open`.
        """
        files = PrivateDirectory(path.parent)
        fd = files.open(path.name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        writer = cls(fd, path)
        try:
            _lock(fd)
            records, torn = writer._read(start)
        except BaseException:
            os.close(fd)
            raise
        return writer, records, torn

    @property
    def _complaint(self) -> str:
        return f"cannot write {self._path}: {self._broken}"

    @property
    def end(self) -> int:
        """The size of the trace, in bytes."""
        return self._end

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record.

        A record that is too long to be read back is a `TraceWriteError`, and nothing is written.
        If writing fails, the file is cut back to the record before, the writer takes no
        more, and `TraceWriteError` is raised now and at each further call.
        """
        if self._broken is not None:
            raise TraceWriteError(self._complaint) from self._broken
        line = encode_record(record)
        if len(line) >= MAX_LINE:
            raise TraceWriteError(
                f"{self._path}: a record of {len(line)} bytes could not be read back; "
                f"it may have {MAX_LINE}"
            )
        try:
            self._write(line)
        except BaseException as error:
            self._broken = error
            # If even that fails, the next opener of the trace repairs it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._end)
            if isinstance(error, OSError):
                raise TraceWriteError(self._complaint) from error
            raise
        self._end += len(line)

    async def sync(self) -> None:
        """Return when all records are on the disk; runs to its end if cancelled."""
        if self._broken is None:
            await finish(self._sync())

    def close(self) -> None:
        """Let go of the file and its lock. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _sync(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._sync_file)
        except OSError as error:
            self._broken = error
            raise TraceWriteError(self._complaint) from error

    def _sync_file(self) -> None:
        if os.fstat(self._fd).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "somebody removed it")
        os.fdatasync(self._fd)
        if self._new:  # its name, too
            self._files.sync()
            self._new = False

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]  # a full disk first writes a part
            except InterruptedError:
                continue

    def _read(self, start: int) -> tuple[list[Record], TornTail | None]:
        size = os.fstat(self._fd).st_size
        if size == 0:
            start = 0  # a new trace, whatever the state was read from
        if size < start:
            raise TraceError(f"{self._path} is shorter than the state that was read from it")
        if size - start > MAX_TRACE:
            raise TraceError(f"{self._path} is larger than {MAX_TRACE} bytes")
        content = read_records(_pread(self._fd, start, size - start), start=start)
        self._end = content.end
        self._new = size == 0
        torn = None
        if content.torn:
            torn = TornTail(size=len(content.torn), quarantine=self._quarantine(content.torn))
            os.ftruncate(self._fd, self._end)
        elif not content.complete:
            self._write(b"\n")
            self._end += 1
        return content.records, torn

    def _quarantine(self, data: bytes) -> Path:
        number = 1
        while True:
            name = f"{self._path.name}.torn-{number}"
            try:
                fd = self._files.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                number += 1
                continue
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            return self._path.with_name(name)


def _lock(fd: int) -> None:
    for attempt in range(_PROBES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == _PROBES - 1:
                raise
            time.sleep(_PROBE_PAUSE)
        else:
            return


def _pread(fd: int, offset: int, size: int) -> bytes:
    pieces = []
    while size > 0:
        piece = os.pread(fd, size, offset)
        if not piece:
            raise OSError(errno.EIO, "the trace became shorter while it was read")
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return b"".join(pieces)
