"""Image contexts as one archive: builders of the service rewrite each entry as a regular file, so
that links come out empty and empty directories not at all.

The archive is unpacked by the Dockerfile, in a stage of its own that its instructions copy from.
"""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from paddock.image.instructions import read_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from paddock.image.bundle import Member
    from paddock.image.instructions import Instruction

__all__ = ["ARCHIVE", "is_lossy", "unpacking", "write_archive"]

ARCHIVE = "paddock-context.tar"
STAGE = "paddock-context"
UNPACK = f"FROM scratch AS {STAGE}\nADD {ARCHIVE} /\n"
KEYWORD = re.compile(r"\w+")
FROM_STAGE = re.compile(r"(?<=--from=)\d+(?=\s)")
MOUNT = re.compile(r"--mount=type=bind(?![^\s]*\bfrom=)[^\s]*")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""What ADD unpacks itself."""
REMOTE = re.compile(r"[a-z]+://|git@", re.IGNORECASE)
END = bytes(1024)
"""Of a tar."""


def is_lossy(members: Sequence[Member]) -> bool:
    """Whether such a builder would lose something of a context."""
    above = {name for member in members for name in _above(member.name)}
    return any(
        stat.S_ISLNK(member.mode) or (stat.S_ISDIR(member.mode) and member.name not in above)
        for member in members
    )


def _above(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def write_archive(members: Iterable[Member], path: Path) -> None:
    """Write them as a tar that is the same whenever they are."""
    with path.open("wb") as file:
        for member in sorted(members, key=lambda member: member.name):
            file.writelines(replace(member, modified=0.0).tar())
        file.write(END)


def unpacking(dockerfile: str) -> tuple[str, bool]:
    """Return a Dockerfile that unpacks the archive and copies from it what it copied from its
    context; and whether it needs the files themselves as well, for an ADD that unpacks one."""
    lines = re.split(r"(?<=\n)", dockerfile)
    instructions = read_source(dockerfile).instructions
    starts = [each.line - 1 for each in instructions]
    written = lines[: min(starts, default=len(lines))]
    begun = needs_files = False
    for each, (start, end) in zip(instructions, pairwise([*starts, len(lines)]), strict=True):
        text = "".join(lines[start:end])
        if each.keyword == "FROM" and not begun:
            begun = True
            text = UNPACK + text
        elif each.keyword in ("COPY", "ADD") and not each.onbuild:
            text, is_copied = _copying(each, text)
            needs_files = needs_files or not is_copied
        elif each.keyword == "RUN" and not each.onbuild:
            text = _mounting(each, text)
        written.append(text)
    return "".join(written), needs_files


def _copying(instruction: Instruction, text: str) -> tuple[str, bool]:
    """Return a COPY or an ADD that copies from the archive, and whether it can."""
    if "from" in dict(instruction.flags):
        return FROM_STAGE.sub(lambda number: str(int(number[0]) + 1), text, count=1), True
    if instruction.heredocs:
        return text, True
    if instruction.keyword == "ADD" and not _is_plain(instruction.text):
        return text, False
    return KEYWORD.sub(f"COPY --from={STAGE}", text, count=1), True


def _is_plain(arguments: str) -> bool:
    """Whether an ADD only copies."""
    sources = re.findall(r"[^\s\"',\[\]\\]+", arguments)[:-1]
    return not any(REMOTE.match(each) or each.lower().endswith(ARCHIVES) for each in sources)


def _mounting(instruction: Instruction, text: str) -> str:
    """Return a RUN that mounts from the archive what it mounted from its context."""
    count = sum(bool(MOUNT.fullmatch(f"--{name}={told}")) for name, told in instruction.flags)
    return MOUNT.sub(rf"\g<0>,from={STAGE}", text, count=count) if count else text
