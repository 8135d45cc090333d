"""Removing trees: of any depth, with any modes, and through no link."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside.folders import remove_tree
from tests.unit.guest.trees import deep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    deep(root, sys.getrecursionlimit() + 100)
    limit, descriptors = sys.getrecursionlimit(), len(os.listdir("/proc/self/fd"))
    remove_tree(str(root))
    assert os.listdir(tmp_path) == []
    assert (sys.getrecursionlimit(), len(os.listdir("/proc/self/fd"))) == (limit, descriptors)


def test_removing_a_tree_follows_no_link_and_stops_at_no_mode(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    root = tmp_path / "root"
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "a" / "b" / "f").touch()
    (root / "link").symlink_to(outside)
    (root / "a" / "link").symlink_to(outside)
    for path in (root / "a" / "b" / "c", root / "a" / "b", root / "a", root):
        path.chmod(0)
    as_other_user(lambda: remove_tree(str(root)), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert (outside / "kept").exists()


def as_other_user(do: Callable[[], None], owned: Path) -> None:
    """Do it without root's rights: root is stopped by no mode."""
    if os.getuid() != 0:
        do()
        return
    for path in [owned, *owned.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    parents: Iterator[Path] = itertools.takewhile(lambda path: path != Path("/tmp"), owned.parents)
    for path in parents:
        path.chmod(path.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            do()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_removing_takes_a_file_or_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    remove_tree(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["file"]
    remove_tree(str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError):
        remove_tree(str(tmp_path / "file"))
