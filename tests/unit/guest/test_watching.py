"""How the guest notices changes of files: what wakes it, and what it tells."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside.watching import Bell, differences, look_at

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 60.0


def test_the_kernel_rings_for_changes_in_directories_that_were_added(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    root, bell = str(tmp_path), Bell()
    assert bell.add(look_at(root, 100), root)
    assert bell.complete
    assert not bell.add(look_at(root, 100), root)
    assert not select.select([bell.fd], [], [], 0)[0]
    (tmp_path / "below" / "file").write_text("text")
    assert select.select([bell.fd], [], [], DEADLINE)[0]
    bell.wait()
    assert not select.select([bell.fd], [], [], 0)[0]
    os.close(bell.fd)


def test_a_directory_comes_before_what_is_in_it_and_goes_after_that(tmp_path: Path) -> None:
    root = str(tmp_path)
    before = look_at(root, 100)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("one")
    after = look_at(root, 100)
    made = [["created", f"{root}/d"], ["created", f"{root}/d/f"]]
    assert differences(before, after) == made
    assert differences(after, before) == [["removed", path] for _, path in reversed(made)]
    (tmp_path / "d" / "f").write_text("other")
    assert differences(after, look_at(root, 100)) == [["changed", f"{root}/d/f"]]


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert len(look_at(str(tmp_path), 5)) == 5
    with pytest.raises(OSError, match="Too many files to watch"):
        look_at(str(tmp_path), 4)
