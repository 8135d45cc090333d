"""Image contexts as one archive: builders of the service rewrite each entry as a regular file, so
that links come out empty and empty directories not at all.

The archive is unpacked by the Dockerfile, in a stage of its own that its instructions copy from.
"""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from paddock.image.bundle import Member

__all__ = ["ARCHIVE", "is_lossy", "unpacking", "write_archive"]

ARCHIVE = "paddock-context.tar"
STAGE = "paddock-context"
UNPACK = f"FROM scratch AS {STAGE}\nADD {ARCHIVE} /\n"
INSTRUCTION = re.compile(r"(\s*)([A-Za-z]+)(?=\s|$)")
HEREDOC = re.compile(r"<<-?\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1")
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
    written: list[str] = []
    begun = needs_files = False
    for instruction, rest in _instructions(dockerfile):
        text = instruction
        match = INSTRUCTION.match(text)
        word = match[2].upper() if match else ""
        if word == "FROM" and not begun:
            begun = True
            text = UNPACK + text
        elif match and word in ("COPY", "ADD"):
            text, is_copied = _copying(text, match, word)
            needs_files = needs_files or not is_copied
        elif word == "RUN":
            text = MOUNT.sub(lambda mount: f"{mount[0]},from={STAGE}", text)
        written.append(text + rest)
    return "".join(written), needs_files


def _copying(text: str, match: re.Match[str], word: str) -> tuple[str, bool]:
    """Return a COPY or an ADD that copies from the archive, and whether it can."""
    if "--from=" in text:
        return FROM_STAGE.sub(lambda number: str(int(number[0]) + 1), text), True
    if HEREDOC.search(text):
        return text, True
    if word == "ADD" and not _is_plain(text[match.end() :]):
        return text, False
    return f"{match[1]}COPY --from={STAGE}{text[match.end() :]}", True


def _is_plain(arguments: str) -> bool:
    """Whether an ADD only copies."""
    words = re.findall(r"[^\s\"',\[\]\\]+", arguments)
    sources = [word for word in words if not word.startswith("--")][:-1]
    return not any(REMOTE.match(each) or each.lower().endswith(ARCHIVES) for each in sources)


def _instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Instructions with the lines that continue them, and the heredocs that follow; comments and
    empty lines, too. Together they are the whole text."""
    lines = iter(dockerfile.splitlines(keepends=True))
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            yield line, ""
            continue
        text = last = line
        while last and last.rstrip().endswith("\\"):
            last = next(lines, "")
            text += last
            while last.lstrip().startswith("#"):  # comments do not end what is continued
                last = next(lines, "")
                text += last
        rest = ""
        for match in HEREDOC.finditer(text):
            for following in lines:
                rest += following
                if following.strip() == match[2]:
                    break
        yield text, rest
