"""What sandboxes of a shell decide by themselves: marks in a stream, trees, words."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.backends.base import Backend
from paddock.backends.posix.command import header, wrapped
from paddock.backends.posix.inside import LAUNCH, WRAPPER, Inside
from paddock.backends.posix.marks import Mark, Marks
from paddock.backends.posix.sandbox import ShellSandbox
from paddock.backends.posix.table import Entry, members, parse, targets
from paddock.sandbox import Command

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.process import SignalTarget

KEY = "0123456789abcdef"
END = f"\0{KEY} end 0\0".encode()


def _fed(pieces: list[bytes]) -> tuple[bytes, list[Mark]]:
    marks, output, found = Marks(KEY), b"", []
    for piece in pieces:
        for part in marks.feed(piece):
            if isinstance(part, tuple):
                found.append(part)
            else:
                output += part
    return output + marks.rest(), found


@given(
    texts=st.lists(
        st.sampled_from(
            [b"", b"\0", b"text", b"\0\0", f"\0{KEY}".encode(), END[:9], b"\0" + END[1:5]]
        )
    ),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_marks_are_found_however_the_stream_is_cut(texts: list[bytes], cuts: list[int]) -> None:
    text = b"".join(texts) + b"."
    stream = text + END + text
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(borders)]
    assert _fed(pieces) == (text + text, [("end", "0")])


def test_what_only_begins_like_a_mark_is_output() -> None:
    forged = f"\0{KEY} ".encode() + b"x" * 300
    assert _fed([forged, END]) == (forged, [("end", "0")])
    assert _fed([END[:-1]]) == (END[:-1], [])


def test_a_process_is_read_whatever_its_name_holds() -> None:
    numbers = "1 40 30 0 -1 4194304 79 0 0 0 0 0 0 0 20 0 1 0 514153 2560000 343"
    (entry,) = parse([f"{KEY} 41 (a) S 9 9 9 (b) S {numbers}", f"- 42 (gone) Z {numbers}", "junk"])
    assert entry == Entry(
        key=KEY, pid=41, parent=1, group=40, session=30, foreground=-1, started=514153
    )


def _entry(pid: int, **known: Any) -> Entry:
    usual: dict[str, Any] = {
        "key": "-",
        "parent": 1,
        "group": 1,
        "session": 1,
        "foreground": -1,
        "started": pid,
    }
    return Entry(pid=pid, **usual | known)


def test_a_signal_spares_the_wrapper_and_reaches_group_tree_or_foreground() -> None:
    ours = {"key": KEY, "session": 2, "foreground": 4}
    table = [
        _entry(1),
        _entry(2, group=2, **ours),
        _entry(3, parent=2, group=2, **ours),
        _entry(4, parent=3, group=4, **ours),
        _entry(5, key=KEY, session=5, group=5),
    ]

    def reached(to: SignalTarget, leader: int = 3) -> list[int]:
        return targets(table, to, key=KEY, root=2, leader=leader)

    assert sorted(reached("tree")) == [3, 4, 5]
    assert reached("group") == [3]
    assert reached("command") == [4]
    assert reached("command", leader=99) == []


def test_a_tree_is_found_by_key_session_parents_and_memory() -> None:
    def one(pid: int, parent: int = 1, session: int = 1, key: str = "-") -> Entry:
        return _entry(pid, parent=parent, session=session, key=key)

    table = [one(1), one(9, 8, 8), one(2, 1, 2, KEY), one(3, 1, 2), one(4, 3, 4), one(5), one(6, 5)]
    found = members(table, key=KEY, root=2, known=[(5, 5), (1, 99)])
    assert {entry.pid for entry in found} == {2, 3, 4, 5, 6}
    assert [entry.pid for entry in members(table, key=KEY, root=None, known=[])] == [2]


@pytest.mark.parametrize(
    "words", [("a b", "", "-n", "\n", "$x", "`"), ("\udcff\n", "%b\\0", "", "ü")]
)
def test_words_reach_a_command_as_they_are(words: tuple[str, ...]) -> None:
    command = Command(argv=("printf", "%s\\0", *words), cwd=PurePosixPath("/"), env={"A.B": "1"})
    inside = Inside(root=True, sh="/bin/sh", grep="grep", env={})
    argv = wrapped(command, inside)
    for word in argv:
        word.encode()
    done = subprocess.run(argv, capture_output=True, check=True, env={"PADDOCK_EXEC": KEY})
    output, marks = _fed([done.stdout])
    assert output == b"".join(word.encode(errors="surrogateescape") + b"\0" for word in words)
    assert [mark[:2] for mark in marks] == [("begin", marks[0][1]), ("end", "0")]


SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
BYTES = bytes(range(1, 256)).replace(b"/", b"")
"""All that a word can hold."""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("stdin", [True, False])
def test_a_header_starts_a_command_with_its_words_environment_and_stdin(
    shell: str, stdin: bool
) -> None:
    words = ("", "-n", "a b", "%s", "=", "\n", "x\n\n", "\\n%b", os.fsdecode(BYTES))
    env = {"PLAIN": "a  b=$c", "LINES": "\na\n", "A.B": "1", "UID": "7", "ODD": os.fsdecode(BYTES)}
    script = r"""
