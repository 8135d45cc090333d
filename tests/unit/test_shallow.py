"""Deep trees on their way to a sandbox whose tar makes all directories above each entry again."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

from paddock.backends.guest.inside.archive import tar_blocks
from paddock.backends.posix.scripts import UNPACK
from paddock.backends.posix.shallow import DEPTH, ShallowNames

if TYPE_CHECKING:
    from pathlib import Path

ODD = ["it's", "a\nline", "$HOME", "-n", " ", "%s", "\\", "é"]


def _make(top: Path) -> None:
    """Two branches of 40 directories in each other."""
    for branch in range(2):
        folder = top / str(branch)
        for level in range(40):
            folder = folder / ODD[(level + branch) % len(ODD)]
        folder.mkdir(parents=True)
        while folder != top:
            (folder / "file").write_text(str(folder.relative_to(top)))
            folder = folder.parent
    for path in top.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def _packed(top: Path) -> bytes:
    return b"".join(tar_blocks(str(top), names=ShallowNames()))


def _unpack(data: bytes, target: Path) -> str:
    command = ["sh", "-c", UNPACK, "paddock", str(target), "tag"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)
    return done.stderr.decode()


def _look(top: Path) -> dict[str, tuple[float, str]]:
    return {
        str(path.relative_to(top)): (
            path.stat().st_mtime if path.is_file() else 0,
            path.read_text() if path.is_file() else "",
        )
        for path in top.rglob("*")
    }


def test_no_name_in_the_stream_is_deep(tmp_path: Path) -> None:
    _make(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(_packed(tmp_path))) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names)) > 160
    assert max(name.count("/") for name in names) <= DEPTH


def test_a_deep_tree_arrives_as_it_was(tmp_path: Path) -> None:
    _make(tmp_path / "tree")
    assert _unpack(_packed(tmp_path / "tree"), tmp_path / "new/copy") == ""
    assert _look(tmp_path / "new/copy") == _look(tmp_path / "tree")
    assert os.listdir(tmp_path / "new") == ["copy"]


def test_a_deep_tree_is_merged_with_what_is_there(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "target"
    _make(tree)
    inner = target / "0" / "/".join((ODD * 5)[: 2 * DEPTH + 3])
    inner.mkdir(parents=True)
    (inner / "kept").write_text("ours")
    (inner / "file").write_text("old")
    assert _unpack(_packed(tree), target) == ""
    found = {name: text for name, (_, text) in _look(target).items()}
    wanted = {name: text for name, (_, text) in _look(tree).items()}
    assert found == wanted | {str((inner / "kept").relative_to(target)): "ours"}
    assert sorted(os.listdir(target)) == ["0", "1"]


def test_nothing_moves_when_something_deep_is_in_the_way(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "target"
    _make(tree)
    inner = target / "0" / "/".join((ODD * 5)[: 2 * DEPTH + 3])
    (inner / "file").mkdir(parents=True)
    before = _look(target)
    assert "A directory is in the way" in _unpack(_packed(tree), target)
    assert _look(target) == before
