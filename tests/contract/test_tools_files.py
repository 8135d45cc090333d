"""The tools for files over a real sandbox: what the model reads, and what is then on the disk."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.permissions.paths import show_path
from paddock.runtime.permissions.profile import PermissionProfile
from tests.contract.tool_calls import bash, caller

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox
    from tests.contract.tool_calls import Call

ODD_NAMES = [
    "new\nline.txt", "-rf", "--help", "$(touch evil)", "`id`", "a b.txt", "quo'te\".txt",
    "bytes\udcff\udcfe", "\udc80", "star*[x]?.txt", "back\\slash", "; rm x", "n" * 255, "ünï ©",
    '"quoted"', " led", "~", "%s", "line\r", "esc\x1b[31m",
]  # fmt: skip


# read


@pytest.mark.rows("S-44")
async def test_read_numbers_the_lines(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("a.txt", "one\ntwo\n\nfour")
    output = await call("read", path="a.txt")
    assert output.content == "     1  one\n     2  two\n     3  \n     4  four"


@pytest.mark.rows("S-44")
async def test_read_shows_a_part_and_tells_which(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("a.txt", "".join(f"{number}\n" for number in range(1, 1001)))
    output = await call("read", path="a.txt", start_line=5, end_line="6")
    assert output.content == "     5  5\n     6  6\n\n[Showing lines 5-6 of 1000]"
    whole = await call("read", path="a.txt", end_line=900)
    assert whole.content.endswith("   500  500\n\n[Showing lines 1-500 of 1000]")


@pytest.mark.rows("S-44")
async def test_read_cuts_long_lines(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("a.txt", "x" * 5000)
    assert (await call("read", path="a.txt")).content == f"     1  {'x' * 500}..."


async def test_read_tells_an_empty_file(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("a.txt", "")
    assert (await call("read", path="a.txt")).content == "[The file is empty]"


@pytest.mark.rows("S-44")
async def test_read_refuses_what_is_no_text_file(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.mkdir("folder")
    await sandbox.exec(["mkfifo", "pipe"])
    await sandbox.fs.write_bytes("nul", b"a\0b")
    await sandbox.fs.write_text("short", "a\n")
    expected = {
        "nope": "File not found: nope",
        "short/x": "Not a directory: short/x",
        "folder": "Not a file: folder",
        "pipe": "Not a file: pipe",
        "/dev/zero": "Not a file: /dev/zero",
        "image.PNG": "Cannot read a binary file: image.PNG",
        "nul": "Cannot read a binary file: nul",
    }
    async with asyncio.timeout(60):
        for path, content in expected.items():
            output = await call("read", path=path)
            assert (output.content, output.success) == (content, False)
    output = await call("read", path="short", start_line=3)
    assert output.content == "Start line 3 exceeds the file's length (1 lines)"
    output = await call("read", path="short", start_line=3, end_line=2)
    assert not output.success


async def test_read_refuses_a_file_that_would_take_minutes(sandbox: Sandbox, call: Call) -> None:
    await sandbox.exec(["truncate", "-s", "1T", "huge"], check=True)
    async with asyncio.timeout(60):
        output = await call("read", path="huge")
    assert output.content == "Too large: huge has 1099511627776 bytes; use head, tail or grep"


# write


@pytest.mark.rows("S-46")
async def test_write_creates_then_overwrites_and_counts(sandbox: Sandbox, call: Call) -> None:
    output = await call("write", path="new/dir/a.txt", content="ünï\nb")
    assert output.content == "Created new/dir/a.txt (7 bytes, 2 lines)"
    output = await call("write", path="new/dir/a.txt", content="")
    assert output.content == "Overwrote new/dir/a.txt (0 bytes, 0 lines)"
    assert await sandbox.fs.read_bytes("new/dir/a.txt") == b""


async def test_write_tells_what_stands_in_its_way(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.mkdir("folder")
    await sandbox.fs.write_text("file", "x")
    assert (await call("write", path="folder", content="x")).content == "Is a directory: folder"
    output = await call("write", path="file/a", content="x")
    assert not output.success
    assert await sandbox.fs.read_text("file") == "x"


@pytest.mark.rows("S-46")
async def test_create_only_replaces_nothing(sandbox: Sandbox) -> None:
    call = caller(sandbox, PermissionProfile.from_dict({"name": "x", "file_write": "create-only"}))
    assert (await call("write", path="a", content="1")).content == "Created a (1 bytes, 1 lines)"
    output = await call("write", path="a", content="2")
    assert not output.success
    assert output.content.startswith("File already exists: a")
    assert await sandbox.fs.read_text("a") == "1"


@pytest.mark.rows("S-46")
@pytest.mark.parametrize(
    "path",
    [
        ".bashrc", ".zshrc", ".profile", ".bash_profile", ".ssh/id", ".gnupg/x", ".aws/credentials",
        ".config/x", "/etc/evil", "/usr/evil", "/bin/evil", "/sbin/evil", ".git/hooks/pre-commit",
        "x/../.mcp.json", '".idea/x"',
    ],
)  # fmt: skip
async def test_create_only_does_not_touch_protected_paths(sandbox: Sandbox, path: str) -> None:
    call = caller(sandbox, PermissionProfile.from_dict({"name": "x", "file_write": "create-only"}))
    output = await call("write", path=path, content="x")
    assert not output.success
    assert output.content.startswith("Cannot write to a protected path")
    assert await sandbox.fs.list() == []


# edit


@pytest.mark.rows("S-47")
@pytest.mark.parametrize(
    ("before", "old", "new", "after", "how"),
    [
        (b"a\nb\nc", "b", "B", b"a\nB\nc", "exact match"),
        (b"a  \nb\n", "a\nb", "x", b"x\n", "match without trailing whitespace"),
        (b"    a\n      b\n", "a\n  b\n", "c\n", b"    c\n", "match without indentation"),
        (b"a\r\nb\r\n", "a\nb", "x\ny", b"x\r\ny\r\n", "exact match"),
        (b"\xff\xfe\x00 a \x80", "a", "b", b"\xff\xfe\x00 b \x80", "exact match"),
    ],
)
async def test_edit_changes_one_place_and_says_how_it_was_found(
    sandbox: Sandbox, call: Call, before: bytes, old: str, new: str, after: bytes, how: str
) -> None:
    await sandbox.fs.write_bytes("f", before)
    output = await call("edit", path="f", old_string=old, new_string=new)
    assert output.content == f"Edited f: {how}"
    assert await sandbox.fs.read_bytes("f") == after


async def test_edit_keeps_the_permission_bits(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("run.sh", "echo a\n")
    await sandbox.exec(["chmod", "750", "run.sh"], check=True)
    await call("edit", path="run.sh", old_string="a", new_string="b")
    assert (await sandbox.fs.stat("run.sh")).mode == 0o750


@pytest.mark.rows("S-47")
async def test_edit_refuses_what_is_not_clear_and_writes_nothing(
    sandbox: Sandbox, call: Call
) -> None:
    await sandbox.fs.write_text("f", "x x\n")
    await sandbox.fs.mkdir("folder")
    expected = {
        ("f", "x"): "Cannot edit f: old_string appears 2 times (must be unique). Add more context.",
        ("f", "y"): "Cannot edit f: old_string was not found. "
        "Read the file again and copy the text as it is.",
        ("nope", "x"): "File not found: nope",
        ("folder", "x"): "Not a file: folder",
    }
    for (path, old), content in expected.items():
        output = await call("edit", path=path, old_string=old, new_string="z")
        assert (output.content, output.success) == (content, False)
    assert await sandbox.fs.read_text("f") == "x x\n"


async def test_edit_refuses_a_huge_file_without_reading_it(sandbox: Sandbox, call: Call) -> None:
    await sandbox.exec(["truncate", "-s", "100G", "huge"], check=True)
    async with asyncio.timeout(60):
        output = await call("edit", path="huge", old_string="x", new_string="y")
    assert output.content.startswith("Too large to edit: huge")


async def test_edits_at_once_are_all_made_or_told_as_conflicts(
    sandbox: Sandbox, call: Call
) -> None:
    words = [f"<{number}>" for number in range(10)]
    await sandbox.fs.write_text("f", "\n".join(words))
    calls = (call("edit", path="f", old_string=word, new_string="done") for word in words)
    outputs = await asyncio.gather(*calls)
    text = await sandbox.fs.read_text("f")
    assert text.count("done") == sum(output.success for output in outputs) >= 1
    conflicts = {output.content for output in outputs if not output.success}
    assert conflicts <= {"f was changed meanwhile, nothing was written. Read it again."}


# list, glob, grep


@pytest.mark.rows("S-48")
async def test_list_shows_kinds_and_sizes(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("a.txt", "12345")
    await sandbox.fs.write_text("sub/deep/b.txt", "")
    await sandbox.fs.write_text(".hidden", "")
    await sandbox.exec(["ln", "-s", "a.txt", "link"])
    output = await call("list")
    assert output.content == "a.txt  5\nlink@\nsub/"
    await sandbox.fs.write_text("levels/1/2/3/4", "")
    assert (await call("list", path="levels")).content == "1/"
    assert (await call("list", path="levels", recursive=True)).content == "1/\n1/2/\n1/2/3/"
    output = await call("list", path="levels", recursive=True, max_depth=4)
    assert output.content == "1/\n1/2/\n1/2/3/\n1/2/3/4  0"
    output = await call("list", path="sub", recursive=True, show_hidden="true")
    assert output.content == "deep/\ndeep/b.txt  0"
    assert ".hidden  0" in (await call("list", show_hidden=True)).content


@pytest.mark.rows("S-48")
async def test_what_tools_made_is_not_searched(sandbox: Sandbox, call: Call) -> None:
    for folder in ("src", ".git", "node_modules", "__pycache__", ".venv", "venv"):
        await sandbox.fs.write_text(f"{folder}/a.py", "needle\n")
    assert (await call("glob", pattern="*.py")).content == "src/a.py\n\n[1 files found]"
    assert (await call("grep", pattern="needle")).content == "src/a.py:1:needle"
    listed = (await call("list", recursive=True, show_hidden=True)).content.splitlines()
    assert [line for line in listed if "a.py" in line] == ["src/a.py  7"]


@pytest.mark.rows("S-48")
async def test_a_search_that_asks_for_no_other_number_shows_a_hundred(
    sandbox: Sandbox, call: Call
) -> None:
    await sandbox.exec("for i in $(seq 101); do echo x >$i.txt; done", check=True)
    shown = (await call("glob", pattern="*.txt")).content.splitlines()
    assert (len(shown), shown[-1]) == (102, "[Showing 100 of 101 files]")
    shown = (await call("grep", pattern="x")).content.splitlines()
    assert (len(shown), shown[-1]) == (102, "[Showing the first 100 matches]")


@pytest.mark.rows("S-48")
async def test_list_stops_at_two_hundred_entries(sandbox: Sandbox, call: Call) -> None:
    await sandbox.exec("mkdir d && cd d && seq 201 | xargs touch", check=True)
    output = await call("list", path="d")
    assert len(output.content.splitlines()) == 202
    assert output.content.endswith("\n\n[Showing the first 200 entries]")


async def test_list_tells_what_is_no_directory(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("f", "")
    await sandbox.fs.mkdir("empty")
    assert (await call("list", path="nope")).content == "File not found: nope"
    assert (await call("list", path="f")).content == "Not a directory: f"
    assert (await call("list", path="empty")).content == "[The directory is empty]"


@pytest.mark.rows("S-48")
async def test_glob_finds_files_relative_to_where_it_looked(sandbox: Sandbox, call: Call) -> None:
    for path in ("src/a.py", "src/sub/b.py", "src/node_modules/c.py", "d.py", "src/e.txt"):
        await sandbox.fs.write_text(path, "")
    output = await call("glob", pattern="*.py", path="src")
    assert output.content == "a.py\nsub/b.py\n\n[2 files found]"
    output = await call("glob", pattern="**/*.py", max_results=1)
    assert output.content.endswith("\n\n[Showing 1 of 3 files]")
    assert (await call("glob", pattern="*.rs")).content == "No files match *.rs"
    output = await call("glob", pattern="*.py", path="nope")
    assert (output.content, output.success) == ("File not found: nope", False)


@pytest.mark.rows("S-48")
async def test_grep_shows_path_line_and_text(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("src/a.py", "import os\nx = 1\nprint(os)\n")
    await sandbox.fs.write_text("src/b.txt", "OS\n")
    output = await call("grep", pattern="os")
    assert output.content == "src/a.py:1:import os\nsrc/a.py:3:print(os)"
    output = await call("grep", pattern="os", path="src", ignore_case=True, glob="*.txt")
    assert output.content == "b.txt:1:OS"
    output = await call("grep", pattern=r"^p\w+\(", path="src/a.py", context_lines=1)
    assert output.content == "a.py-2-x = 1\na.py:3:print(os)"


async def test_grep_tells_when_there_is_nothing_too_much_or_a_mistake(
    sandbox: Sandbox, call: Call
) -> None:
    await sandbox.fs.write_text("a", "x\n" * 10)
    assert (await call("grep", pattern="y")).content == "No matches for y"
    output = await call("grep", pattern="x", max_matches=3)
    assert output.content == "a:1:x\na:2:x\na:3:x\n\n[Showing the first 3 matches]"
    output = await call("grep", pattern="(")
    assert not output.success
    assert output.content.startswith("Invalid pattern: ")
    output = await call("grep", pattern="x", path="nope")
    assert (output.content, output.success) == ("File not found: nope", False)


async def test_grep_parts_blocks_of_context(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.write_text("a", "x\n1\n2\n3\n4\nx\n")
    output = await call("grep", pattern="x", context_lines=1)
    assert output.content == "a:1:x\na-2-1\n--\na-5-4\na:6:x"


# any name


async def test_every_tool_works_with_every_name(sandbox: Sandbox, call: Call) -> None:
    names = {show_path(name): name for name in ODD_NAMES}
    await asyncio.gather(*(_use(sandbox, call, name) for name in ODD_NAMES))
    listed = (await call("list", show_hidden=True)).content.splitlines()
    assert sorted(listed) == sorted(f"{shown}  4" for shown in names)
    found = (await call("glob", pattern="*")).content.splitlines()
    assert sorted(found[:-2]) == sorted(names)
    assert found[-1] == f"[{len(names)} files found]"
    matches = (await call("grep", pattern="two")).content.splitlines()
    assert sorted(matches) == sorted(f"{shown}:1:two" for shown in names)
    assert {entry.name for entry in await sandbox.fs.list()} == {*ODD_NAMES}
    text, facts = await bash(call, "find . -type f | wc -l")
    ends_of_lines = sum(name.count("\n") for name in ODD_NAMES)
    assert (int(text), facts["exit_code"]) == (len(names) + ends_of_lines, 0)


async def _use(sandbox: Sandbox, call: Call, name: str) -> None:
    shown = show_path(name)
    output = await call("write", path=shown, content="one\n")
    assert output.content == f"Created {shown} (4 bytes, 1 lines)"
    assert await sandbox.fs.read_text(PurePosixPath(name)) == "one\n"
    assert (await call("read", path=shown)).content == "     1  one"
    output = await call("edit", path=shown, old_string="one", new_string="two")
    assert output.content == f"Edited {shown}: exact match"
    assert (await call("grep", pattern="two", path=shown)).content == f"{shown}:1:two"


async def test_a_directory_with_an_odd_name_can_be_worked_in(sandbox: Sandbox, call: Call) -> None:
    shown = show_path("d\n\udcff")
    inside = show_path("d\n\udcff/a")
    await call("write", path=inside, content="x")
    assert (await call("glob", pattern="*", path=shown)).content == "a\n\n[1 files found]"
    text, _ = await bash(call, "ls", working_dir=shown)
    assert text == "a"


async def test_a_read_only_file_is_left_alone_and_the_model_told_why(
    sandbox: Sandbox, call: Call
) -> None:
    await sandbox.exec("echo one > f; chmod 444 f", check=True)
    if (await sandbox.exec("test -w f")).ok:  # root may write to it all the same
        assert (await call("write", path="f", content="two\n")).success
        assert (await sandbox.fs.stat("f")).mode == 0o444
        return
    for output in (
        await call("write", path="f", content="two\n"),
        await call("edit", path="f", old_string="one", new_string="two"),
    ):
        assert not output.success
        assert "f is read-only (mode 0444), and nothing was written" in output.content
    assert await sandbox.fs.read_text("f") == "one\n"
