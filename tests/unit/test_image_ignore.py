"""Patterns of files to ignore: each case is what BuildKit of Docker 23 sends of the same files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError
from paddock.image import Image
from paddock.image.ignore import IgnoreRules, read_patterns

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("patterns", "files", "sent"),
    [
        (r"q\?x", "q?x qax", "qax"),
        (" #a", "#a", ""),
        ("#a", "#a", "#a"),
        ("\ufeff#a\n\n b \r\n/c\n./d/\ne/../f", "#a b c d e f", "#a e"),
        ("*\n! b\n!/c", "a b c", "b c"),
        ("*.LOG", "a.log b.LOG", "a.log"),
        ("[^a]x\n[!b]y\n[a-c\\]]z", "ax bx ay by !y cz dz ]z", "ax ay dz"),
        ("a]\nx.y\n(p)+", "a] a x.y xzy (p)+ pp", "a xzy pp"),
        ("*/x", "x d/x d/e/x", "x d/e/x"),
        ("**/x", "x d/x d/e/x/y dx", "dx"),
        ("a/**/c\nb**", "a/c a/b/c a/b/d/c a/x b b1/c cb", "a/x cb"),
        ("**foo\n**b?r", "xfoo d/yfoo foo1 xbar bor d/bar", "foo1 xbar"),
        ("***x", "ax d/bx d/y", "d/y"),
        ("d\n!d/keep", "d/keep d/no", "d/keep"),
        ("d\n!d/*.k", "d/x.k d/no d/e/y.k", "d/x.k"),
        ("d/*\n!d/**/keep", "d/e/keep d/keep d/e/x", "d/e/keep d/keep"),
        ("*\n!**/*.go\n!go.mod", "m.go a/b/c.go a/b/n.txt s.env go.mod", "m.go a/b/c.go go.mod"),
        ("**\n!a\n**/*.pyc", "a/x.py a/b/x.py a/b/x.pyc b/x.py", "a/x.py a/b/x.py"),
        ("**/x\n!d", "x d/x d/e", "d/e"),
        ("../a\n.\n/", "a", "a"),
    ],
)
def test_a_file_is_left_out_where_the_docker_cli_leaves_it_out(
    patterns: str, files: str, sent: str, tmp_path: Path
) -> None:
    for name in files.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = IgnoreRules(read_patterns(patterns)).walk(tmp_path)
    assert {name for name in found if not (tmp_path / name).is_dir()} == {*sent.split()}


@pytest.mark.parametrize("pattern", ["[", "[]a]", "[^]", "[a-]", "[z-a]", "a\\", "!", "! "])
def test_what_is_no_pattern_is_a_config_error(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add_local_dir: ignore: .* is no pattern"):
        Image.from_registry("debian").add_local_dir(tmp_path, "/src", ignore=[pattern])
    (tmp_path / "Dockerfile").touch()
    (tmp_path / ".dockerignore").write_text(pattern)
    with pytest.raises(ConfigError, match=r"\.dockerignore: .* is no pattern"):
        Image.from_dockerfile(tmp_path / "Dockerfile").bundle()


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.dockerignore", ".dockerignore"])
def test_a_file_that_is_not_utf_8_is_a_config_error_that_names_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / name).write_bytes(b"# \xe9\nFROM scratch\n")
    with pytest.raises(ConfigError, match=rf"from_dockerfile: \S+/{name} is not text in UTF-8"):
        Image.from_dockerfile(tmp_path / "Dockerfile").bundle()
