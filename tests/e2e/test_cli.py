"""The command line as people and programs use it: real processes, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

SCRIPT = """\
- text: I will look.
  tool_calls:
    - {name: bash, arguments: {command: echo found; echo oops >&2}}
  usage: {input_tokens: 10, output_tokens: 5}
- expect: found
  text: There it is.
- expect: Again
  text: And again.
"""

LEAVING = 5.0
"""Seconds that a stopped command may take to clean up (reliability C47)."""


@pytest.fixture
def script(paddock: Paddock) -> str:
    (paddock.cwd / "script.yaml").write_text(SCRIPT)
    return "scripted:script.yaml"


def processes_with(mark: str) -> set[int]:
    """The processes of this machine that have `mark` on their command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until_gone(mark: str) -> None:
    for process in processes_with(mark):
        with contextlib.suppress(ProcessLookupError):
            watched = os.pidfd_open(process)
            try:
                ended, _, _ = select.select([watched], [], [], LEAVING)
            finally:
                os.close(watched)
            assert ended, f"process {process} is still there"


def wait_until_there(mark: str) -> None:
    end = time.monotonic() + LEAVING
    while not processes_with(mark):
        assert time.monotonic() < end, "it was not started"
        time.sleep(0.01)


# What it says about itself.


def test_it_tells_its_version(paddock: Paddock) -> None:
    done = paddock("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("paddock 0.")


@pytest.mark.rows("S-61")
def test_without_a_prompt_and_a_terminal_it_says_what_to_do(paddock: Paddock) -> None:
    done = paddock()
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no prompt" in done.stderr
    assert "paddock run -" in done.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [(["nonsense"], 2), (["exec", "--setup", "echo why >&2; exit 7", "--", "true"], 1)],
)
def test_an_error_is_told_on_stderr_without_a_traceback(
    paddock: Paddock, args: list[str], code: int
) -> None:
    done = paddock(*args)
    assert (done.returncode, done.stdout) == (code, "")
    assert args[-1] in done.stderr or "exit 7" in done.stderr
    assert "Traceback" not in done.stderr


# exec


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


# run and sessions


def trace_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_run_shows_what_the_agent_does(paddock: Paddock, script: str) -> None:
    done = paddock("run", "Find it", "--model", script, "--profile", "developer", "-y")
    assert done.returncode == 0, done.stderr
    for shown in ("I will look.", "→ bash echo found", "found", "There it is."):
        assert shown in done.stdout
    assert "paddock sessions resume" in done.stderr


