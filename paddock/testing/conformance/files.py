"""`Sandbox.fs`: names of pathlib, errors of pathlib, any name that a file can have."""

from __future__ import annotations

import asyncio
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from paddock.errors import FileChanged
from paddock.testing.conformance.base import Conformance, needs
from paddock.testing.conformance.watch import resident

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.sandbox import Sandbox

NAMES = [
    "plain",
    " lead and trail ",
    "-rf",
    "--help",
    ".hidden",
    "new\nline",
    "tab\tand\\back",
    "$(touch hacked)",
    "`id`",
    "quote'\"",
    "*?[a]{b}",
    "~",
    "über-ﬁ-日本",
    "\udcff\udcfe-not-utf8",
    "x" * 255,
]


async def _use(sandbox: Sandbox, name: str) -> None:
    fs = sandbox.fs
    folder = PurePosixPath("d") / name
    path = folder / name
    await fs.write_text(path, "first needle\nsecond\n")
    assert await fs.read_text(path) == "first needle\nsecond\n"
    assert (await fs.read_lines(path, start=2)).lines == ("second",)
    assert (await fs.stat(path)).size == 20
    assert [entry.path for entry in await fs.list(folder)] == [sandbox.path(path)]
    assert sandbox.path(path) in (await fs.glob("**", "d")).paths
    found = await fs.grep("needle", folder)
    assert [(line.path, line.line, line.text) for line in found.lines] == [
        (sandbox.path(path), 1, "first needle")
    ]
    assert (await sandbox.exec(["cat", "--", str(path)])).stdout.startswith("first")
    await fs.move(path, folder / "moved")
    assert not await fs.exists(path)
    await fs.remove(folder, recursive=True)
    assert not await fs.exists(folder)


