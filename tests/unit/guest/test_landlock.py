"""Landlock rule sets, each applied in a process of its own, which then tries what they forbid."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import landlock
from paddock.backends.guest.inside.landlock import RuleSet, handled_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Require

NOBODY = 65534
PRELUDE = """
import os, signal, socket, sys
from paddock.backends.guest.inside.landlock import RuleSet
def attempt(name, work):
    try:
        work()
    except OSError as error:
        print(name, error.errno and os.strerror(error.errno))
    else:
        print(name, "done")
"""


def _confined(program: str, *arguments: object) -> dict[str, str]:
    """Run `program` in a fresh interpreter; return what each of its attempts came to."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.fixture(autouse=True)
def _abi(require: Require) -> None:
    require("landlock", landlock.abi(), "the kernel has no Landlock")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A readable, a writable and a closed directory, each with a file `name`."""
    made = tmp_path / "readable", tmp_path / "writable", tmp_path / "closed"
    for folder in made:
        folder.mkdir()
        (folder / "name").write_text("text")
    return made


def test_files_can_be_reached_only_as_the_rules_say(folders: tuple[Path, Path, Path]) -> None:
    found = _confined(
        """
readable, writable, closed = sys.argv[1:]
with RuleSet(readable=[readable, "/nowhere/at/all"], writable=[writable], tcp=True) as rules:
    rules.restrict()
for folder in readable, writable, closed:
    name = os.path.basename(folder)
    attempt(name + ".read", lambda: open(folder + "/name").read())
    attempt(name + ".list", lambda: os.listdir(folder))
    attempt(name + ".write", lambda: open(folder + "/name", "r+"))
    attempt(name + ".truncate", lambda: os.truncate(folder + "/name", 0))
    attempt(name + ".empty", lambda: os.close(os.open(folder + "/name", os.O_RDONLY | os.O_TRUNC)))
    attempt(name + ".make", lambda: os.mkdir(folder + "/made"))
    attempt(name + ".link", lambda: os.symlink("x", folder + "/link"))
    attempt(name + ".remove", lambda: os.unlink(folder + "/name"))
attempt("up", lambda: open(writable + "/../closed/name").read())
os.symlink(closed + "/name", writable + "/out")
attempt("by-link", lambda: open(writable + "/out").read())
attempt("device", lambda: os.mknod(writable + "/device", 0o20666, 259))
""",
        *folders,
    )
    refused = "Permission denied"
    allowed = {
        *("readable.read", "readable.list", "writable.read", "writable.list", "writable.write"),
        *("writable.truncate", "writable.empty", "writable.make", "writable.link"),
        *("writable.remove",),
    }
    if landlock.abi() < landlock.TRUNCATE_ABI:
        pytest.skip(f"ABI {landlock.abi()} does not restrict truncation")
    device = found.pop("device")
    assert device in (refused, "Operation not permitted")
    assert found == {name: "done" if name in allowed else refused for name in found}
    assert (folders[0] / "name").read_text() == "text"
    assert (folders[2] / "name").read_text() == "text"


def test_a_rule_for_one_file_opens_no_other(folders: tuple[Path, Path, Path]) -> None:
    found = _confined(
        """
folder = sys.argv[1]
open(folder + "/other", "w").close()
with RuleSet(readable=[folder + "/name"], writable=["/dev/null"], tcp=True) as rules:
    rules.restrict()
attempt("file", lambda: open(folder + "/name").read())
attempt("other", lambda: open(folder + "/other").read())
attempt("null", lambda: open("/dev/null", "w").write("x"))
attempt("zero", lambda: open("/dev/zero"))
""",
        folders[0],
    )
    refused = "Permission denied"
    assert found == {"file": "done", "other": refused, "null": "done", "zero": refused}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(("tcp", "expected"), [(False, "Permission denied"), (True, "done")])
def test_tcp_is_closed_unless_it_is_allowed(
    listener: socket.socket, tcp: bool, expected: str, require: Require
) -> None:
    require("landlock", landlock.abi() >= landlock.TCP_ABI, "the kernel cannot restrict TCP")
    found = _confined(
        """
