"""Searches: with ripgrep and without it the same is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddock.backends.guest.inside import search

if TYPE_CHECKING:
    from collections.abc import Callable

RIPGREP = shutil.which("rg")


def grep(root: Path, pattern: str, *, program: str | None = None, **given: Any) -> list[Any]:
    arguments = {
        "pattern": pattern,
        "path": str(root),
        "glob": None,
        "ignore_case": False,
        "context": 0,
        "limit": 100,
        "most": 1 << 30,
        "skipped": ["node_modules", ".git"],
        "search_path": os.path.dirname(program) if program else "/nowhere",
    }
    return list(search.grep({**arguments, **given}))


def both(root: Path, pattern: str, **given: Any) -> list[Any]:
    """What is found, after a look that both ways find the same."""
    plain = grep(root, pattern, **given)
    if RIPGREP is not None:
        assert grep(root, pattern, program=RIPGREP, **given) == plain
    return plain


@pytest.fixture(autouse=True)
def _ripgrep_is_wanted(require: Callable[[str, object, str], None]) -> None:
    require("ripgrep", RIPGREP, "rg is not installed, so there is nothing to compare with")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    files = {
        "a.py": b"import os\nfoo = 1\n\nbar = foo\n",
        "a/b.py": b"def foo():\n    pass\n",
        "a.b/c.txt": b"foo\r\nbar\r\n\r\nfoo bar\r\n",
        "a/z/deep.py": b"x\n" * 50 + b"foo\n" + b"x\n" * 50 + b"foo",
        "Upper.TXT": b"FOO Foo \xc3\x89T\xc3\x89 \xc3\xa9t\xc3\xa9\n",
        "latin.txt": b"caf\xe9 foo\n\xff\xfe\n",
        "binary.bin": b"foo\nfoo\n" + b"\0" + b"foo\n",
        "binary-later.bin": b"foo\n" + b"x" * 100 + b"\n" + b"y\n" * 40_000 + b"\0\n",
        "utf16.txt": "foo\n".encode("utf-16"),
        "bom.txt": b"\xef\xbb\xbffoo\n",
        "empty": b"",
        "no-newline": b"foo",
        "blank": b"\n\n\nfoo\n\n\n",
        "long.txt": b"a" * 3000 + b"foo\nshort foo\n",
        "too-long.txt": b"foo\n" + b"a" * (5 * 1024 * 1024) + b"foo\nfoo\n",
        "many.txt": b"needle\nhay\n" * 300,
        ".hidden/x": b"foo\n",
        ".gitignore": b"*\n",
        "node_modules/m.js": b"foo\n",
        "d/node_modules/m.js": b"foo\n",
        "d/.git/config": b"foo\n",
        "we ird/-rf": b"foo\n",
        "!bang": b"foo\n",
        "#hash ": b"foo\n",
        "new\nline": b"foo\n",
        "b[1].txt": b"foo\n",
    }
    for name, contents in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(contents)
    (root / os.fsdecode(b"\xff\xfe")).write_bytes(b"foo\n")
    (root / "link").symlink_to("a.py")
    (root / "linked").symlink_to("a")
    os.mkfifo(root / "pipe")
    return root


@pytest.mark.parametrize(
    "pattern",
    [
        "foo", "^foo", "foo$", "^$", r"foo\s", r"\bfoo\b", "f.o", "(import|def) ",
        "[fb][oa][or]", "caf", "é", "nothing at all", "x{2}", r"\w+ = \w+", r"\d", "foo bar$",
        r"bar\r",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("context", "ignore_case"), [(0, False), (0, True), (3, False)])
def test_both_find_the_same(corpus: Path, pattern: str, context: int, ignore_case: bool) -> None:
    both(corpus, pattern, context=context, ignore_case=ignore_case, limit=1_000_000)


@pytest.mark.parametrize(
    "glob",
    [
        "*.py", "a/*.py", "a/**", "**/*.txt", "*.{py,TXT}", "?.py", "[ab]*", "[!a]*", "a/**/*.py",
        "node_modules/**", "*", "!bang", "#hash ", "-rf", "we ird/*", "b\\[1\\].txt", "b[[]1].txt",
        "new\n*", "\udcff*", "./a.py", "nothing", "a.b/*", "{a,a.b}/*", "a/", "{a,b}" * 5,
    ],
)  # fmt: skip
def test_both_search_the_same_files(corpus: Path, glob: str) -> None:
    found = {hit[0] for hit in both(corpus, "foo", glob=glob)}
    listed = next(search.glob({"pattern": glob, "path": str(corpus), "limit": None, "skipped": []}))
    assert found <= {str(corpus / name) for name in listed["paths"]}


def test_what_is_found_is_in_the_order_of_names_and_lines(corpus: Path) -> None:
    found = [(os.path.relpath(hit[0], corpus), *hit[1:]) for hit in both(corpus, "foo")]
    assert found == sorted(found, key=lambda hit: (os.fsencode(hit[0]).split(b"/"), hit[1]))
    names = {hit[0] for hit in found}
    assert {"a.py", "a/b.py", ".hidden/x", "new\nline", "\udcff\udcfe", "#hash "} <= names
    assert not names & {"link", "linked/b.py", "binary.bin", "binary-later.bin", "utf16.txt"}
    assert not any("node_modules" in name or ".git" in name for name in names)
    assert [hit[1] for hit in found if hit[0] == "too-long.txt"] == [1, 3]


def test_context_is_told_from_matches_and_no_line_comes_twice(corpus: Path) -> None:
    found = both(corpus / "a.py", "foo", context=1)
    assert [hit[1:] for hit in found] == [
        [1, "import os", False],
        [2, "foo = 1", True],
        [3, "", False],
        [4, "bar = foo", True],
    ]


@pytest.mark.parametrize("limit", [1, 299, 300, 301])
def test_matches_are_limited_and_that_is_told(corpus: Path, limit: int) -> None:
    found = both(corpus / "many.txt", "needle", limit=limit, context=1)
    assert (found[-1] is None) == (limit < 300)
    assert sum(hit[3] for hit in found if hit) == min(limit, 300)


@pytest.mark.parametrize("name", ["a.py", "binary.bin", "link", "\udcff\udcfe", "latin.txt"])
def test_one_file_is_searched_whatever_the_glob(corpus: Path, name: str) -> None:
    found = both(corpus / name, "foo", glob="*.nothing")
    assert bool(found) == (name != "binary.bin")


def test_the_empty_pattern_matches_every_line(corpus: Path) -> None:
    assert [hit[1:] for hit in both(corpus / "blank", "")][3:] == [
        [4, "foo", True],
        [5, "", True],
        [6, "", True],
    ]


def test_a_long_line_is_cut(corpus: Path) -> None:
    first, second = both(corpus / "long.txt", "a{2000}foo|short")
    assert first[2] == "a" * search.LINE_SHOWN + "..."
    assert second[2] == "short foo"


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a{2,1}", r"\p"])
@pytest.mark.parametrize("program", [None, RIPGREP])
def test_a_bad_pattern_is_a_value_error(corpus: Path, pattern: str, program: str | None) -> None:
    with pytest.raises(ValueError, match="bad pattern"):
        grep(corpus, pattern, program=program)


@pytest.mark.parametrize("pattern", [r"foo(?= bar)", r"(o)\1", "\udcff"])
def test_what_ripgrep_does_not_take_is_found_without_it(corpus: Path, pattern: str) -> None:
    assert both(corpus, pattern)


@pytest.mark.parametrize(
    ("path", "error"),
    [("missing", FileNotFoundError), ("pipe", OSError), ("a.py/x", NotADirectoryError)],
)
def test_what_cannot_be_searched_is_an_error(corpus: Path, path: str, error: type[OSError]) -> None:
    for program in (None, RIPGREP):
        with pytest.raises(error):
            grep(corpus / path, "foo", program=program)


def script(folder: Path, text: str) -> str:
    program = folder / "rg"
    program.write_text(text)
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\necho 'error: unknown option' >&2; exit 2\n", "no program at all", "#!/missing\n"],
)
def test_a_ripgrep_that_does_not_work_is_done_without(
    corpus: Path, tmp_path: Path, text: str
) -> None:
    assert grep(corpus, "foo", program=script(tmp_path, text)) == grep(corpus, "foo")


def test_a_ripgrep_that_is_killed_is_an_error_and_not_an_end(corpus: Path, tmp_path: Path) -> None:
    program = script(tmp_path, f'#!/bin/sh\n{RIPGREP} "$@" | head -n 3\nkill -9 $$\n')
    with pytest.raises(OSError, match="ended early"):
        grep(corpus, "foo", program=program)


def test_many_complaints_of_ripgrep_do_not_block_it(corpus: Path, tmp_path: Path) -> None:
    noise = "head -c 1000000 /dev/zero >&2"
    program = script(tmp_path, f'#!/bin/sh\n{noise}\nexec {RIPGREP} "$@"\n')
    assert grep(corpus, "foo", program=program) == grep(corpus, "foo")


def test_a_search_without_ripgrep_ends_in_a_file_that_is_too_long(tmp_path: Path) -> None:
    for name, size in (("a", 1), ("b", 1000), ("c", 1)):
        (tmp_path / name).write_text("needle\n" * size)
    *hits, last = grep(tmp_path, "needle", most=100, limit=1000)
    assert last == str(tmp_path / "b")
    assert [hit[0][-1] for hit in hits] == ["a", *["b"] * (100 // 7)]
    assert grep(tmp_path, "needle", most=7000, limit=1)[-1] is None
    assert len(grep(tmp_path, "needle", most=7000, limit=2000)) == 1002


def test_a_ripgrep_that_reads_a_file_without_end_is_ended(corpus: Path, tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    endless.write_bytes(b"x\n" * 1000)
    text = f"#!/bin/sh\nexec 3<{endless}\nhead -c 1601 <&3 >&2\nexec sleep 100\n"
    assert grep(corpus, "foo", program=script(tmp_path, text), most=100) == [str(endless)]


def test_where_there_can_be_no_more_threads_is_searched_without_ripgrep(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    plain = grep(corpus, "foo")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert grep(corpus, "foo", program=RIPGREP) == plain


def test_a_file_that_says_that_it_is_empty_is_read_without_waiting() -> None:
    found = grep(Path("/proc/self/status"), "^Name:", program=RIPGREP)
    assert [hit[1] for hit in found] == [1]


def test_a_search_that_is_given_up_leaves_no_process(corpus: Path, tmp_path: Path) -> None:
    started = tmp_path / "pid"
    program = script(
        tmp_path, f'#!/bin/sh\necho $$ > {started}\n{RIPGREP} "$@"\nexec sleep 100 >&-\n'
    )
    assert grep(corpus, "needle", program=program, limit=1)[-1] is None
    pid = int(started.read_text())
    assert subprocess.run(["kill", "-0", str(pid)], capture_output=True, check=False).returncode


LINES = st.lists(st.text("ab \r\u00e9", max_size=4), max_size=12)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=LINES,
    newline=st.booleans(),
    pattern=st.sampled_from(["a", "^a", "b$", "^$", "a|b", "[ab]{2}", " ", "é", "."]),
    context=st.integers(0, 3),
    limit=st.integers(1, 4),
)
def test_both_find_the_same_in_any_text(
    lines: list[str], newline: bool, pattern: str, context: int, limit: int, tmp_path: Path
) -> None:
    text = "\n".join(lines) + ("\n" if newline else "")
    (tmp_path / "f").write_bytes(text.encode())
    found = both(tmp_path, pattern, context=context, limit=limit)
    hits = {hit[1] for hit in found if hit is not None}
    assert len(hits) == sum(hit is not None for hit in found)


def test_glob_lists_files_and_links_in_order(corpus: Path) -> None:
    found = next(search.glob({"pattern": "*", "path": f"{corpus}/", "limit": 3, "skipped": ["a"]}))
    assert found["paths"] == sorted(found["paths"])
    assert found["total"] > len(found["paths"]) == 3
    every = next(search.glob({"pattern": "l*", "path": str(corpus), "limit": None, "skipped": []}))
    assert every["paths"] == ["latin.txt", "link", "linked", "long.txt"]
    with pytest.raises(NotADirectoryError):
        next(search.glob({"pattern": "*", "path": f"{corpus}/a.py", "limit": 1, "skipped": []}))


def test_glob_leaves_out_what_is_neither_a_file_nor_a_link(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("pipe")
    asked: dict[str, Any] = {"pattern": "*", "path": str(tmp_path), "limit": None, "skipped": []}
    assert next(search.glob(asked)) == {"total": 2, "paths": ["file", "link"]}
