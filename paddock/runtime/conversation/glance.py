"""A look at a trace that somebody may be writing, without reading or locking the whole.

Knows no state.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from paddock.runtime.conversation.directory import TRACE
from paddock.runtime.conversation.trace import MAX_TRACE

if TYPE_CHECKING:
    from paddock.runtime.conversation.directory import SessionDirectory

__all__ = ["last_status", "mentions"]

TAIL = 4096
"""Bytes at the end that hold the record of a run's end, which is short."""

_UNESCAPED = re.compile(rb"[a-z0-9 ]+")
"""What stands in a line of JSON as it is, whatever wrote the line."""


def last_status(directory: SessionDirectory) -> str | None:
    """How the last run ended; None if it has not, or if nothing can be read."""
    try:
        with directory.files.open_reader(TRACE) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            last = file.read(2 * TAIL).rstrip(b"\n").rpartition(b"\n")[2]
    except OSError:
        return None
    record = _parsed(last)
    status = record.get("status") if record.get("type") == "run_end" else None
    return status if isinstance(status, str) else None


def mentions(directory: SessionDirectory, text: str) -> bool:
    """Whether a message in the trace holds `text`, in any case of letters.

    False for what is no trace of ours: a link, or larger than `MAX_TRACE`.
    """
    wanted = text.lower()
    # Most lines need no parsing: what JSON leaves as it is has to be there as it is.
    plain = max(_UNESCAPED.findall(wanted.encode(errors="replace")), key=len, default=b"")
    try:
        with directory.files.open_reader(TRACE) as file:
            if os.fstat(file.fileno()).st_size > MAX_TRACE:
                return False
            return any(plain in line.lower() and wanted in _said(line) for line in file)
    except OSError:
        return False


def _said(line: bytes) -> str:
    """What a message says, in lower case; nothing for other records."""
    record = _parsed(line)
    content = record.get("content") if record.get("type") == "message" else None
    if isinstance(content, list):
        content = "\n".join(str(part.get("text")) for part in content if isinstance(part, dict))
    return content.lower() if isinstance(content, str) else ""


def _parsed(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        record = json.loads(line)
        if isinstance(record, dict):
            return record
    return {}