tcp, port = int(sys.argv[1]), int(sys.argv[2])
with RuleSet(readable=[], writable=[], tcp=bool(tcp)) as rules:
    rules.restrict()
attempt("connect", lambda: socket.socket().connect(("127.0.0.1", port)))
attempt("bind", lambda: socket.socket().bind(("127.0.0.1", 0)))
""",
        int(tcp),
        listener.getsockname()[1],
    )
    assert found == {"connect": expected, "bind": expected}


def test_tcp_that_cannot_be_closed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 3)
    with pytest.raises(OSError, match="TCP cannot be restricted by this kernel"):
        RuleSet(readable=[], writable=[])


def test_no_landlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_libc", None)
    assert landlock.abi() == 0
    with pytest.raises(OSError, match="Landlock is not available"):
        RuleSet(readable=[], writable=[], tcp=True)


def test_processes_outside_can_be_neither_signalled_nor_read(require: Require) -> None:
    require("landlock", landlock.abi() >= landlock.SCOPE_ABI, "the kernel cannot scope signals")
    # Root may read every environment, so both processes become an ordinary user.
    user = NOBODY if os.getuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], user=user) as outside:
        try:
            found = _confined(
                """
outside, user = sys.argv[1:]
if user != "None":
    os.setresuid(int(user), int(user), int(user))
with RuleSet(readable=["/proc"], writable=[], tcp=True) as rules:
    rules.restrict()
attempt("signal", lambda: os.kill(int(outside), 0))
for name in "environ", "mem", "maps":
    attempt(name, lambda: open("/proc/%s/%s" % (outside, name), "rb"))
for name in "cwd", "root", "fd/0":
    attempt(name, lambda: os.stat("/proc/%s/%s" % (outside, name)))
child = os.fork()
if not child:
    signal.pause()
attempt("child", lambda: os.kill(child, signal.SIGKILL))
os.waitpid(child, 0)
""",
                outside.pid,
                user,
            )
        finally:
            outside.kill()
    assert found.pop("child") == "done"
    assert found.pop("signal") == "Operation not permitted"
    assert set(found.values()) == {"Permission denied"}, found


def test_abstract_sockets_of_others_are_closed(require: Require) -> None:
    require("landlock", landlock.abi() >= landlock.SCOPE_ABI, "the kernel cannot scope sockets")
    name = f"\0paddock-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        found = _confined(
            """
with RuleSet(readable=[], writable=[], tcp=True) as rules:
    rules.restrict()
attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1]))
""",
            name[1:],
        )
    assert found == {"connect": "Operation not permitted"}


def test_it_lasts_over_exec_and_in_children(folders: tuple[Path, Path, Path]) -> None:
    found = _confined(
        """
with RuleSet(readable=["/usr", "/bin", "/lib", "/lib64"], writable=[], tcp=True) as rules:
    rules.restrict()
script = 'sh -c "cat $0" "$0" && echo read yes || echo read no'
os.execv("/bin/sh", ["sh", "-c", script, sys.argv[1]])
""",
        folders[2] / "name",
    )
    assert found == {"read": "no"}


def test_one_rule_set_serves_many_children(folders: tuple[Path, Path, Path]) -> None:
    with RuleSet(readable=[str(folders[0])], writable=[], tcp=True) as rules:
        for _ in range(2):
            child = os.fork()
            if child == 0:
                try:
                    rules.restrict()
                    os.listdir(folders[0])
                    os.listdir(folders[1])
                except PermissionError as error:
                    os._exit(0 if error.filename == str(folders[1]) else 2)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.listdir(folders[1])  # the parent is as free as before


@pytest.mark.parametrize(
    ("found", "rights"), [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (7, 16), (99, 16)]
)
def test_each_abi_restricts_the_rights_that_it_knows(found: int, rights: int) -> None:
    assert handled_files(found) == (1 << rights) - 1
