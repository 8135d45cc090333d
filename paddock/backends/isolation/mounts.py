"""What this process's mounts show where, as ``/proc/self/mountinfo`` tells it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Mount", "parse", "shows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line: a file system's type, device and options, its directory `root` seen at `top`."""

    kind: str
    device: str
    options: tuple[str, ...]
    root: str
    top: Path


def parse(text: str) -> Iterator[Mount]:
    """Read ``mountinfo``."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        device, root, top = before.split(" ")[2:5]
        kind, _, options = after.split(" ", 2)
        yield Mount(
            kind=kind,
            device=device,
            options=tuple(options.split(",")),
            root=_unescaped(root),
            top=Path(_unescaped(top)),
        )


def shows(path: Path, target: Path) -> bool:
    """Return whether `target` can be seen at `path` or below it, through whichever mount.

    Both are absolute and without links. False where the system has no such table.
    """
    try:
        found = list(parse(Path("/proc/self/mountinfo").read_text()))
    except FileNotFoundError:
        return False
    device, wanted = _on_disk(found, target)
    here = [_on_disk(found, path)]
    below = [
        (each.device, PurePosixPath(each.root)) for each in found if each.top.is_relative_to(path)
    ]
    return any(device == other and wanted.is_relative_to(part) for other, part in here + below)


def _on_disk(mounts: list[Mount], path: Path) -> tuple[str, PurePosixPath]:
    """The device and the path on it; the last mount over a directory is the one that is seen."""
    last = max(
        (index for index, mount in enumerate(mounts) if path.is_relative_to(mount.top)),
        key=lambda index: (len(mounts[index].top.parts), index),
    )
    mount = mounts[last]
    return mount.device, PurePosixPath(mount.root) / path.relative_to(mount.top)


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)
