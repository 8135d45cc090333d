"""A conversation at a real terminal: lines, keys, commands, approvals."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import TelemetryStorage
from tests.e2e.terminal import CTRL_C, CTRL_D, ESC_ENTER, READY, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.e2e.conftest import Paddock

pytestmark = pytest.mark.rows("S-63")


def bash(command: str, text: str = "") -> dict[str, Any]:
    return {"text": text, "tool_calls": [{"name": "bash", "arguments": {"command": command}}]}


LEAVING = 10.0
"""Seconds for clean-up, on a machine that is busy."""


def sleepers(mark: str) -> list[str]:
    """The processes of this machine that sleep for `mark` seconds."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == f"sleep\0{mark}\0".encode():
                found.append(path.parent.name)
    return found


def wait_for_sleeper(mark: str) -> None:
    deadline = time.monotonic() + LEAVING
    while not sleepers(mark):
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)  # nothing tells that a process has started


@contextlib.contextmanager
def talking(
    paddock: Paddock, script: Sequence[dict[str, Any]], *options: str
) -> Iterator[Terminal]:
    (paddock.cwd / "script.json").write_text(json.dumps(list(script)))
    with Terminal(paddock, "--model", "scripted:script.json", *options) as terminal:
        terminal.wait_for("/help tells")
        terminal.wait_for(READY)
        yield terminal


def test_telemetry_is_kept_until_the_person_leaves(paddock: Paddock) -> None:
    settings = paddock.home / ".config" / "paddock"
    settings.mkdir(parents=True)
    (settings / "observability.yaml").write_text("tenant: {team_id: blue, project_id: search}\n")
    with talking(paddock, [{"text": "One."}, {"text": "Two."}]) as terminal:
        for answer in ("One.", "Two."):
            terminal.type("Go on.\r")
            terminal.wait_for(answer)
            terminal.wait_for("completed:")
            terminal.wait_for(READY)
        terminal.type("exit\r")
        assert terminal.end() == 0
    with TelemetryStorage(settings / "telemetry.db", read_only=True) as storage:
        (row,) = storage.list_sessions(limit=10)
        told = storage.get_session(row["session_id"])
    assert told is not None
    assert (row["status"], len(told["turns"])) == ("completed", 2)


def test_each_line_goes_to_the_agent_in_one_sandbox(paddock: Paddock) -> None:
    script = [
        bash("echo kept > note; echo written"),
        {"text": "It is written."},
        bash("cat note"),
        {"expect": "kept", "text": "It is there."},
    ]
    with talking(paddock, script, "--profile", "developer", "-y") as terminal:
        terminal.type("Write a note.\r")
        terminal.wait_for("It is written.")
        terminal.wait_for("completed:")
        terminal.wait_for(READY)
        terminal.type("Read it.\r")
        terminal.wait_for("It is there.")
        terminal.wait_for(READY)
        terminal.type("/cost\r")
        terminal.wait_for("tokens in")
        terminal.wait_for(READY)
        terminal.type("exit\r")
        assert terminal.end() == 0
        assert "resume it with: paddock run --resume" in terminal.seen


def test_escape_and_enter_begin_a_new_line_and_the_history_is_kept(paddock: Paddock) -> None:
    with talking(paddock, [{"expect": "one\ntwo", "text": "Two lines."}]) as terminal:
        terminal.type(f"one{ESC_ENTER}two\r")
        terminal.wait_for("Two lines.")
        terminal.wait_for(READY)
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    (history,) = paddock.home.rglob("history")
    assert "+one\n+two\n" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    with talking(paddock, [{"expect": "two", "text": "Again."}]) as terminal:
        terminal.type("\x1b[A\r")  # up
        terminal.wait_for("Again.")


