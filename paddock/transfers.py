"""Options and results of uploads and downloads.

Part of the contract of `paddock.files`. Independent of file systems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import PurePosixPath

__all__ = ["DEFAULT_IGNORE", "SKIPPED", "LeftOut", "Links", "Transfer", "TransferCallback", "Tree"]

SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".venv", "venv"})
"""Directories that searches do not enter: what tools made, not what people wrote."""

DEFAULT_IGNORE = tuple(
    sorted(SKIPPED | {".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
)
"""Patterns that an upload ignores by default."""

Links = Literal["keep", "skip", "refuse"]
"""What happens to symbolic links: `keep` those that can do no harm, `skip` all, or `refuse` a
tree that has any with `ValueError`, before anything appears at the destination."""

TransferCallback = Callable[[int, int | None], None]
"""Called on the event loop with the bytes carried so far, and with their total if it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An entry that was left out or changed, and the `reason`; `path` is relative to the tree."""

    path: PurePosixPath
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """The result of an upload or a download: the number of `files`, and of `bytes` in them.

    `left_out` has the first hundred entries that were left out, `left_out_total` counts all.
    Ignored entries are not among them.
    """

    files: int
    bytes: int
    left_out: tuple[LeftOut, ...] = ()
    left_out_total: int = 0

    def __str__(self) -> str:
        """Describe what was left out; empty if nothing was."""
        if not self.left_out_total:
            return ""
        shown = ", ".join(f"{each.path} ({each.reason})" for each in self.left_out[:3])
        more = self.left_out_total - min(len(self.left_out), 3)
        return f"left out {shown}" + (f" and {more} more" if more else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Options for copying a tree; see `FileSystem.upload`."""

    ignore: tuple[str, ...] = ()
    gitignore: bool = False
    links: Links = "keep"
    on_progress: TransferCallback | None = None
