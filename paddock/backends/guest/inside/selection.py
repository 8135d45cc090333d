"""What of a tree is carried, and a bounded account of what is not; used on both ends."""

from __future__ import annotations

import os
import stat

from .tar import BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, FILE, HARD_LINK, PIPE, SOCKET, SYMLINK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .ignored import IgnoreRules

__all__ = ["KINDS", "LEFT_OUT_MAX", "PATH_MAX", "PATH_SHOWN", "TOO_LONG", "Selection"]

PATH_MAX = 4096
"""Bytes of a path, with its end, that Linux takes; a longer one cannot be opened by name."""

LEFT_OUT_MAX = 100
"""Entries that were left out which are named; the others are counted."""
PATH_SHOWN = 4096
"""Characters of a path that are kept of these."""
TOO_LONG = "its path, name or target is too long"
SET_ID = stat.S_ISUID | stat.S_ISGID

KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: PIPE,
    stat.S_IFSOCK: SOCKET,
}
CARRIED = {FILE, DIRECTORY, SYMLINK, HARD_LINK}
SPECIAL = {
    CHARACTER_DEVICE: "a character device",
    BLOCK_DEVICE: "a block device",
    PIPE: "a named pipe",
    SOCKET: "a socket",
}


class Selection:
    """Decides for one transfer, and counts.

    `links` is "keep", "skip" or "refuse". With a `root`, the path of the tree in a sandbox,
    links are kept only if they stay in the tree. `room` is how long a path in the tree can be,
    its end included.
    """

    def __init__(
        self,
        rules: IgnoreRules | None = None,
        *,
        links: str = "keep",
        root: str | None = None,
        room: int = PATH_MAX,
    ) -> None:
        self._rules = rules
        self.root = root
        self._links = links
        self._room = room
        self.files = 0
        self.bytes = 0
        self.left_out: list[tuple[str, str]] = []
        self.left_out_total = 0

    def ignores(self, path: str, is_folder: bool) -> bool:
        return self._rules is not None and self._rules.ignores(path, is_folder)

    def takes(self, path: str, kind: bytes, mode: int) -> bool:
        """Return whether an entry is carried. Raise `ValueError` for a link that is refused."""
        if kind == SYMLINK and self._links == "refuse":
            raise ValueError(f"the tree has a symbolic link: {path[:PATH_SHOWN]!r}")
        if len(os.fsencode(path)) >= self._room:
            self.leave_out(path, TOO_LONG)
        elif kind == SYMLINK and self._links == "skip":
            self.leave_out(path, "a symbolic link")
        elif kind not in CARRIED:
            self.leave_out(path, SPECIAL.get(kind, "of an unknown kind"))
        else:
            if mode & SET_ID and kind != SYMLINK:
                self.leave_out(path, "carried without its set-id bits")
            return True
        return False

    def leave_out(self, path: str, reason: str) -> None:
        self.left_out_total += 1
        if len(self.left_out) < LEFT_OUT_MAX:
            self.left_out.append((path[:PATH_SHOWN], reason))
