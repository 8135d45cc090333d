"""What the code that runs in a sandbox answers about files and processes, checked and read."""

from __future__ import annotations

import json
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, TypeVar

from paddock.files import FileChange, FileInfo, GlobResult, GrepLine, GrepResult, TextLines
from paddock.process import ProcessInfo

__all__ = [
    "PROCESS_ID",
    "file_change",
    "file_info",
    "glob_result",
    "grep_result",
    "process_infos",
    "size_of",
    "text_lines",
]

T = TypeVar("T")

CHANGES = ("created", "changed", "removed")
PROCESS_ID = re.compile("[0-9a-f]{12}")
AGE_MAX = 10 * 365 * 86400
"""Seconds that a sandbox may live."""
EXIT_CODE_MAX = 255
PROCESSES_MAX = 1000
KINDS = ("file", "directory", "symlink", "other")


def size_of(body: Any) -> int:
    return _of(int, body["size"])


def file_info(entry: Any) -> FileInfo:
    path, kind, size, mode, modified, uid, gid = entry
    if kind not in KINDS:
        raise ValueError("unknown kind of file")
    return FileInfo(
        path=PurePosixPath(_of(str, path)),
        kind=kind,
        size=_of(int, size),
        mode=stat.S_IMODE(_of(int, mode)),
        modified=float(modified),
        uid=_of(int, uid),
        gid=_of(int, gid),
    )


def file_change(line: bytes) -> FileChange | None:
    if (told := json.loads(line)) is None:
        return None
    kind, path = told
    if kind not in CHANGES:
        raise ValueError("a change that no file has")
    return FileChange(kind=kind, path=PurePosixPath(_of(str, path)))


def text_lines(answer: Any) -> TextLines:
    (found,) = answer
    lines = tuple(_of(str, line) for line in found["lines"])
    return TextLines(lines=lines, total=_of(int, found["total"]), whole=_of(bool, found["whole"]))


def glob_result(answer: Any, root: PurePosixPath) -> GlobResult:
    (found,) = answer
    paths = tuple(root / _of(str, name) for name in found["paths"])
    return GlobResult(paths=paths, total=_of(int, found["total"]))


def grep_result(answer: Any) -> GrepResult:
    lines = [
        GrepLine(
            path=PurePosixPath(_of(str, name)),
            line=_of(int, number),
            text=_of(str, text),
            match=bool(match),
        )
        for name, number, text, match in (row for row in answer if isinstance(row, list))
    ]
    too_long = [PurePosixPath(row) for row in answer if isinstance(row, str)]
    return GrepResult(
        lines=tuple(lines), truncated=None in answer, too_long=too_long[0] if too_long else None
    )


def process_info(entry: Any) -> ProcessInfo:
    process_id, age = _of(str, entry["id"]), entry["age"]
    if not PROCESS_ID.fullmatch(process_id):
        raise ValueError("a process with an id that nobody gave it")
    if type(age) not in (int, float) or not 0 <= age <= AGE_MAX:
        raise ValueError("a process that began at no time")
    code, user = entry["exit_code"], entry["user"]
    if code is not None and not (type(code) is int and 0 <= code <= EXIT_CODE_MAX):
        raise ValueError("an exit code that no process has")
    return ProcessInfo(
        id=process_id,
        argv=tuple(_of(str, each) for each in _of(list, entry["argv"])),
        user=None if user is None else _of(str, user),
        started=datetime.now(UTC) - timedelta(seconds=age),
        exit_code=code,
        background=_of(bool, entry["background"]),
        pty=_of(bool, entry["pty"]),
        detached=_of(bool, entry["detached"]),
    )


def process_infos(answer: Any) -> list[ProcessInfo]:
    entries = _of(list, answer["processes"])
    if len(entries) > PROCESSES_MAX:
        raise ValueError(f"{len(entries)} processes, which is more than a list has")
    return [process_info(entry) for entry in entries]


def _of(kind: type[T], value: Any) -> T:
    """Return `value`. Raise `TypeError` if it is of another type."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value