import json, os, sys
names = ["PLAIN", "LINES", "A.B", "UID", "ODD", "PADDOCK_EXEC"]
told = [sys.argv[1:], [os.environ.get(name) for name in names], sys.stdin.read()]
print(json.dumps(told))
"""
    command = Command(
        argv=(sys.executable, "-I", "-S", "-X", "utf8", "-c", script, *words),
        cwd=PurePosixPath("/"),
        env=env,
        stdin=stdin,
    )
    path = str(shutil.which(shell))
    program = [path, "sh"] if shell == "busybox" else [path]
    inside = Inside(root=True, sh="/bin/sh", grep="grep", env={})
    done = subprocess.run(
        [*program, "-c", LAUNCH, "paddock", WRAPPER],
        input=header(command, inside, KEY) + b"rest",
        stdout=subprocess.PIPE,
        check=True,
        env={"PATH": os.defpath},
        timeout=60,
    )
    output, marks = _fed([done.stdout])
    assert [mark[0] for mark in marks] == ["begin", "end"]
    assert marks[1][1] == "0"
    given, found, rest = json.loads(output)
    assert given == list(words)
    assert found == [*env.values(), KEY]
    assert rest == ("rest" if stdin else "")


def test_what_is_cut_off_before_its_header_is_whole_does_not_run() -> None:
    command = Command(argv=("touch", "/nowhere/at/all"), cwd=PurePosixPath("/"), env={})
    inside = Inside(root=True, sh="/bin/sh", grep="grep", env={})
    whole = header(command, inside, KEY)
    for end in {*range(0, len(whole), 9), len(whole) - 1}:
        done = subprocess.run(
            ["sh", "-c", LAUNCH, "paddock", WRAPPER],
            input=whole[:end],
            capture_output=True,
            check=False,
        )
        assert done.stdout + done.stderr == b""


def test_an_author_of_a_backend_that_can_only_start_programs_owes_three_methods() -> None:
    assert Backend.__abstractmethods__ == {"_make"}
    assert ShellSandbox.__abstractmethods__ == {"_open", "_close"}


def test_what_one_look_misses_is_found_by_the_next(tmp_path: Path) -> None:
    grep = tmp_path / "grep"
    grep.write_text(BLIND_AT_FIRST.format(looks=tmp_path / "looks"))
    grep.chmod(0o755)
    argv = ["sh", "-c", WRAPPER, "paddock", "sh", str(grep), "/", "sh", "-c", "sleep 3600 & true"]
    with subprocess.Popen(
        argv,
        env={"PATH": os.environ["PATH"], "PADDOCK_EXEC": KEY},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as wrapper:
        assert wrapper.stdout is not None
        try:
            told = b""
            while not (ends := re.findall(rb"\x00%s end ([0-9 ]+)\x00" % KEY.encode(), told)):
                told += os.read(wrapper.stdout.fileno(), 4096)
        finally:
            os.killpg(wrapper.pid, signal.SIGKILL)
    assert ends == [b"0 0"], "the exit code, and that something is left"


BLIND_AT_FIRST = """\
#!/bin/sh
echo >>{looks}
[ "$(wc -l <{looks})" -gt 2 ] || exit 1
exec grep "$@"
"""
