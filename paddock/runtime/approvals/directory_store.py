"""Approvals in a session's directory, beside its trace.

The trace has one writer: the process that runs the session. Answers come from another one, so
requests and answers have a file of their own, ``approvals.jsonl``: each line is an approval as
it is from then on. Lines are appended under a lock that is held for microseconds.
"""

from __future__ import annotations

import asyncio
import errno
import os
from io import FileIO
from typing import TYPE_CHECKING, TypeVar

from paddock._concurrency import finish
from paddock._directory import PrivateDirectory, lock_file
from paddock.errors import SessionError, TraceError
from paddock.runtime.approvals.records import approval_from, approval_to
from paddock.runtime.approvals.stores import Rows, Table, TransactionalStore
from paddock.runtime.conversation.trace import encode_record, read_records
from paddock.runtime.core.database import file_stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock.runtime.core.approval import Approval

__all__ = ["APPROVALS", "DirectoryApprovalStore"]

T = TypeVar("T")

APPROVALS = "approvals.jsonl"

MAX_FILE = 1 << 28
"""Bytes of the file that are read: arguments of thousands of calls. A sparse file can pretend to
hold any number."""


class DirectoryApprovalStore(TransactionalStore):
    """The approvals of the session in the directory `path`, agents that work for it included."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._files = PrivateDirectory(path)

    @property
    def path(self) -> Path:
        return self._files.path / APPROVALS

    def _stamp(self) -> object:
        return file_stamp(self.path)

    async def _do(self, work: Callable[[Rows], T], *, writing: bool) -> T:
        return await finish(asyncio.to_thread(self._transact, work, writing))

    def _transact(self, work: Callable[[Rows], T], writing: bool) -> T:
        try:
            return self._write(work) if writing else self._read(work)
        except (OSError, TraceError) as error:
            raise SessionError(f"cannot use the approvals in {self.path}: {error}") from error

    def _read(self, work: Callable[[Rows], T]) -> T:
        try:
            data = self._files.read(APPROVALS, MAX_FILE)
        except FileNotFoundError:
            data = b""
        return work(_table(data)[0])

    def _write(self, work: Callable[[Rows], T]) -> T:
        self._files.make()
        fd = self._files.open(APPROVALS, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        with FileIO(fd, "r+") as file:
            lock_file(fd, self.path)
            data = file.read(MAX_FILE)
            table, end = _table(data)
            result = work(table)
            if table.added:
                file.truncate(end)  # what a writer that died has not written whole
                lines = [] if data[:end].endswith(b"\n") or not end else [b"\n"]
                lines += [encode_record(_line(each)) for each in table.added]
                _append(file, b"".join(lines), end)
        return result


def _append(file: FileIO, lines: bytes, end: int) -> None:
    """Write `lines` at `end` to the disk, or nothing."""
    try:
        if file.write(lines) != len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _table(data: bytes) -> tuple[Table, int]:
    """Return what the lines say, and where the last one that is whole ends."""
    content = read_records(data)
    known = {}
    for record in content.records:
        approval = approval_from(record)
        known[approval.request.id] = approval
    return Table(known), content.end


def _line(approval: Approval) -> dict[str, object]:
    return {"type": "approval", **approval_to(approval)}
