"""A copy of a directory that is ended on its way leaves nothing."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import copying
from paddock.backends.guest.inside.archive import open_entry

if TYPE_CHECKING:
    from pathlib import Path


def _make(tmp_path: Path) -> None:
    closed = tmp_path / "tree/closed"
    closed.mkdir(parents=True)
    (closed / "file").write_text("x")
    closed.chmod(0o555)
    (tmp_path / "tree/sparse").touch()
    os.truncate(tmp_path / "tree/sparse", 2**40)


@pytest.mark.parametrize("source", ["tree", "tree/sparse"])
def test_sigterm_ends_a_copy(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(tmp_path)
    seen: list[int] = []

    def count(fd: int, size: int) -> bytes:
        seen.append(size)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return os.pread(fd, size, 0)

    monkeypatch.setattr(copying.os, "read", count)  # type: ignore[attr-defined]
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(InterruptedError):
            copying.copy(str(tmp_path / source), str(tmp_path / "copy"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.listdir(tmp_path) == ["tree"]
    assert len(seen) <= 4


def test_a_link_that_takes_the_place_of_a_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")

    def swap(name: str, folder: int) -> int | None:
        (tmp_path / "tree/file").unlink()
        (tmp_path / "tree/file").symlink_to(tmp_path / "secret")
        return open_entry(name, folder)

    monkeypatch.setattr(copying, "open_entry", swap)
    copying.copy(str(tmp_path / "tree"), str(tmp_path / "copy"))
    assert os.listdir(tmp_path / "copy") == []
