"""Files and trees between this machine and a sandbox, in both directions."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance.base import Conformance, needs

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from paddock.sandbox import Sandbox


def _tree(root: Path) -> dict[bytes, tuple[int, bytes]]:
    """Every entry below `root`: mode and contents (or the target of a link)."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            else:
                content = b"" if stat.S_ISDIR(mode) else Path(os.fsdecode(path)).read_bytes()
            found[os.path.relpath(path, os.fsencode(root))] = (mode, content)
    return found


class TransferTests(Conformance):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        root = tmp_path / "tree"
        (root / "deep" / "er").mkdir(parents=True)
        (root / "deep" / "er" / "big").write_bytes(os.urandom(3_000_000))
        (root / "run.sh").write_text("#!/bin/sh\necho ran\n")
        (root / "run.sh").chmod(0o755)
        (root / "new\nline").write_text("")
        (root / os.fsdecode(b"\xff\xfe")).write_text("bytes")
        (root / ("n" * 255)).write_text("long")
        (root / "link").symlink_to("deep/er")
        (root / "empty").mkdir()
        for name in (".git", "node_modules", "__pycache__", ".venv"):
            (root / name).mkdir()
            (root / name / "x").write_text("left out")
        return root

    async def test_a_tree_goes_up_and_comes_back_the_same(
        self, sandbox: Sandbox, tree: Path, tmp_path: Path
    ) -> None:
        await sandbox.fs.upload(tree, "up", ignore=())
        assert (await sandbox.exec("./up/run.sh")).stdout == "ran\n"
        await sandbox.fs.download("up", tmp_path / "back")
        assert _tree(tmp_path / "back") == _tree(tree)

    async def test_tool_made_directories_are_left_out_of_an_upload(
        self, sandbox: Sandbox, tree: Path
    ) -> None:
        await sandbox.fs.upload(tree, "up")
        listed = (await sandbox.exec("ls -A up")).stdout
        for name in (".git", "node_modules", "__pycache__", ".venv"):
            assert name not in listed

    async def test_a_tree_is_merged_into_what_is_there(
        self, sandbox: Sandbox, tree: Path, tmp_path: Path
    ) -> None:
        await sandbox.fs.write_text("up/deep/mine", "kept")
        await sandbox.fs.write_text("up/run.sh", "replaced")
        await sandbox.fs.upload(tree, "up")
        assert await sandbox.fs.read_text("up/deep/mine") == "kept"
        assert (await sandbox.exec("./up/run.sh")).stdout == "ran\n"
        (tmp_path / "back" / "up").mkdir(parents=True)
        (tmp_path / "back" / "up" / "other").write_text("here before")
        await sandbox.fs.download("up", tmp_path / "back" / "up")
        assert (tmp_path / "back" / "up" / "other").read_text() == "here before"
        assert (tmp_path / "back" / "up" / "deep" / "mine").read_text() == "kept"

    async def test_one_file_goes_up_and_comes_back(self, sandbox: Sandbox, tmp_path: Path) -> None:
        data = os.urandom(5_000_001)
        (tmp_path / "file").write_bytes(data)
        (tmp_path / "file").chmod(0o750)
        await sandbox.fs.upload_file(tmp_path / "file", "new/place")
        assert (await sandbox.fs.stat("new/place")).mode == 0o750
        await sandbox.fs.download_file("new/place", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
        await sandbox.fs.upload(tmp_path / "file", "by-upload")
        await sandbox.fs.download("by-upload", tmp_path / "by-download")
        assert (tmp_path / "by-download").read_bytes() == data

    async def test_what_cannot_be_sent_is_told_and_leaves_nothing(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        with pytest.raises(FileNotFoundError):
            await sandbox.fs.upload(tmp_path / "absent", "x")
        with pytest.raises(FileNotFoundError):
            await sandbox.fs.download("absent", tmp_path / "x")
        with pytest.raises(FileNotFoundError):
            await sandbox.fs.download_file("absent", tmp_path / "x")
        with pytest.raises(IsADirectoryError):
            await sandbox.fs.download_file(".", tmp_path / "x")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="regular"):
            await sandbox.fs.upload_file(tmp_path / "pipe", "x")
        (tmp_path / "file").write_text("x")
        await sandbox.fs.mkdir("folder")
        with pytest.raises(IsADirectoryError):
            await sandbox.fs.upload_file(tmp_path / "file", "folder")
        assert not (tmp_path / "x").exists()
        assert (await sandbox.exec("ls -A . folder")).stdout.split() == [".:", "folder", "folder:"]

    async def test_links_are_kept_where_they_cannot_hurt(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        up = tmp_path / "up"
        (up / "d").mkdir(parents=True)
        (up / "f").write_text("contents")
        targets = {"absolute": "/etc/passwd", "up": "../../x", "d/in": "../f", "late": "d/../f"}
        for name, target in targets.items():
            (up / name).symlink_to(target)
        os.mkfifo(up / "pipe")
        sent = await sandbox.fs.upload(up, "up")
        assert (sent.files, sent.bytes, str(sent)) == (1, 8, "left out pipe (a named pipe)")
        for name, target in targets.items():
            assert (await sandbox.exec(["readlink", f"up/{name}"])).stdout == f"{target}\n"

        made = "mkfifo up/pipe; ln -s $PWD/up/f up/d/own; chmod 755 up/f; chmod u+s up/f || true"
        await sandbox.exec(made, check=True)
        got = await sandbox.fs.download("up", tmp_path / "back")
        kept = {"d/in": "../f", "late": "d/../f", "d/own": "../f"}
        assert {name: os.readlink(tmp_path / "back" / name) for name in kept} == kept
        assert sorted(os.listdir(tmp_path / "back")) == ["d", "f", "late"]
        assert (tmp_path / "back" / "f").stat().st_mode & 0o7777 == 0o755
        left_out = {str(each.path): each.reason for each in got.left_out}
        left_out.pop("f", None)  # where no file can have a set-id bit
        assert set(left_out) == {"absolute", "pipe", "up"}
        assert "leads out" in left_out["absolute"]
        assert (got.files, got.bytes) == (1, 8)

    async def test_links_are_skipped_or_refused_on_demand(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        (tmp_path / "up").mkdir()
        (tmp_path / "up" / "f").write_text("x")
        (tmp_path / "up" / "link").symlink_to("f")
        with pytest.raises(ValueError, match="symbolic link: 'link'"):
            await sandbox.fs.upload(tmp_path / "up", "new/up", links="refuse")
        assert not await sandbox.fs.exists("new")
        sent = await sandbox.fs.upload(tmp_path / "up", "up", links="skip")
        assert (sent.left_out_total, (await sandbox.exec("ls up")).stdout) == (1, "f\n")
        await sandbox.exec("ln -s f up/link", check=True)
        with pytest.raises(ValueError, match="symbolic link: 'link'"):
            await sandbox.fs.download("up", tmp_path / "down", links="refuse")
        assert not (tmp_path / "down").exists()
        got = await sandbox.fs.download("up", tmp_path / "down", links="skip")
        assert (got.left_out_total, os.listdir(tmp_path / "down")) == (1, ["f"])

    @needs("shell")
    async def test_ignored_entries_stay_behind_in_both_directions(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        up = tmp_path / "up"
        for name in (
            "a.log",
            "keep.log",
            "b/a.log",
            "b/out",
            "c/out",
            "b/c/out",
            ".git/x",
            "n/n/x",
        ):
            (up / name).parent.mkdir(parents=True, exist_ok=True)
            (up / name).write_text("x")
        (up / ".gitignore").write_text("*.log\n!keep.log\n/b/out\n")
        (up / "b" / ".gitignore").write_text("!a.log\nc/\n")
        kept = {".gitignore", "b", "b/.gitignore", "b/a.log", "c", "c/out", "keep.log"}
        sent = await sandbox.fs.upload(up, "some", gitignore=True, ignore=[".git", "n"])
        found = (await sandbox.exec("find some -mindepth 1")).stdout.split()
        assert {name.removeprefix("some/") for name in found} == kept
        await sandbox.fs.upload(up, "all", ignore=())
        got = await sandbox.fs.download(
            "all", tmp_path / "some", gitignore=True, ignore=[".git", "n"]
        )
        assert {os.fsdecode(name) for name in _tree(tmp_path / "some")} == kept
        assert (sent.files, sent.left_out_total) == (got.files, got.left_out_total) == (5, 0)
        await sandbox.fs.download("all", tmp_path / "rest", ignore=["*", "!/.git/", "!/.git/*"])
        assert {os.fsdecode(name) for name in _tree(tmp_path / "rest")} == {".git", ".git/x"}

    async def test_progress_is_reported_in_both_directions(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        (tmp_path / "up").mkdir()
        (tmp_path / "up" / "f").write_bytes(os.urandom(3_000_000))
        heard: list[tuple[int, int | None]] = []

        def hear(done: int, total: int | None) -> None:
            heard.append((done, total))

        async def last(transfer: Awaitable[object]) -> int:
            heard.clear()
            await transfer
            assert heard == sorted(heard)
            return heard[-1][0]

        files = sandbox.fs
        assert await last(files.upload(tmp_path / "up", "d", on_progress=hear)) > 3_000_000
        assert await last(files.download("d", tmp_path / "d", on_progress=hear)) > 3_000_000
        assert await last(files.upload(tmp_path / "up/f", "f", on_progress=hear)) == 3_000_000
        assert await last(files.download("f", tmp_path / "f", on_progress=hear)) == 3_000_000

    async def test_an_upload_does_not_go_through_a_link_in_its_way(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        (tmp_path / "up" / "d").mkdir(parents=True)
        (tmp_path / "up" / "d" / "f").write_text("x")
        await sandbox.exec("mkdir -p up elsewhere; ln -s ../elsewhere up/d", check=True)
        with pytest.raises(OSError, match="in the way"):
            await sandbox.fs.upload(tmp_path / "up", "up")
        assert (await sandbox.exec("ls -A elsewhere")).stdout == ""

    async def test_a_cancelled_transfer_leaves_neither_file_nor_process(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        (tmp_path / "up").mkdir()
        (tmp_path / "up" / "big").write_bytes(bytes(30_000_000))
        await sandbox.fs.upload(tmp_path / "up", "there")

        async def cancelled(work: object) -> None:
            task = asyncio.ensure_future(work)  # type: ignore[call-overload]
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        await cancelled(sandbox.fs.upload(tmp_path / "up", "up"))
        await cancelled(sandbox.fs.upload_file(tmp_path / "up" / "big", "big"))
        await cancelled(sandbox.fs.download("there", tmp_path / "down"))
        await cancelled(sandbox.fs.download_file("there/big", tmp_path / "big"))
        left = await sandbox.exec("find . -path ./there -prune -o ! -type d -print")
        assert left.stdout == ""
        assert not (await sandbox.exec("find . -name '.paddock-*' | grep .")).ok
        assert set(os.listdir(tmp_path)) <= {"up", "down"}
        assert list(_tree(tmp_path / "down")) == []

    @needs("shell")
    async def test_a_thousand_small_files_are_one_stream(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        root = tmp_path / "many"
        for number in range(1000):
            folder = root / f"d{number % 50}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"f{number}").write_text(str(number))
        await sandbox.fs.upload(root, "many")
        assert (await sandbox.exec("find many -type f | wc -l")).stdout.strip() == "1000"
        await sandbox.fs.download("many", tmp_path / "back")
        assert _tree(tmp_path / "back") == _tree(root)
