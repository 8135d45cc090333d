"""Packing trees into tar streams, and that they come back the same."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.backends.guest.inside import archive, extraction, ignored, selection, tar
from paddock.backends.guest.inside.folders import remove_tree
from tests.unit.guest.trees import deep, tree_of

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"/\0"))
CONTENTS = st.one_of(
    st.tuples(st.binary(max_size=2000), st.sampled_from([0o644, 0o755, 0o600])),
    st.just((b"z" * 700_000, 0o644)),
)
TREES = st.recursive(
    CONTENTS, lambda below: st.dictionaries(NAMES, below, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


def make(root: bytes, tree: dict[bytes, object]) -> None:
    for name, value in tree.items():
        path = os.path.join(root, name)
        if name in (b".", b".."):
            continue
        if isinstance(value, dict):
            os.mkdir(path)
            make(path, value)
        else:
            assert isinstance(value, tuple)
            with open(path, "wb") as file:
                file.write(value[0])
                os.fchmod(file.fileno(), value[1])
    os.symlink(b"\xfe", os.path.join(root, b"l" * 21))


@settings(max_examples=40)
@given(tree=TREES)
def test_a_tree_comes_back_from_its_archive(
    tree: dict[bytes, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    source = root / "source"
    source.mkdir()
    make(os.fsencode(source), tree)
    stream = b"".join(archive.tar_blocks(str(source)))
    extraction.extract(io.BytesIO(stream), str(root / "copy"))
    assert tree_of(root / "copy") == tree_of(source)
    with tarfile.open(fileobj=io.BytesIO(stream)) as other:
        assert {os.fsencode(name) for name in other.getnames()} == set(tree_of(source))
    remove_tree(str(root / "copy"))
    assert os.listdir(root) == ["source"]


def packed(root: Path, *args: Any) -> list[tuple[str, bytes]]:
    stream = io.BytesIO(b"".join(archive.tar_blocks(str(root), *args)))
    return [(member.name, member.kind) for member in tar.Reader(stream)]


def test_packing_leaves_out_what_is_ignored_or_no_file(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").touch()
    (tmp_path / "f").write_text("f")
    (tmp_path / "f").chmod(0o4755)
    (tmp_path / "link").symlink_to("/")
    os.mkfifo(tmp_path / "pipe")
    rules = ignored.IgnoreRules([".git"])
    assert packed(tmp_path, rules) == [("f", b"0"), ("link", b"2"), ("pipe", b"6")]
    account = selection.Selection()
    assert packed(tmp_path, rules, account) == [("f", b"0"), ("link", b"2")]
    assert (account.files, account.bytes) == (1, 1)
    assert dict(account.left_out) == {
        "f": "carried without its set-id bits",
        "pipe": "a named pipe",
    }
    assert packed(tmp_path, rules, selection.Selection(links="skip")) == [("f", b"0")]
    with pytest.raises(ValueError, match="symbolic link: 'link'"):
        archive.refuse_links(str(tmp_path), rules, selection.Selection(links="refuse"))


def test_packing_names_no_path_that_is_too_long(tmp_path: Path) -> None:
    deep(tmp_path, 500)
    account = selection.Selection(room=101)
    names = [name for name, _ in packed(tmp_path, None, account)]
    assert max(map(len, names)) <= 100
    assert account.left_out_total == 800
    assert max(len(name) for name, _ in packed(tmp_path)) < selection.PATH_MAX + 10


def test_packing_goes_on_when_a_file_goes_and_tells_when_one_shrinks(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(3_000_000))
    pieces = archive.tar_pieces(str(tmp_path), None, None)
    next(pieces)
    (tmp_path / "b").unlink()
    names = [piece[:1] for piece in pieces if len(piece) == tar.BLOCK and piece[:1] != b"\0"]
    assert names == [b"c"]
    pieces = archive.tar_pieces(str(tmp_path), None, None)
    next(pieces)
    os.truncate(tmp_path / "a", 10)
    with pytest.raises(OSError, match="shorter"):
        list(pieces)