@pytest.mark.rows("C58")
def test_a_call_is_shown_without_its_tricks_and_asked_about(paddock: Paddock) -> None:
    trick = "rm -rf data; printf '\\033]0;title\\007\\033[2Jdone'; echo \x1b[2J\u202eend"
    script = [
        bash(trick),
        bash(trick),
        {"text": "Second \x1b]0;evil\x07."},
        bash("rm -rf other; echo third"),
        {"text": "Third."},
    ]
    with talking(paddock, script, "--profile", "developer") as terminal:
        terminal.type("Try\r")
        terminal.wait_for("Allow this call? [y/N]")
        assert "\\u202e" in terminal.seen
        terminal.type("n\r")
        terminal.wait_for("not allowed: bash rm -rf data")
        terminal.wait_for(READY)
        terminal.type("Try again\r")
        terminal.wait_for("Allow this call? [y/N]")
        terminal.type("y\r")
        terminal.wait_for("\\x1b]0;title\\x07\\x1b[2Jdone")
        terminal.wait_for("Second \\x1b]0;evil\\x07.")
        terminal.wait_for(READY)
        terminal.type("/approve\r")
        terminal.wait_for("without a question")
        terminal.wait_for(READY)
        terminal.type("And again\r")
        terminal.wait_for("Third.")
        assert "\x1b]0;" not in terminal.raw
        assert "\x1b[2J" not in terminal.raw
        assert "\u202e" not in terminal.raw


def test_ctrl_c_cancels_the_turn_and_the_next_one_goes_on(paddock: Paddock) -> None:
    script = [bash("echo begun; sleep 60"), {"expect": "Next", "text": "Going on."}]
    with talking(paddock, script, "--profile", "developer", "-y") as terminal:
        terminal.type("Wait\r")
        terminal.wait_for("→ bash")
        terminal.type(CTRL_C)
        terminal.wait_for("paddock: cancelled")
        terminal.wait_for(READY)
        terminal.type("Next\r")
        terminal.wait_for("Going on.")
        terminal.wait_for(READY)
        terminal.type(CTRL_C)
        terminal.wait_for("Ctrl-C once more")
        terminal.wait_for(READY)
        terminal.type(CTRL_C)
        assert terminal.end() == 0


@pytest.mark.rows("C54")
def test_keys_from_before_the_question_are_no_answer_to_it(paddock: Paddock) -> None:
    (paddock.cwd / "data").mkdir()
    script = [bash(f"rm -rf {paddock.cwd}/data")]
    with talking(paddock, script, "--profile", "developer") as terminal:
        terminal.type("Try\ry\r")
        terminal.wait_for("Allow this call? [y/N]")
        terminal.type("n\r")
        terminal.wait_for("not allowed")
    options = ("--model", "scripted:script.json", "--profile", "developer")
    with Terminal(paddock, "Try now", *options) as terminal:
        terminal.type("y\r")
        terminal.wait_for("Allow this call? [y/N]")
        terminal.type("n\r")
        terminal.wait_for("not allowed")


@pytest.mark.rows("C47")
def test_ctrl_c_twice_leaves_while_a_turn_goes_on(paddock: Paddock) -> None:
    mark = f"61.{os.getpid()}"
    script = [bash(f"trap '' TERM; echo begun; sleep {mark}; sleep {mark}")]
    with talking(paddock, script, "--profile", "developer", "-y") as terminal:
        terminal.type("Wait\r")
        wait_for_sleeper(mark)
        terminal.type(CTRL_C)
        terminal.wait_for("again leaves")
        terminal.type(CTRL_C)
        terminal.wait_for("leave")
        if "Ctrl-D or exit leaves" in terminal.seen:  # the turn had ended before
            terminal.wait_for(READY)
            terminal.type(CTRL_C)
        assert terminal.end() in (0, 130)
        assert "Traceback" not in terminal.seen
    assert not sleepers(mark)


@pytest.mark.rows("C47")
@pytest.mark.parametrize("way", ["a conversation", "one prompt"])
def test_a_window_that_is_closed_in_the_middle_of_a_turn_leaves_nothing(
    paddock: Paddock, way: str
) -> None:
    mark = f"62.{os.getpid()}"
    (paddock.cwd / "script.json").write_text(json.dumps([bash(f"sleep {mark}; sleep {mark}")]))
    options = ("--model", "scripted:script.json", "--profile", "developer", "-y")
    prompt = ("Wait now",) if way == "one prompt" else ()
    with Terminal(paddock, *options, *prompt) as terminal:
        if not prompt:
            terminal.wait_for(READY)
            terminal.type("Wait\r")
        wait_for_sleeper(mark)
        terminal.hang_up()
        terminal.process.wait(LEAVING)
    assert not sleepers(mark)


