"""The guest's file operations and jobs, called directly."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.guest.inside import files, jobs
from paddock.backends.guest.inside.requests import OPERATIONS
from paddock.backends.guest.inside.writing import FileChanged, Replacement

if TYPE_CHECKING:
    from pathlib import Path


def do(operation: str, blob: bytes = b"", **body: Any) -> tuple[dict[str, Any], bytes]:
    return OPERATIONS[operation](body, blob)


def write(path: Path, data: bytes, *, exclusive: bool = False, **more: Any) -> None:
    do("write", data, path=str(path), exclusive=exclusive, **more)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_written_whole_with_its_parents_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / ("n" * 255)
    write(path, b"contents")
    assert path.read_bytes() == b"contents"
    assert os.listdir(path.parent) == ["n" * 255]


def test_a_replaced_file_keeps_its_mode_but_for_setuid_and_its_link_stays(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o4750)
    path.symlink_to("target")
    held = target.open("rb")
    write(path, b"new")
    assert path.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert held.read() == b"old"
    held.close()


def test_a_link_to_nothing_gets_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("d/target")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "d" / "target").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "Not a regular file"),
        (lambda path: path.symlink_to(path.name), "Too many levels"),
        (lambda path: path.symlink_to("/dev/null"), "Not a regular file"),
    ],
    ids=["directory", "pipe", "loop", "device"],
)
def test_what_is_no_file_is_neither_read_nor_replaced(
    make: Any, error: str, tmp_path: Path
) -> None:
    path = tmp_path / "it"
    make(path)
    kind = path.lstat().st_mode
    for operation in (
        lambda: write(path, b"x"),
        lambda: do("read", path=str(path), offset=0, limit=10),
        lambda: jobs.send_file({"path": str(path)}),
    ):
        with pytest.raises(OSError, match=error):
            operation()
    assert path.lstat().st_mode == kind
    assert os.listdir(tmp_path) == ["it"]


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ({"exclusive": True}, FileExistsError),
        ({"expect": sha(b"other")}, FileChanged),
    ],
)
def test_a_refused_write_leaves_the_old_contents_and_no_trace(
    condition: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error):
        write(path, b"new", **condition)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]
    assert len(os.listdir("/proc/self/fd")) == descriptors
    write(path, b"new", expect=sha(b"old"))
    assert path.read_bytes() == b"new"


def test_an_expected_file_that_is_gone_or_huge_has_changed(tmp_path: Path) -> None:
    with pytest.raises(FileChanged):
        write(tmp_path / "gone", b"new", expect=sha(b""))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(files.EXPECTED_MAX + 1)
    with pytest.raises(FileChanged):
        write(tmp_path / "huge", b"new", expect=sha(b""))


def test_a_replacement_that_cannot_be_finished_leaves_no_trace(tmp_path: Path) -> None:
    writer = Replacement(str(tmp_path / "d" / "f"))
    writer.write(b"half")
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(FileNotFoundError):
        writer.commit()
    writer.close()
    writer.close()


def test_a_file_goes_to_the_directory_that_was_there_when_it_was_begun(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    writer = Replacement(str(tmp_path / "d" / "f"))
    writer.write(b"whole")
    (tmp_path / "d").rename(tmp_path / "moved")
    (tmp_path / "d").symlink_to("elsewhere")
    writer.commit()
    writer.close()
    assert (tmp_path / "moved" / "f").read_bytes() == b"whole"
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_link_that_is_not_to_be_followed_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "f").symlink_to("target")
    writer = Replacement(str(tmp_path / "f"), follow=False)
    writer.write(b"new")
    writer.commit()
    writer.close()
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert not (tmp_path / "f").is_symlink()


def test_a_file_with_other_names_is_overwritten_and_they_stay(tmp_path: Path) -> None:
    path, other = tmp_path / "f", tmp_path / "other"
    path.write_bytes(b"old and longer")
    other.hardlink_to(path)
    write(path, b"new", expect=sha(b"old and longer"))
    assert other.read_bytes() == b"new"
    write(path, b"much longer than it was")
    assert other.read_bytes() == b"much longer than it was"
    with pytest.raises(FileChanged):
        write(path, b"x", expect=sha(b"other"))
    assert sorted(os.listdir(tmp_path)) == ["f", "other"]


def test_what_cannot_be_replaced_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file that is mounted by itself, or one of an owner that this user cannot give."""
    path = tmp_path / "f"
    path.write_bytes(b"old")
    inode = path.stat().st_ino

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "rename", refuse)
    write(path, b"new")
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", inode)
    assert os.listdir(tmp_path) == ["f"]


def test_no_room_to_overwrite_is_told_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    (tmp_path / "other").hardlink_to(path)

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        write(path, b"larger than it was")
    assert path.read_bytes() == b"old"


def test_an_addition_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d" / "f"
    do("append", b"one", path=str(path))
    do("append", b" two", path=str(path))
    write_some = os.write

    def half(fd: int, data: Any) -> int:
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_some(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        do("append", b"half of this", path=str(path))
    assert path.read_bytes() == b"one two"


def test_a_new_file_is_never_open_to_more_people_than_it_will_be(tmp_path: Path) -> None:
    writer = Replacement(str(tmp_path / "f"), mode=0o600)
    (temporary,) = tmp_path.iterdir()
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [b"", b"contents", b"contentsEN", b"contents\0END"])
def test_a_stream_without_its_mark_has_ended_early(cut: bytes) -> None:
    pieces = [memoryview(cut[start : start + 3]) for start in range(0, len(cut), 3)]
    with pytest.raises(OSError, match="ended early"):
        list(jobs.marked(pieces, b"E+D"))


