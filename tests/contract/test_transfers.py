"""Files and trees between this machine and a sandbox, in both directions."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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


@pytest.fixture
def tree(tmp_path: Path) -> Path:
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


@pytest.mark.rows("C18")
async def test_a_tree_goes_up_and_comes_back_the_same(
    sandbox: Sandbox, tree: Path, tmp_path: Path
) -> None:
    await sandbox.fs.upload(tree, "up", ignore=())
    assert (await sandbox.exec("./up/run.sh")).stdout == "ran\n"
    await sandbox.fs.download("up", tmp_path / "back")
    assert _tree(tmp_path / "back") == _tree(tree)


async def test_tool_made_directories_are_left_out_of_an_upload(
    sandbox: Sandbox, tree: Path
) -> None:
    await sandbox.fs.upload(tree, "up")
    listed = (await sandbox.exec("ls -A up")).stdout
    for name in (".git", "node_modules", "__pycache__", ".venv"):
        assert name not in listed


async def test_a_tree_is_merged_into_what_is_there(
    sandbox: Sandbox, tree: Path, tmp_path: Path
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


async def test_one_file_goes_up_and_comes_back(sandbox: Sandbox, tmp_path: Path) -> None:
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
    sandbox: Sandbox, tmp_path: Path
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


@pytest.mark.rows("C19")
async def test_a_link_that_leads_out_is_refused_in_both_directions(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "out").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="leads out"):
        await sandbox.fs.upload(tmp_path / "up", "up")
    for target in ("/etc/passwd", "../../x", "a/../../x"):
        await sandbox.exec(["sh", "-c", 'mkdir -p d; ln -sfn "$1" d/out', "-", target], check=True)
        with pytest.raises(ValueError, match="leads out"):
            await sandbox.fs.download("d", tmp_path / "down")
        assert not (tmp_path / "down").exists() or not os.listdir(tmp_path / "down")


async def test_an_upload_does_not_go_through_a_link_in_its_way(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "up" / "d").mkdir(parents=True)
    (tmp_path / "up" / "d" / "f").write_text("x")
    await sandbox.exec("mkdir -p up elsewhere; ln -s ../elsewhere up/d", check=True)
    with pytest.raises(OSError, match="in the way"):
        await sandbox.fs.upload(tmp_path / "up", "up")
    assert (await sandbox.exec("ls -A elsewhere")).stdout == ""


async def test_a_cancelled_transfer_leaves_neither_file_nor_process(
    sandbox: Sandbox, tmp_path: Path
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


async def test_a_thousand_small_files_are_one_stream(sandbox: Sandbox, tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(1000):
        folder = root / f"d{number % 50}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_text(str(number))
    await sandbox.fs.upload(root, "many")
    assert (await sandbox.exec("find many -type f | wc -l")).stdout.strip() == "1000"
    await sandbox.fs.download("many", tmp_path / "back")
    assert _tree(tmp_path / "back") == _tree(root)
