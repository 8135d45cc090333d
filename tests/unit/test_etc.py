"""What of /etc is copied for a sandbox, where everybody can read it, and what is mounted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from paddock.backends.isolation import etc
from paddock.backends.isolation.copies import Copies, Look, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is at `tmp_path / "entry"` is the only one that is shown; its name below /etc."""
    name = f"..{tmp_path}/entry"
    monkeypatch.setattr(etc, "SHOWN", (name,))
    monkeypatch.setattr(etc, "RELEASE", ())
    monkeypatch.setattr(etc, "JAVA", "nothing")
    return name


def _copied() -> list[str]:
    return [os.path.basename(look.name) for look in etc.shown(network=False).copies]


def test_small_files_are_copied_also_those_of_a_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    for each in ("a", "b"):
        (tmp_path / "entry" / each).write_text(each)
    assert sorted(_copied()) == ["a", "b"]
    assert etc.shown(network=False).mounted == ()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_is_not_for_everybody_or_a_program_is_not_copied(
    mode: int, name: str, tmp_path: Path
) -> None:
    (tmp_path / "entry").write_text("secret")
    (tmp_path / "entry").chmod(mode)
    assert _copied() == []
    assert etc.shown(network=False).mounted == (name,)


@pytest.mark.parametrize("closed", ["entry", "entry/below", "entry/below/key"])
def test_a_directory_with_anything_that_is_not_for_everybody_is_not_copied(
    closed: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / "entry" / "below").mkdir(parents=True)
    (tmp_path / "entry" / "below" / "key").write_text("secret")
    (tmp_path / closed).chmod(0o700 if (tmp_path / closed).is_dir() else 0o600)
    assert _copied() == []
    assert etc.shown(network=False).mounted == (name,)


def test_links_and_large_files_are_not_copied(name: str, tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "link").symlink_to("/etc/shadow")
    assert _copied() == []
    (tmp_path / "entry" / "link").unlink()
    (tmp_path / "entry" / "large").write_bytes(bytes(etc.COPIED_BYTES + 1))
    assert _copied() == []


def test_a_copy_is_read_once_until_its_file_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Look] = []

    def content(look: Look) -> bytes:
        read.append(look)
        return b"text"

    monkeypatch.setattr("paddock.backends.isolation.copies._content", content)
    before, after = Look("magic", 4, 1, 1), Look("magic", 4, 1, 2)
    copies = Copies()
    for look in (before, before, after):
        assert copies.of([look], {"hosts": "own"}) == {"magic": b"text", "hosts": b"own"}
    assert read == [before, after]


def test_what_is_written_is_readable_for_all_and_has_places_for_mounts(tmp_path: Path) -> None:
    write(str(tmp_path / "etc"), files={"a/b": b"text"}, folders=["a", "c/d"], links={"l": "a"})
    assert (tmp_path / "etc/a/b").read_bytes() == b"text"
    assert (tmp_path / "etc/a/b").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc/c/d").is_dir()
