"""Patterns of what is ignored: as git has them, never slow, and bounded."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import archive
from paddock.backends.guest.inside.ignored import GITIGNORE_MAX, MAX_PATTERNS, IgnoreRules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = [
    "a", "a.log", "keep.log", "#x", "!y", "a b", "trailing ", "[z]", "star*", "d/a", "d/a.log",
    "d/e/a", "d/e/f/a.log", "d/build/x", "build/x", "build/keep.log", "e/d/e/a", "x/y/z/w", "x/z",
    "deep/a/b/c/d", "dist", "e/dist/x", "ab/c", "abc",
]  # fmt: skip
LISTS: list[dict[str, list[str]]] = [
    {"": ["*.log"]},
    {"": ["*.log", "!keep.log"]},
    {"": ["build", "!build/keep.log"]},
    {"": ["build/*", "!build/keep.log"]},
    {"": ["/a", "/dist/", "dist/"]},
    {"": ["d/e", "/e/d/*"]},
    {"": ["**/e/a", "x/**/z"]},
    {"": ["x/**", "**/build/**", "deep/**/d"]},
    {"": ["# comment", "\\#x", "\\!y", "", "   "]},
    {"": ["trailing ", "a b   ", "star\\*"]},
    {"": ["trailing\\ "]},
    {"": ["[[]z]", "[!a]", "?"]},
    {"": ["[z]", "[unclosed", "ab[c-d]"]},
    {"": ["*", "!*/", "!*.log"]},
    {"": ["*", "!d", "!d/e", "!d/e/**"]},
    {"": ["a*", "!abc"], "d": ["!a.log", "e/"]},
    {"": ["*.log"], "d": ["!*.log"], "d/e": ["*.log"]},
    {"d": ["/a", "build"], "d/e": ["!a"]},
    {"": ["d/"], "d": ["!a"]},
    {"": ["*.log\r", "dist\r"]},
]


@pytest.mark.parametrize("lists", LISTS)
def test_the_files_that_git_ignores_are_ignored(
    lists: dict[str, list[str]], tmp_path: Path
) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for folder, lines in lists.items():
        (tmp_path / folder / ".gitignore").write_text("\n".join(lines))
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*args: str) -> str:
        command = ["git", "-C", str(tmp_path), *args]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True
        ).stdout.decode()

    git("init", "-q")
    theirs = git("ls-files", "-z", "--others", "--exclude-standard").split("\0")[:-1]
    rules = IgnoreRules([".git"], gitignore=True)
    found = archive.entries_below(str(tmp_path), rules)
    ours = [path for _, _, path, info in found if info.st_nlink == 1]
    assert sorted(ours) == sorted(theirs)


def test_patterns_come_before_the_files_in_the_tree() -> None:
    rules = IgnoreRules(["*.log", "!keep.log"])
    rules.add("", b"keep.log\n!a.log\nother\n")
    ignored = [name for name in ("keep.log", "a.log", "other", "x") if rules.ignores(name, False)]
    assert ignored == ["a.log", "other"]


def test_what_is_in_an_ignored_directory_is_ignored_in_any_order() -> None:
    rules = IgnoreRules(["d", "!d/keep", "!d/e/keep"])
    assert rules.ignores("d/e/keep", False)
    assert rules.ignores("d/keep", False)
    assert not rules.ignores("e/keep", False)
    rules.add("d/e", b"!keep")
    assert rules.ignores("d/e/keep", False)


@pytest.mark.parametrize(
    "text", ["*a" * 30 + "b", "**/a/" * 30 + "b", "a*" * 30 + "/**/" + "*a" * 30]
)
def test_no_pattern_makes_matching_slow(text: str) -> None:
    rules = IgnoreRules([text])
    assert not rules.ignores("a" * 250 + "c", False)
    assert not rules.ignores("a/" * 2000 + "c", False)


def test_the_patterns_of_a_tree_are_bounded(tmp_path: Path) -> None:
    rules = IgnoreRules()
    rules.add("", b"x\n" * MAX_PATTERNS)
    with pytest.raises(ValueError, match="patterns"):
        rules.add("d", b"y\n")
    (tmp_path / ".gitignore").write_bytes(b"#" * (GITIGNORE_MAX + 1))
    with pytest.raises(ValueError, match="bytes"):
        list(archive.entries_below(str(tmp_path), IgnoreRules(gitignore=True)))


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_a_gitignore_that_is_no_file_says_nothing(kind: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: (tmp_path / ".gitignore").symlink_to("kept"),
        "pipe": lambda: os.mkfifo(tmp_path / ".gitignore"),
        "directory": (tmp_path / ".gitignore").mkdir,
    }
    make[kind]()
    rules = IgnoreRules(gitignore=True)
    found = [path for _, _, path, _ in archive.entries_below(str(tmp_path), rules)]
    assert found == [".gitignore", "kept"]
