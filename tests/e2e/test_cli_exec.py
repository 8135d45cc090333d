"""`paddock exec` as people and programs use it, in real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.processes import LEAVING, processes_with

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_exec_ends_as_its_command_does(paddock: Paddock, code: int) -> None:
    assert paddock("exec", "--", "sh", "-c", f"exit {code}").returncode == code


def test_exec_tells_death_by_signal_as_a_shell_does(paddock: Paddock) -> None:
    assert paddock("exec", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_exec_of_a_missing_program_is_127(paddock: Paddock) -> None:
    assert paddock("exec", "--", "no-such-program-anywhere").returncode == 127


def test_exec_keeps_the_two_streams_apart(paddock: Paddock) -> None:
    done = paddock("exec", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_exec_passes_options_of_the_command_on(paddock: Paddock) -> None:
    done = paddock("exec", "--", "echo", "--help", "-n", "--", "x")
    assert done.stdout == "--help -n -- x\n"


def test_exec_passes_bytes_through_both_ways(paddock: Paddock) -> None:
    data = bytes(range(256)) * 4096
    done = subprocess.run(
        paddock.command("exec", "--", "cat"),
        cwd=paddock.cwd,
        env=paddock.environment,
        input=data,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


def test_exec_does_not_wait_for_stdin_that_never_ends(paddock: Paddock) -> None:
    reader, writer = os.pipe()
    try:
        assert paddock("exec", "--", "echo", "done", stdin=reader).stdout == "done\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_exec_works_without_any_stdin(paddock: Paddock) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *paddock.command("exec", "--", "cat")],
        cwd=paddock.cwd,
        env=paddock.environment,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_exec_shows_output_as_it_comes(paddock: Paddock) -> None:
    with paddock.start("exec", "--", "sh", "-c", "echo first; exec sleep 300") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(LEAVING * 2) == 128 + signal.SIGTERM


MEASURED = """
import pathlib, sys
from paddock.cli import main
code = main(sys.argv[1:])
print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr)
sys.exit(code)
"""


def test_exec_holds_little_of_a_great_output(paddock: Paddock) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "exec", "--", "head", "-c", "100000000", "/dev/zero"],
        cwd=paddock.cwd,
        env=paddock.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    )
    peak = re.search(r"VmHWM:\s*(\d+) kB", done.stderr)
    assert peak is not None
    assert int(peak[1]) < 80_000


def test_exec_ends_when_nobody_reads_its_output(paddock: Paddock) -> None:
    with paddock.start("exec", "--", "yes") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(LEAVING * 2) != 0


def test_exec_kills_what_takes_too_long(paddock: Paddock) -> None:
    mark = f"3000.{os.getpid()}1"
    done = paddock("exec", "--timeout", "0.5", "--", "sh", "-c", f"setsid sleep {mark} & sleep 300")
    assert done.returncode == 124
    assert "0.5 s" in done.stderr
    assert not processes_with(f"sleep\0{mark}")


def test_exec_gives_the_sandbox_files_variables_and_setup(paddock: Paddock) -> None:
    (paddock.cwd / "tree").mkdir()
    (paddock.cwd / "tree" / "a.txt").write_text("from here\n")
    done = paddock(
        "exec", "--upload", "tree:in", "--env", "A=1", "--setup", "echo set up > made", "--",
        "sh", "-c", "cat in/a.txt made; echo $A $SECRET",
        env={"SECRET": "of the host"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "from here\nset up\n1\n"), done.stderr


def test_a_working_directory_is_used_in_place_and_kept(paddock: Paddock) -> None:
    work = paddock.cwd / "work"
    work.mkdir()
    work.chmod(0o777)
    done = paddock("exec", "--working-dir", str(work), "--", "sh", "-c", "echo kept > file")
    assert done.returncode == 0, done.stderr
    assert (work / "file").read_text() == "kept\n"