@pytest.mark.rows("C47")
def test_a_window_that_is_closed_at_the_prompt_ends_the_conversation(paddock: Paddock) -> None:
    with talking(paddock, [{"text": "Hello."}]) as terminal:
        terminal.type("Hi\r")
        terminal.wait_for("Hello.")
        terminal.wait_for(READY)
        terminal.hang_up()
        terminal.process.wait(LEAVING)
    (listed,) = json.loads(paddock("sessions", "list", "--json").stdout)
    assert listed["status"] == "completed"


def test_ctrl_c_at_an_approval_cancels_the_turn_and_leaves_the_terminal_whole(
    paddock: Paddock,
) -> None:
    script = [bash("rm -rf data"), {"text": "Going on."}]
    with talking(paddock, script, "--profile", "developer") as terminal:
        terminal.type("Try\r")
        terminal.wait_for("Allow this call? [y/N]")
        terminal.type(CTRL_C)
        terminal.wait_for("paddock: cancelled")
        terminal.wait_for(READY)
        terminal.type("Next\r")
        terminal.wait_for("Going on.")


def test_writing_is_switched_on_and_what_was_made_is_downloaded(paddock: Paddock) -> None:
    write = {"tool_calls": [{"name": "write", "arguments": {"path": "made", "content": "new"}}]}
    with talking(paddock, [write, {"text": "Written."}], "-y") as terminal:
        terminal.type("/write\r")
        terminal.wait_for("writing files: off; shell: restricted")
        terminal.wait_for(READY)
        terminal.type("/write on\r")
        terminal.wait_for("writing files: full; shell: unrestricted")
        terminal.wait_for(READY)
        terminal.type("Write\r")
        terminal.wait_for("Written.")
        terminal.wait_for(READY)
        for _ in range(2):
            terminal.type("/download made here.txt\r")
            terminal.wait_for("here.txt")
            terminal.wait_for(READY)
        assert "it exists, and is not written over" in terminal.seen
        assert (paddock.cwd / "here.txt").read_text() == "new"


def test_what_no_command_can_do_is_told_and_the_conversation_goes_on(paddock: Paddock) -> None:
    with talking(paddock, [{"expect": "/etc/hosts", "text": "A file."}]) as terminal:
        for line, told in (
            ("/nonsense", "there is no command /nonsense"),
            ("/write perhaps", "say /write on"),
            ("/download x", "say /download"),
            ("/compact", "there is nothing yet"),
            ("/resume nonsense", "nonsense"),
            ("/help", "/download REMOTE LOCAL"),
            ("/etc/hosts what is it?", "A file."),
        ):
            terminal.type(f"{line}\r")
            terminal.wait_for(READY if line == told else told)
            terminal.wait_for(READY)


def test_who_leaves_before_the_first_prompt_leaves_no_session(paddock: Paddock) -> None:
    with talking(paddock, [{"text": "Never."}]) as terminal:
        for line in ("/cost", "/compact", "/download a b"):
            terminal.type(f"{line}\r")
            terminal.wait_for("there is nothing yet")
            terminal.wait_for(READY)
        terminal.type("/write on\r")
        terminal.wait_for("writing files: full; shell: unrestricted")
        terminal.wait_for(READY)
        terminal.type("exit\r")
        assert terminal.end() == 0
        assert "--resume" not in terminal.seen
    assert json.loads(paddock("sessions", "list", "--json").stdout) == []


def test_another_session_is_gone_on_with(paddock: Paddock) -> None:
    script = [{"text": "A first answer."}, {"expect": "Then", "text": "A second answer."}]
    (paddock.cwd / "script.json").write_text(json.dumps(script))
    done = paddock("run", "Begin", "--model", "scripted:script.json")
    assert done.returncode == 0, done.stderr
    (earlier,) = json.loads(paddock("sessions", "list", "--json").stdout)
    with talking(paddock, script) as terminal:
        terminal.type("/resume\r")
        terminal.wait_for(earlier["id"])
        terminal.wait_for(READY)
        terminal.type(f"/resume {earlier['id'][:6]}\r")
        terminal.wait_for("resumed ")
        terminal.wait_for(READY)
        terminal.type("Then\r")
        terminal.wait_for("A second answer.")
        terminal.wait_for(READY)
        terminal.type("exit\r")
        assert terminal.end() == 0


def test_without_a_key_it_says_so_before_the_first_question(paddock: Paddock) -> None:
    with Terminal(paddock) as terminal:
        terminal.wait_for("no API key: set OPENAI_API_KEY")
        assert terminal.end() == 1
