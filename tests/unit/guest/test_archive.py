"""Trees to tar streams and back: what comes back is the same, and nothing gets out."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.guest.inside import archive, extraction, ignored, selection, tar
from tests.unit.guest.trees import tree_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[[tarfile.TarFile], object]


def info(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def add(name: str, data: bytes = b"contents", **fields: Any) -> Build:
    return lambda tar: tar.addfile(info(name, size=len(data), **fields), io.BytesIO(data))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Build:
    return lambda tar: tar.addfile(info(name, kind, linkname=target))


def folder(name: str, mode: int = 0o755) -> Build:
    return lambda tar: tar.addfile(info(name, tarfile.DIRTYPE, mode=mode))


def built(*members: Build, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive_file:
        for member in members:
            member(archive_file)
    return out.getvalue()


def block(name: bytes, size: int = 0, kind: bytes = b"0") -> bytes:
    """One header as the module writes it, for what tarfile refuses to write."""
    return tar.block(name, tar.Member("", kind, mode=0o644, mtime=0, size=size), b"")


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return block(b"pax", len(records), kind) + records + tar.padding(len(records))


def record(key: str, value: bytes) -> bytes:
    rest = b" " + key.encode() + b"=" + value + b"\n"
    size = next(n for n in itertools.count(len(rest)) if len(str(n)) + len(rest) == n)
    return str(size).encode() + rest


FILE = (b"contents", 0o644)
LONG = b"n" * 150
BODY = b"x".ljust(512, b"\0")
WHOLE = built(add("ok"), add("later"))

HOSTILE: dict[str, bytes] = {
    "parent": built(add("ok"), add("../out")),
    "parent in the middle": built(add("ok"), add("a/../../out")),
    "parent at the end": built(add("ok"), folder("a/..")),
    "absolute": built(add("ok"), add("/tmp/out")),
    "absolute by pax": built(add("ok")).rstrip(b"\0")
    + tar.padding(len(built(add("ok")).rstrip(b"\0")))
    + pax(record("path", b"/tmp/out"))
    + block(b"inside")
    + tar.END,
    "parent by pax": pax(record("path", b"../out")) + block(b"inside") + tar.END,
    "parent by a long name": built(add("../" * 50 + "out")),
    "NUL by pax": pax(record("path", b"a\0b")) + block(b"inside") + tar.END,
    "file through a link": built(folder("d"), link("l", "d"), add("l/x")),
    "directory through a link": built(folder("d"), link("l", "d"), folder("l/x")),
    "file through a file": built(add("f"), add("f/x")),
    "directory over a link": built(folder("d"), link("l", "d"), folder("l")),
    "directory over a file": built(add("f"), folder("f")),
    "link over a directory": built(folder("d"), link("d", "x")),
    "file over a directory": built(add("d/x"), add("d")),
    "sparse": block(b"s", kind=b"S") + tar.END,
    "sparse by pax": pax(record("GNU.sparse.major", b"1")) + block(b"s") + tar.END,
    "global header": pax(record("path", b"x"), b"g") + block(b"f") + tar.END,
    "huge long name": block(b"n", 2**30, b"L"),
    "huge pax header": block(b"n", 2**30, b"x"),
    "chain of long names": (block(b"n", 1, b"L") + BODY) * 3000 + block(b"f") + tar.END,
    "chain of pax headers": pax(record("a", b"b")) * 3000 + block(b"f") + tar.END,
    "pax without a length": pax(b"path=x\n") + block(b"f") + tar.END,
    "pax with no length": pax(b"0 path=x\n") + block(b"f") + tar.END,
    "pax with a short length": pax(b"3 path=x\n") + block(b"f") + tar.END,
    "pax with a long length": pax(b"99 path=x\n") + block(b"f") + tar.END,
    "pax with a negative size": pax(record("size", b"-1")) + block(b"f") + tar.END,
    "pax with no number": pax(record("size", b"1_0")) + block(b"f") + tar.END,
    "huge size": block(b"f", 2**80) + BODY,
    "negative size": (lambda data: data[:124] + b"\xff" * 12 + data[136:])(block(b"f")),
    "checksum": bytes([WHOLE[0] ^ 1]) + WHOLE[1:],
    "checksum of a later member": WHOLE[:1024] + b"L" + WHOLE[1025:],
    "not a tar": b"not a tar" * 1000,
    "compressed": gzip.compress(WHOLE),
    "nothing": b"",
    "no end": WHOLE.rstrip(b"\0").ljust(2048, b"\0")[:2048],
    "cut in a header": WHOLE[:1300],
    "cut in contents": built(add("f", b"x" * 10_000))[:5000],
}


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.rows("C23", "C24", "C25", "C26", "C27")
def test_of_a_hostile_archive_nothing_is_left(name: str, existing: bool, tmp_path: Path) -> None:
    target = tmp_path / "outer" / "target"
    target.parent.mkdir()
    (target.parent / "x").write_text("x")
    if existing:
        target.mkdir()
        (target / "ok").write_text("before")
    before = tree_of(tmp_path)
    for account in (None, from_a_sandbox()):
        with pytest.raises(ValueError, match=r"archive|tar stream|tree is too large"):
            extraction.extract(io.BytesIO(HOSTILE[name]), str(target), account)
        assert tree_of(tmp_path) == before


def from_a_sandbox(**options: Any) -> selection.Selection:
    """As for a download of the directory /work/tree."""
    return selection.Selection(root="/work/tree", **options)


OUT = "a link that leads out"
LEFT_OUT: dict[str, tuple[bytes, dict[bytes, object], dict[str, str]]] = {
    "links": (
        built(
            link("up", "../x"), link("absolute", "/etc/passwd"), link("beside", "/work/tree2/f"),
            folder("a"), link("a/up", "../../x"), link("a/around", "b/../../../x"),
            link("root", "/work/tree/../x"), add("f"),
        ),
        {b"a": 0o755, b"f": (b"contents", 0o644)},
        dict.fromkeys(("up", "absolute", "beside", "a/up", "root", "a/around"), OUT),
    ),
    "a link through which a later one would lead out": (
        built(folder("d"), link("d/up", ".."), link("x", "d/up/../..")),
        {b"d": 0o755, b"d/up": b".."},
        {"x": OUT},
    ),
    "a link of that name, and then a file below it": (
        built(link("l", "/etc"), add("l/passwd")),
        {b"l": 0o755, b"l/passwd": (b"contents", 0o644)},
        {"l": OUT},
    ),
    "a link that a file of that name replaces": (
        built(folder("d"), link("l", "x/../../.."), add("l"), link("m", "x/../f"), link("m", "d")),
        {b"d": 0o755, b"l": (b"contents", 0o644), b"m": b"d"},
        {},
    ),
    "link to nothing": (
        pax(record("linkpath", b"")) + block(b"l", kind=b"2") + tar.END, {}, {"l": OUT},
    ),
    "link with a NUL": (
        pax(record("linkpath", b"a\0b")) + block(b"l", kind=b"2") + tar.END, {}, {"l": OUT},
    ),
    "hard links out": (
        built(
            add("f"), link("l", "f"), folder("d"),
            *(link(name, to, tarfile.LNKTYPE) for name, to in {
                "up": "../../etc/passwd", "missing": "no", "to-link": "l", "to-folder": "d",
                "through": "l/x", "self": "self", "absolute": "/etc/passwd",
            }.items()),
        ),
        {b"f": (b"contents", 0o644), b"l": b"f", b"d": 0o755},
        dict.fromkeys(
            ("up", "missing", "to-link", "to-folder", "through", "self", "absolute"), "a hard link"
        ),
    ),
    "special files": (
        built(
            *(lambda tar, kind=kind: tar.addfile(info(kind.decode(), kind, devmajor=1))
              for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)),
            add("f"),
        ),
        {b"f": (b"contents", 0o644)},
        {"3": "a character device", "4": "a block device", "6": "a named pipe"},
    ),
    "unknown kinds with contents": (
        block(b"u", 600, b"Q") + BODY * 2 + block(b"v") + tar.END,
        {b"v": (b"", 0o644)},
        {"u": "unknown"},
    ),
    "set-id bits": (
        built(add("f", mode=0o6755), folder("d", 0o2775)),
        {b"f": (b"contents", 0o755), b"d": 0o775},
        {"f": "set-id", "d": "set-id"},
    ),
    "names that are too long": (
        built(add("n" * 300), folder("n" * 301), add("n" * 301 + "/f"), add("ok")),
        {b"ok": (b"contents", 0o644)},
        dict.fromkeys(("n" * 300, "n" * 301, "n" * 301 + "/f"), "too long"),
    ),
    "paths that are too long": (
        built(add(("d" * 200 + "/") * 25 + "f"), folder("d" * 200 + "/" + "e/" * 2000), add("ok")),
        {b"ok": (b"contents", 0o644)},
        {("d" * 200 + "/") * 25 + "f": "too long", "d" * 200 + "/" + "e/" * 1999 + "e": "too long"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.rows("C23", "C27")
def test_what_cannot_be_extracted_is_left_out_and_named(name: str, tmp_path: Path) -> None:
    data, found, left_out = LEFT_OUT[name]
    account = from_a_sandbox()
    extraction.extract(io.BytesIO(data), str(tmp_path / "target"), account)
    assert tree_of(tmp_path / "target") == found
    assert account.left_out_total == len(left_out)
    for path, reason in account.left_out:
        expected = {name[: selection.PATH_SHOWN]: why for name, why in left_out.items()}
        assert expected[path] in reason


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([add("a/b"), link("a/l", "../a/b")], {b"a/l": b"../a/b"}),
        ([add("a/b"), link("a/l", "/work/tree/a/b")], {b"a/l": b"../a/b"}),
        ([link("l", "/work/tree")], {b"l": b"."}),
        ([link("a/b/l", "/work/tree/")], {b"a/b/l": b"../../"}),
        ([link("l", "d/../f"), folder("d"), add("f")], {b"l": b"d/../f"}),
        ([link("d/l", "../d/e/../../f"), folder("d/e")], {b"d/l": b"../d/e/../../f"}),
        ([add("f", b"1"), link("h", "./f", tarfile.LNKTYPE)], {b"h": (b"1", 0o644)}),
    ],
)
def test_links_that_stay_in_the_tree_are_kept(
    members: list[Build], found: dict[bytes, object], tmp_path: Path
) -> None:
    account = from_a_sandbox()
    extraction.extract(io.BytesIO(built(*members)), str(tmp_path / "target"), account)
    assert found.items() <= tree_of(tmp_path / "target").items()
    assert account.left_out_total == 0


def test_links_are_skipped_or_refused_on_demand(tmp_path: Path) -> None:
    data = built(add("f"), link("l", "f"), link("h", "f", tarfile.LNKTYPE))
    account = from_a_sandbox(links="skip")
    extraction.extract(io.BytesIO(data), str(tmp_path / "skipped"), account)
    assert set(tree_of(tmp_path / "skipped")) == {b"f", b"h"}
    assert (account.files, account.bytes) == (2, 16)
    assert account.left_out == [("l", "a symbolic link")]
    with pytest.raises(ValueError, match="symbolic link: 'l'"):
        extraction.extract(io.BytesIO(data), str(tmp_path / "no"), from_a_sandbox(links="refuse"))
    assert os.listdir(tmp_path) == ["skipped"]


def test_of_very_many_entries_that_are_left_out_few_are_named(tmp_path: Path) -> None:
    account = from_a_sandbox()
    many = built(*(link(f"l{n}" + "x" * 9000, "/") for n in range(5000)), add("f"))
    extraction.extract(io.BytesIO(many), str(tmp_path), account)
    assert tree_of(tmp_path) == {b"f": FILE}
    assert account.left_out_total == 5000
    assert len(account.left_out) == selection.LEFT_OUT_MAX
    assert max(len(path) for path, _ in account.left_out) <= selection.PATH_SHOWN


def test_ignored_entries_are_not_extracted_even_if_they_were_sent(tmp_path: Path) -> None:
    account = from_a_sandbox(rules=ignored.IgnoreRules([".git", "!d/.git", "*.log"]))
    data = built(add(".git/hooks/pre-commit"), add("d/.git"), add("x.log"), link("d/y.log", "/"))
    extraction.extract(io.BytesIO(data), str(tmp_path), account)
    assert set(tree_of(tmp_path)) == {b"d", b"d/.git"}
    assert account.left_out_total == 0


@pytest.mark.parametrize("bad", ["hard link", "device", "long name"])
def test_what_a_trusted_host_never_sends_is_an_error_inside(bad: str, tmp_path: Path) -> None:
    member = {
        "hard link": link("h", "ok", tarfile.LNKTYPE),
        "device": lambda tar: tar.addfile(info("p", tarfile.FIFOTYPE)),
        "long name": add("n" * 300),
    }[bad]
    with pytest.raises((ValueError, OSError)):
        extraction.extract(io.BytesIO(built(add("ok"), member)), str(tmp_path / "target"))
    assert os.listdir(tmp_path) == []


def test_a_trusted_host_may_send_any_link(tmp_path: Path) -> None:
    links = {b"a": b"/etc/passwd", b"b": b"../..", b"c": b"d/../../x"}
    members = [link(os.fsdecode(name), os.fsdecode(to)) for name, to in links.items()]
    extraction.extract(io.BytesIO(built(*members)), str(tmp_path))
    assert tree_of(tmp_path) == links


@pytest.mark.parametrize("cut", range(0, 4 * tar.BLOCK + 1, 64))
def test_an_archive_that_is_cut_anywhere_is_no_archive(cut: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ends early"):
        extraction.extract(io.BytesIO(WHOLE[:cut]), str(tmp_path / "target"))
    assert tree_of(tmp_path) == {}


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([add("setuid", mode=0o6755)], {b"setuid": (b"contents", 0o755)}),
        ([folder("sticky", 0o7777)], {b"sticky": 0o777}),
        ([folder("d", 0), add("d/f", mode=0o400)], {b"d": 0o700, b"d/f": (b"contents", 0o400)}),
        ([add("f", b"1"), add("f", b"2")], {b"f": (b"2", 0o644)}),
        ([link("f", "g"), add("f", b"2")], {b"f": (b"2", 0o644)}),
        ([add("f", b"2"), link("f", "g")], {b"f": b"g"}),
        ([add("./a/./b")], {b"a": 0o755, b"a/b": (b"contents", 0o644)}),
        ([folder(".", 0), add("f")], {b"f": (b"contents", 0o644)}),
        ([add("new\nline"), add("\udcff")], {b"new\nline": FILE, b"\xff": FILE}),
        ([folder("a"), link("a/l", "../b")], {b"a": 0o755, b"a/l": b"../b"}),
        ([link("dangling", "no/where")], {b"dangling": b"no/where"}),
        ([add("n" * 150 + "/" + "n" * 150)], {LONG: 0o755, LONG + b"/" + LONG: FILE}),
        ([link("l", "t" * 200)], {b"l": b"t" * 200}),
        ([add("old", mtime=-5), add("far", mtime=2**40)], {b"old": FILE, b"far": FILE}),
        ([], {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.rows("C25", "C27")
def test_a_peculiar_archive_is_extracted(
    members: list[Build], found: dict[bytes, object], form: int, tmp_path: Path
) -> None:
    try:
        data = built(*members, form=form)
    except ValueError:
        pytest.skip("this form of tar cannot hold it")
    extraction.extract(io.BytesIO(data), str(tmp_path))
    assert tree_of(tmp_path) == found


def test_an_archive_is_merged_into_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "kept").write_text("kept")
    (tmp_path / "d" / "old").write_text("old")
    (tmp_path / "l").symlink_to("d/kept")
    extraction.extract(io.BytesIO(built(add("d/old", b"new"), add("l", b"file"))), str(tmp_path))
    assert tree_of(tmp_path) == {
        b"d": 0o755,
        b"d/kept": (b"kept", 0o644),
        b"d/old": (b"new", 0o644),
        b"l": (b"file", 0o644),
    }


@pytest.mark.parametrize("way", ["link", "file", "directory"])
def test_what_is_in_the_way_is_found_before_anything_is_moved(way: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "other").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    makers: dict[str, Callable[[], object]] = {
        "link": lambda: (target / "d").symlink_to(tmp_path / "outside"),
        "file": (target / "d").touch,
        "directory": (target / "d").mkdir,
    }
    makers[way]()
    members = [add("a"), add("d" if way == "directory" else "d/x"), add("z")]
    before = tree_of(tmp_path)
    with pytest.raises(OSError, match="in the way"):
        extraction.extract(io.BytesIO(built(*members)), str(target))
    assert tree_of(tmp_path) == before


@pytest.mark.rows("C26")
def test_an_archive_may_be_only_so_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "MAX_MEMBERS", 100)
    extraction.extract(
        io.BytesIO(built(*(add(str(n)) for n in range(100)))), str(tmp_path / "most")
    )
    for members in ([add(str(n)) for n in range(101)], [add("d/" * 101 + "f")]):
        with pytest.raises(ValueError, match="too large"):
            extraction.extract(io.BytesIO(built(*members)), str(tmp_path / "target"))
    monkeypatch.setattr(archive, "MAX_TREE_BYTES", 1000)
    with pytest.raises(ValueError, match="too large"):
        extraction.extract(io.BytesIO(built(add("f", bytes(1001)))), str(tmp_path / "target"))
    assert sorted(os.listdir(tmp_path)) == ["most"]


def test_an_error_at_the_destination_names_it_and_not_what_is_temporary() -> None:
    with pytest.raises(OSError, match="/proc/mine") as caught:
        extraction.extract(io.BytesIO(b""), "/proc/mine")
    assert caught.value.filename == "/proc/mine"