class FileTests(Conformance):
    async def test_any_name_works_with_every_method(self, sandbox: Sandbox) -> None:
        async with asyncio.TaskGroup() as group:
            for name in NAMES:
                group.create_task(_use(sandbox, name))
        assert [entry.name for entry in await sandbox.fs.list()] == ["d"], "a name was obeyed"

    async def test_what_is_not_there_is_told_by_its_builtin_error(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await fs.mkdir("folder")
        await fs.write_text("file", "x")
        with pytest.raises(FileNotFoundError, match="nothing"):
            await fs.read_bytes("nothing")
        with pytest.raises(FileNotFoundError):
            await fs.stat("nothing")
        with pytest.raises(FileNotFoundError):
            await fs.list("nothing")
        with pytest.raises(FileNotFoundError):
            await fs.remove("nothing")
        with pytest.raises(FileNotFoundError):
            await fs.grep("x", "nothing")
        with pytest.raises(IsADirectoryError):
            await fs.read_bytes("folder")
        with pytest.raises(IsADirectoryError):
            await fs.write_text("folder", "x")
        with pytest.raises(NotADirectoryError):
            await fs.list("file")
        with pytest.raises(FileExistsError):
            await fs.mkdir("folder", exist_ok=False)
        with pytest.raises(OSError, match="empty"):
            await fs.write_text("folder/full", "x")
            await fs.remove("folder")

    async def test_what_is_no_file_is_refused_at_once(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await sandbox.exec("mkdir folder; mkfifo pipe; ln -s pipe link", check=True)
        names = ["pipe", "link", "folder", "/dev/zero", "/dev/tty"]
        if not (await sandbox.exec("head -c0 /proc/kmsg")).ok:
            names.append("/proc/kmsg")  # who may open it waits there for news of the kernel
        reading: list[Callable[[str], Awaitable[object]]] = [
            fs.read_bytes,
            fs.read_lines,
            fs.read_text,
        ]
        refused = r"regular|No such|ermi|device|directory"
        for name in names:
            for read in reading:
                async with asyncio.timeout(60):  # they would never end
                    with pytest.raises(OSError, match=refused):
                        await read(name)
            with pytest.raises(OSError, match=f"{refused}|Read-only|create"):
                await fs.write_text(name, "x")
        assert (await fs.grep("x", ".")).lines == ()

    async def test_bytes_of_any_kind_and_size_come_back(self, sandbox: Sandbox) -> None:
        data = b""
        for size in (0, 1, 65536, 1024 * 1024, 1024 * 1024 + 1, 2_500_000):
            data = os.urandom(size)
            await sandbox.fs.write_bytes("data", data)
            assert await sandbox.fs.read_bytes("data") == data
        assert await sandbox.fs.read_bytes("data", offset=10, limit=20) == data[10:30]
        assert await sandbox.fs.read_bytes("data", offset=10**9) == b""

    @needs("shell")
    async def test_a_file_too_large_for_memory_is_refused_and_read_in_parts(
        self, sandbox: Sandbox
    ) -> None:
        await sandbox.exec("truncate -s 1T sparse", check=True)
        before = resident()
        with pytest.raises(OSError, match="1099511627776 bytes"):
            await sandbox.fs.read_bytes("sparse")
        part = await sandbox.fs.read_bytes("sparse", offset=10**11, limit=3)
        assert part == b"\0\0\0"
        assert resident() - before < 16 * 1024 * 1024

    async def test_a_write_replaces_keeps_the_mode_and_follows_a_link(
        self, sandbox: Sandbox
    ) -> None:
        fs = sandbox.fs
        await fs.write_text("script", "old")
        await sandbox.exec("chmod 750 script; ln -s script link", check=True)
        await fs.write_text("link", "new")
        assert await fs.read_text("script") == "new"
        assert (await fs.stat("script")).mode == 0o750
        assert (await sandbox.exec("readlink link")).stdout == "script\n"
        assert (await sandbox.exec("ls -A")).stdout.split() == ["link", "script"]  # nothing else

    async def test_exclusive_and_expected_writes(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await fs.write_text("a", "1")
        with pytest.raises(FileExistsError):
            await fs.write_bytes("a", b"2", exclusive=True)
        with pytest.raises(FileChanged):
            await fs.write_bytes("a", b"2", expect=b"0")
        assert await fs.read_text("a") == "1"
        await fs.write_bytes("a", b"2", expect=b"1")
        await fs.write_bytes("b", b"new", exclusive=True)
        assert (await fs.read_text("a"), await fs.read_text("b")) == ("2", "new")
        assert (await sandbox.exec("ls -A")).stdout.split() == ["a", "b"]

    async def test_lines_are_counted_cut_and_bounded(self, sandbox: Sandbox) -> None:
        await sandbox.fs.write_bytes("t", b"one\r\ntwo\n" + b"x" * 3_000_000 + b"\n\xff\nlast")
        text = await sandbox.fs.read_lines("t")
        assert text.total == 5
        assert text.lines == ("one", "two", "x" * 500 + "...", "\ufffd", "last")
        part = await sandbox.fs.read_lines("t", start=2, limit=1)
        assert (part.lines, part.total) == (("two",), 5)
        await sandbox.fs.write_bytes("empty", b"")
        assert (await sandbox.fs.read_lines("empty")).total == 0

    async def test_list_goes_down_as_far_as_asked(self, sandbox: Sandbox) -> None:
        for name in ("a/b/c/d", ".h/x", "node_modules/m", "z"):
            await sandbox.fs.write_text(name, "")

        async def names(**options: object) -> list[str]:
            found = await sandbox.fs.list(".", **options)  # type: ignore[arg-type]
            return [str(entry.path.relative_to(sandbox.working_dir)) for entry in found]

        assert await names() == [".h", "a", "node_modules", "z"]
        assert await names(hidden=False) == ["a", "node_modules", "z"]
        assert await names(depth=3) == [".h", ".h/x", "a", "a/b", "a/b/c", "node_modules", "z"]
        assert await names(depth=9, limit=2) == [".h", ".h/x"]

    async def test_glob_patterns(self, sandbox: Sandbox) -> None:
        for name in ("a.py", "x/b.py", "x/y/c.py", "x/y/c.txt", ".git/d.py", "x/.e.py"):
            await sandbox.fs.write_text(name, "")

        async def names(pattern: str, path: str = ".") -> list[str]:
            found = await sandbox.fs.glob(pattern, path)
            assert found.total == len(found.paths)
            return [str(found_path.relative_to(sandbox.working_dir)) for found_path in found.paths]

        assert await names("*.py") == ["a.py", "x/.e.py", "x/b.py", "x/y/c.py"]
        assert await names("x/*.py") == ["x/.e.py", "x/b.py"]
        assert await names("x/**/*.{py,txt}") == ["x/.e.py", "x/b.py", "x/y/c.py", "x/y/c.txt"]
        assert await names("[!a].py") == ["x/b.py", "x/y/c.py"]
        assert await names("?.py", "x") == ["x/b.py", "x/y/c.py"]
        limited = await sandbox.fs.glob("*.py", limit=1)
        assert (len(limited.paths), limited.total) == (1, 4)

    async def test_grep_finds_context_and_stops_at_its_limit(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await fs.write_text("a.txt", "1\n2 Needle\n3\n4\n5 needle\n")
        await fs.write_text("b.md", "needle\n")
        await fs.write_bytes("binary", b"needle\0")
        await fs.write_text(".git/c.txt", "needle\n")

        async def rows(pattern: str, **options: object) -> list[tuple[str, int, bool]]:
            found = await fs.grep(pattern, **options)  # type: ignore[arg-type]
            return [(line.path.name, line.line, line.match) for line in found.lines]

        assert await rows("needle") == [("a.txt", 5, True), ("b.md", 1, True)]
        assert await rows("^. needle$", ignore_case=True) == [
            ("a.txt", 2, True),
            ("a.txt", 5, True),
        ]
        assert await rows("needle", glob="*.md") == [("b.md", 1, True)]
        assert await rows("Needle", context=1) == [
            ("a.txt", 1, False),
            ("a.txt", 2, True),
            ("a.txt", 3, False),
        ]
        assert await rows("needle", path="a.txt") == [("a.txt", 5, True)]
        limited = await fs.grep("needle", ignore_case=True, limit=2)
        assert limited.truncated
        assert sum(line.match for line in limited.lines) == 2
        assert await rows("absent") == []
        with pytest.raises(ValueError, match="pattern"):
            await fs.grep("(unclosed")

    async def test_a_cancelled_search_leaves_nothing_running(self, sandbox: Sandbox) -> None:
        task = asyncio.create_task(sandbox.fs.glob("**", "/usr"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sandbox.fs.write_text("x", "still fine")

    async def test_writers_at_once_leave_one_whole_file(self, sandbox: Sandbox) -> None:
        contents = [bytes([number]) * 300_000 for number in range(8)]
        await asyncio.gather(*(sandbox.fs.write_bytes("f", data) for data in contents))
        assert await sandbox.fs.read_bytes("f") in contents
        assert (await sandbox.exec("ls -A")).stdout == "f\n"
