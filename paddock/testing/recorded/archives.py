"""Archives of a recording: without secrets, and told by what is in them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.redaction import Redactor

__all__ = ["manifest", "redacted_archive"]


def redacted_archive(data: bytes, redactor: Redactor) -> bytes:
    """Return an archive whose files and names have no secrets; it is whole, unlike cut bytes."""
    if not redactor:
        return data
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive,
        tarfile.open(fileobj=made, mode="w", errors="surrogateescape") as other,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            redacted = redactor.data(content.read()) if content else b""
            kept = tarfile.TarInfo(redactor.text(member.name))
            for field in ("mode", "uid", "gid", "uname", "gname", "mtime"):
                setattr(kept, field, getattr(member, field))
            kept.type = tarfile.REGTYPE if content else member.type
            kept.linkname = redactor.text(member.linkname)
            kept.size = len(redacted)
            other.addfile(kept, io.BytesIO(redacted))
    return made.getvalue()


def manifest(data: bytes) -> dict[str, str]:
    """Return what is in an archive, without times: a checkout has others each time."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            digest = hashlib.sha256(content.read() if content else member.linkname.encode())
            found[member.name] = f"{member.mode:o} {digest.hexdigest()[:16]}"
    return found