def test_run_with_json_prints_the_trace_and_nothing_else(paddock: Paddock, script: str) -> None:
    done = paddock("run", "Find it", "--model", script, "--profile", "developer", "-y", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    records = trace_of(done.stdout)
    kinds = [record["type"] for record in records]
    assert kinds[0] == "run_start"
    assert kinds[-1] == "run_end"
    assert {"message", "llm_end", "tool_start", "tool_end"} <= set(kinds)
    assert all("ts" in record for record in records)
    again = trace_of(paddock("sessions", "show", "latest", "--json").stdout)
    assert [record["type"] for record in again] == kinds


def test_run_takes_its_prompt_from_stdin(paddock: Paddock, script: str) -> None:
    done = paddock("run", "-", "--model", script, "--json", "--no-save", "-y", input="From a pipe")
    assert trace_of(done.stdout)[0]["prompt"] == "From a pipe"
    assert paddock("sessions", "list", "--json").stdout.strip() == "[]"


def test_run_takes_its_agent_from_a_file(paddock: Paddock, script: str) -> None:
    (paddock.cwd / "agent.yaml").write_text(
        f"system_prompt: Look.\nmodel: {script}\nprofile: developer\nauto_approve: true\n"
    )
    done = paddock("run", "Find it", "--config", "agent.yaml")
    assert done.returncode == 0, done.stderr
    assert "There it is." in done.stdout


def test_a_call_that_nobody_can_approve_is_denied(paddock: Paddock) -> None:
    (paddock.cwd / "careless.yaml").write_text(
        "- tool_calls: [{name: bash, arguments: {command: rm -rf data}}]\n- text: Then not.\n"
    )
    done = paddock("run", "Clean up", "--model", "scripted:careless.yaml")
    assert "nobody is there to approve" in done.stderr
    assert "--auto-approve" in done.stderr
    assert "not allowed" in done.stdout


def test_a_run_that_fails_says_so(paddock: Paddock) -> None:
    (paddock.cwd / "bad.yaml").write_text("- error: The service is down.\n")
    done = paddock("run", "x", "--model", "scripted:bad.yaml")
    assert done.returncode == 1
    assert "The service is down." in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.rows("S-35", "S-36")
def test_a_session_is_listed_shown_and_resumed(paddock: Paddock, script: str) -> None:
    assert (
        paddock("run", "Find it", "--model", script, "--profile", "developer", "-y").returncode == 0
    )
    (listed,) = json.loads(paddock("sessions", "list", "--json").stdout)
    assert listed["first_prompt"] == "Find it"
    assert listed["status"] == "completed"
    assert listed["id"] in paddock("sessions", "list").stdout

    shown = paddock("sessions", "show", listed["id"][:5])
    assert "Find it" in shown.stdout
    assert "→ bash echo found" in shown.stdout

    resumed = paddock("sessions", "resume", "latest", "Again", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert trace_of(resumed.stdout)[0]["run_id"] == 2
    assert "And again." in resumed.stdout


def test_the_session_directory_can_be_chosen(paddock: Paddock, script: str) -> None:
    place = str(paddock.cwd / "kept")
    assert paddock("run", "x", "--model", script, "-y", "--session-dir", place).returncode == 0
    assert (
        len(json.loads(paddock("sessions", "list", "--session-dir", place, "--json").stdout)) == 1
    )
    assert json.loads(paddock("sessions", "list", "--json").stdout) == []


# doctor


def test_doctor_says_what_to_do_about_what_is_missing(paddock: Paddock) -> None:
    done = paddock("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert findings["Python"]["status"] == "ok"
    assert findings["OPENAI_API_KEY"]["status"] == "missing"
    for finding in findings.values():
        assert finding["status"] == "ok" or finding["advice"], finding
    shown = paddock("doctor")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in findings)


def test_doctor_does_not_show_a_key(paddock: Paddock) -> None:
    done = paddock("doctor", env={"OPENAI_API_KEY": "sk-very-secret"})
    assert "OPENAI_API_KEY" in done.stdout
    assert "sk-very-secret" not in done.stdout + done.stderr


# Being stopped.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whole_group", [True, False], ids=["like a terminal", "like kill"])
def test_a_signal_takes_everything_down(
    paddock: Paddock, number: signal.Signals, whole_group: bool
) -> None:
    mark = f"3600.{os.getpid()}{number.value}{whole_group:d}"
    command = f"setsid sleep {mark} & echo up; wait"
    with paddock.start("exec", "--", "sh", "-c", command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        wait_until_there(f"sleep\0{mark}")
        started = time.monotonic()
        (os.killpg if whole_group else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=LEAVING * 2)
    assert process.returncode == 128 + number
    assert time.monotonic() - started < LEAVING
    assert "Traceback" not in err
    assert not processes_with(f"sleep\0{mark}")


def test_two_signals_end_it_at_once_and_the_sandbox_follows(paddock: Paddock) -> None:
    mark = f"3600.{os.getpid()}9"
    command = f"trap '' TERM; setsid sleep {mark} & echo up; wait; sleep {mark}"
    with paddock.start("exec", "--", "sh", "-c", command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert "SIGINT" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(LEAVING) in (-signal.SIGINT, 128 + signal.SIGINT)
    wait_until_gone(f"sleep\0{mark}")


def test_even_a_killed_host_leaves_nothing_behind(paddock: Paddock) -> None:
    mark = f"3600.{os.getpid()}8"
    with paddock.start("exec", "--", "sh", "-c", f"setsid sleep {mark} & echo up; wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
    wait_until_gone(f"sleep\0{mark}")


def test_a_cancelled_run_can_be_resumed(paddock: Paddock) -> None:
    mark = f"3600.{os.getpid()}7"
    (paddock.cwd / "slow.yaml").write_text(
        f"- tool_calls: [{{name: bash, arguments: {{command: echo up; sleep {mark}}}}}]\n"
        "- text: Going on.\n"
    )
    args = (
        "run",
        "Wait",
        "--model",
        "scripted:slow.yaml",
        "--profile",
        "developer",
        "-y",
        "--json",
    )
    with paddock.start(*args) as process:
        assert process.stdout is not None
        while '"tool_start"' not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LEAVING * 2)
    assert process.returncode == 130
    assert not processes_with(f"sleep\0{mark}")
    (listed,) = json.loads(paddock("sessions", "list", "--json").stdout)
    assert listed["status"] == "cancelled"
    resumed = paddock("sessions", "resume", "latest", "Go on", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on." in resumed.stdout
