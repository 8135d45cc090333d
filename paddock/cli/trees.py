"""What an agent changed: the files of a sandbox before and after, and the difference."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from rich.text import Text

from paddock.cli.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from paddock.sandbox import Sandbox

__all__ = ["diff", "snapshot"]

DEPTH = 16
"""Levels of directories that are looked into."""

_STYLES = {"+++": "bold", "---": "bold", "@@": "cyan", "+": "green", "-": "red"}


async def snapshot(sandbox: Sandbox) -> dict[str, str]:
    """The text of every file below the working directory, but for what tools made there, and
    without secrets."""
    entries = await sandbox.fs.list(".", depth=DEPTH)
    return {
        str(entry.path.relative_to(sandbox.working_dir)): (
            sandbox.redactor.data(await sandbox.fs.read_bytes(entry.path))
        ).decode(errors="replace")
        for entry in entries
        if entry.kind == "file"
    }


def diff(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Text]:
    """The change from `before` to `after`, as coloured lines of a unified diff."""
    for name in sorted(before.keys() | after.keys()):
        lines = difflib.unified_diff(
            before.get(name, "").splitlines(),
            after.get(name, "").splitlines(),
            f"a/{name}" if name in before else "/dev/null",
            f"b/{name}" if name in after else "/dev/null",
            lineterm="",
        )
        yield from map(_coloured, lines)


def _coloured(line: str) -> Text:
    style = next((style for start, style in _STYLES.items() if line.startswith(start)), "")
    return Text(plain(line), style=style)