def test_a_mark_is_taken_off_the_end_of_a_stream() -> None:
    for size in (1, 2, 3, 8, 100):
        data = b"E+contentsE+E+D"
        pieces = [memoryview(data[start : start + size]) for start in range(0, len(data), size)]
        assert b"".join(jobs.marked(pieces, b"E+D")) == b"E+contentsE+"


def test_reading_gives_the_part_that_is_asked_for_and_the_size(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    assert do("read", path=str(path), offset=2, limit=3) == ({"size": 10}, b"234")
    assert do("read", path=str(path), offset=20, limit=3) == ({"size": 10}, b"")


def test_directories_are_made_moved_and_removed(tmp_path: Path) -> None:
    path, other = str(tmp_path / "a" / "b"), str(tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        do("mkdir", path=path, parents=False, exist_ok=False)
    do("mkdir", path=path, parents=True, exist_ok=False)
    do("mkdir", path=path, parents=True, exist_ok=True)
    with pytest.raises(FileExistsError):
        do("mkdir", path=path, parents=True, exist_ok=False)
    do("move", path=path, to=other)
    (tmp_path / "c" / "f").touch()
    with pytest.raises(OSError, match="not empty"):
        do("remove", path=other)
    do("remove", path=f"{other}/f")
    do("remove", path=other)
    (tmp_path / "dangling").symlink_to("nothing")
    do("remove", path=str(tmp_path / "dangling"))
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No", b"/\xff"), {"errno": 2, "text": "No", "path": "/\udcff"}),
        (PermissionError(1, "No"), {"errno": 1, "text": "No", "path": None}),
        (OSError("plain"), {"kind": "OSError", "text": "plain"}),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), {"kind": "ValueError"}),
        (FileChanged("it"), {"kind": "FileChanged", "text": "it"}),
    ],
)
def test_errors_are_told_by_number_or_kind(error: Exception, told: dict[str, Any]) -> None:
    assert files.describe(error).items() >= told.items()


@pytest.mark.parametrize(
    ("contents", "start", "limit", "lines", "total"),
    [
        (b"", 1, 5, [], 0),
        (b"a", 1, 5, ["a"], 1),
        (b"a\nb\r\n\nc", 1, 5, ["a", "b", "", "c"], 4),
        (b"a\nb\nc\n", 2, 1, ["b"], 3),
        (b"a\nb\n", 9, 5, [], 2),
        (b"\xff\n", 1, 5, ["\ufffd"], 1),
        ("é".encode() * 30, 1, 5, ["é" * 20 + "..."], 1),
        (b"x" * 3_000_000 + b"\nend", 1, 5, ["x" * 20 + "...", "end"], 2),
        (b"x" * 3_000_000 + b"\nend", 2, 5, ["end"], 2),
    ],
)
def test_lines_are_counted_and_cut(
    contents: bytes,
    start: int,
    limit: int,
    lines: list[str],
    total: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(jobs, "emit", told.extend)
    (tmp_path / "f").write_bytes(contents)
    order = {"path": str(tmp_path / "f"), "start": start, "limit": limit, "width": 20}
    jobs.read_lines({**order, "most": 4_000_000})
    assert told == [{"lines": lines, "total": total, "whole": True}]


@pytest.mark.parametrize(
    ("most", "limit", "lines", "total", "whole"),
    [
        (5, 1, ["a"], 3, True),
        (4, 1, ["a"], 2, False),
        (3, 1, ["a"], 2, False),
        (3, 9, ["a", "b"], 2, False),
        (1, 9, ["a"], 1, False),
    ],
)
def test_of_a_long_file_the_lines_of_the_beginning_are_counted(
    most: int, limit: int, lines: list[str], total: int, whole: bool
) -> None:
    order = {"start": 1, "limit": limit, "width": 20, "most": most}
    told = {"lines": lines, "total": total, "whole": whole}
    assert jobs.lines_of(io.BytesIO(b"a\nb\nc"), order) == told
    assert jobs.lines_of(io.BytesIO(b"a\nb\nc"), order, 5) == told


def test_a_listing_is_in_order_and_enters_no_link_and_nothing_skipped(tmp_path: Path) -> None:
    for name in ("a/z", "a.b", "node_modules/x", ".hidden/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")

    def listed(depth: int, *, hidden: bool = True) -> list[tuple[str, str]]:
        args = {
            "path": str(tmp_path), "depth": depth, "hidden": hidden, "skipped": ["node_modules"]
        }  # fmt: skip
        return [(os.path.relpath(row[0], tmp_path), row[1]) for row in jobs.entries_below(args)]

    assert listed(1, hidden=False) == [
        ("a", "directory"),
        ("a.b", "file"),
        ("link", "symlink"),
        ("node_modules", "directory"),
        ("pipe", "other"),
    ]
    names = [name for name, _ in listed(5)]
    assert names == [".hidden", ".hidden/x", "a", "a/z", "a.b", "link", "node_modules", "pipe"]
    with pytest.raises(NotADirectoryError):
        list(
            jobs.entries_below(
                {"path": str(tmp_path / "a.b"), "depth": 1, "hidden": True, "skipped": []}
            )
        )
