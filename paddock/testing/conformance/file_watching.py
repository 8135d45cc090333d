"""`FileSystem.watch`: changes below a directory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError
from paddock.testing.conformance.base import DEADLINE, Conformance, needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.filetypes import FileChange
    from paddock.sandbox import Sandbox

OFTEN = 0.2
"""Seconds between two looks, where there are looks."""


async def _until(changes: AsyncIterator[FileChange], kind: str, name: str) -> list[str]:
    """Return the changes up to one of that kind and name, as ``kind name``."""
    told: list[str] = []
    async with asyncio.timeout(DEADLINE):
        async for change in changes:
            told.append(f"{change.kind} {change.path.name}")
            if told[-1] == f"{kind} {name}":
                return told
    raise AssertionError(f"the end came before {kind} {name}: {told}")


class WatchTests(Conformance):
    async def test_what_is_made_changed_and_removed_is_told_at_any_depth(
        self, sandbox: Sandbox
    ) -> None:
        fs = sandbox.fs
        await fs.write_text("watched/old/file", "before")
        async with fs.watch("watched", interval=OFTEN) as changes:
            await fs.write_text("watched/new/below/file", "text")
            made = await _until(changes, "created", "file")
            assert made[-3:] == ["created new", "created below", "created file"]
            await fs.write_text("watched/old/file", "after it")
            assert "changed file" in await _until(changes, "changed", "file")
            await fs.write_text("watched/new/below/later", "text")
            await _until(changes, "created", "later")
            await fs.remove("watched/new", recursive=True)
            assert "removed later" in await _until(changes, "removed", "new")
        await fs.write_text("watched/afterwards", "nobody is told")

    @needs("shell")
    async def test_changes_of_commands_are_told_with_their_whole_paths(
        self, sandbox: Sandbox
    ) -> None:
        await sandbox.fs.mkdir("watched")
        async with sandbox.fs.watch("watched", interval=OFTEN) as changes:
            await sandbox.exec("cd watched; for n in 1 2 3; do mkdir -p d$n; echo x >d$n/f; done")
            await sandbox.exec("mv watched/d1/f watched/moved")
            found = {}
            async with asyncio.timeout(DEADLINE):
                async for change in changes:
                    found[change.path] = change.kind
                    if change.path == sandbox.path("watched/moved"):
                        break
            assert found[sandbox.path("watched/d3/f")] == "created"

    async def test_watching_ends_with_the_directory(self, sandbox: Sandbox) -> None:
        await sandbox.fs.write_text("watched/file", "text")
        async with sandbox.fs.watch("watched", interval=OFTEN) as changes:
            await sandbox.fs.remove("watched", recursive=True)
            async with asyncio.timeout(DEADLINE):
                assert [change.kind async for change in changes] == ["removed"]

    async def test_what_cannot_be_watched_is_refused(self, sandbox: Sandbox) -> None:
        await sandbox.fs.write_text("file", "text")
        for path, error in (("missing", FileNotFoundError), ("file", NotADirectoryError)):
            with pytest.raises(error):
                async with sandbox.fs.watch(path):
                    pass
        with pytest.raises(ConfigError, match="interval=0"):
            sandbox.fs.watch(".", interval=0)
