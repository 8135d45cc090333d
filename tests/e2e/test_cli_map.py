"""`paddock map` and `paddock batch` as processes: exit codes, resuming, what is left."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock


PATIENCE = 50
"""Seconds for the first task to end, on a machine ten times as busy as ours."""


def write_tasks(paddock: Paddock, *inputs: str) -> None:
    lines = [json.dumps({"id": f"t{n}", "input": each}) for n, each in enumerate(inputs)]
    (paddock.cwd / "tasks.jsonl").write_text("\n".join(lines))


def summary(paddock: Paddock) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((paddock.cwd / "run/summary.json").read_text())
    return found


def test_failed_tasks_are_1_and_run_again_when_asked(paddock: Paddock) -> None:
    write_tasks(paddock, "true", "echo two; exit 3", "true")
    command = ["--", "sh", "-c", "{input}"]
    done = paddock("map", "tasks.jsonl", "--out", "run", *command)
    assert done.returncode == 1, done.stderr
    assert "2 completed, 1 task.failed" in done.stderr
    suite = ET.fromstring((paddock.cwd / "run/junit.xml").read_text()).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    assert paddock("map", "--resume", "run", "--fail-under", "0.6").returncode == 0
    again = paddock("map", "--resume", "run", "--rerun", "failed")
    assert again.returncode == 1, again.stderr
    assert (paddock.cwd / "run/tasks/t1/attempt-2/stdout").read_text() == "two\n"
    shown = paddock("batch", "status", "run")
    assert shown.stdout.startswith("not running")
    assert "t1: task.failed, attempt 2" in shown.stdout
    shown = paddock("batch", "logs", "run", "t1")
    assert shown.stdout == "two\n"
    assert "task.failed" in shown.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tasks.jsonl"], "give a file of tasks and --out DIR"),
        (["tasks.jsonl", "--out", "run"], "give a command after --, or --agent FILE"),
        (["missing.jsonl", "--out", "run", "--", "true"], "missing.jsonl"),
        (["--resume", "nowhere"], "nowhere is not the directory of a batch"),
        (["tasks.jsonl", "--out", "run", "--artifact", "../x", "--", "true"], "artifact '../x'"),
        (["tasks.jsonl", "--out", "run", "--setup", "exit 9", "--", "true"], "Setup command"),
        (["tasks.jsonl", "--out", "run", "--rerun", "failed", "--", "true"], "--resume DIR"),
        (["tasks.jsonl", "--out", "run", "--ray", "ray://h:1", "--", "true"], "HOST:PORT"),
        (["tasks.jsonl", "--out", "run", "--ray", "h", "--", "true"], "HOST:PORT of its head"),
        (["tasks.jsonl", "--out", "run", "--ray", "127.0.0.1:1", "--", "true"], "no Ray cluster"),
        (["tasks.jsonl", "--out", "run", "--cap", "gpu", "--", "true"], "such as --cap gpu=2"),
        (["tasks.jsonl", "--out", "run", "--cap", "gpu=2", "--", "true"], "caps are for groups"),
        (["tasks.jsonl", "--out", "run", "--task-image", "x", "--", "true"], "have none"),
    ],
)
def test_wrong_usage_is_2(args: list[str], said: str, paddock: Paddock) -> None:
    write_tasks(paddock, "true")
    done = paddock("map", *args)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"id": "a"}\n{"id": "b', "tasks.jsonl, line 2 is not JSON"),
        (b'{"id": "a"}\n{"id": "a"}\n', "task 2 has the id 'a' as task 1"),
        (b'{"id": "\xff"}\n', "tasks.jsonl, line 1 is not JSON"),
        (b"\n\n", "tasks.jsonl has no tasks"),
    ],
)
def test_tasks_that_cannot_be_read_are_2_and_leave_no_directory(
    text: bytes, said: str, paddock: Paddock
) -> None:
    (paddock.cwd / "tasks.jsonl").write_bytes(text)
    done = paddock("map", "tasks.jsonl", "--out", "run", "--", "true")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (paddock.cwd / "run").exists()


def test_a_directory_that_has_something_else_is_refused(paddock: Paddock) -> None:
    """Among others where the tasks are: tasks.jsonl would be replaced."""
    text = '\ufeff{"input": "x", "id": "a"}\r\n{"id": "b"}\r\n'
    (paddock.cwd / "tasks.jsonl").write_text(text, newline="")
    done = paddock("map", "tasks.jsonl", "--out", ".", "--isolation", "none", "--", "true")
    assert done.returncode == 2
    assert "is not empty; choose another directory" in done.stderr
    assert (paddock.cwd / "tasks.jsonl").read_bytes() == text.encode()
    done = paddock("map", "tasks.jsonl", "--out", "run", "--isolation", "none", "--", "true")
    assert done.returncode == 0, done.stderr


def test_verification_sees_the_artifacts_and_nothing_else(paddock: Paddock) -> None:
    write_tasks(paddock, "good", "bad")
    work = 'echo "$1" > answer; echo planted > secret'
    done = paddock(
        "map", "tasks.jsonl", "--out", "run", "--artifact", "answer",
        "--verify", "grep -q good answer && ! test -e secret", "--", "sh", "-c", work, "sh",
        "{input}",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert summary(paddock)["faults"] == {"task.failed": 1}
    assert (paddock.cwd / "run/tasks/t0/attempt-1/artifacts/answer").read_text() == "good\n"


def test_an_agents_trace_is_among_the_files_of_its_attempt(paddock: Paddock) -> None:
    (paddock.cwd / "answers.yaml").write_text("- text: Done.\n")
    (paddock.cwd / "agent.yaml").write_text("profile: readonly\nmodel: scripted:answers.yaml\n")
    (paddock.cwd / "tasks.jsonl").write_text('"Look."\n"Look again."\n')
    done = paddock("map", "tasks.jsonl", "--out", "run", "--agent", "agent.yaml")
    assert done.returncode == 0, done.stderr
    lines = (paddock.cwd / "run/results.jsonl").read_text().splitlines()
    assert [json.loads(line)["result"]["text"] for line in lines] == ["Done.", "Done."]
    assert len([*paddock.cwd.glob("run/tasks/*/attempt-1/trace.jsonl")]) == 2


def test_ctrl_c_stops_in_order_and_the_batch_is_resumed(paddock: Paddock) -> None:
    write_tasks(paddock, "true", "test -e {}/go || sleep 600".replace("{}", str(paddock.cwd)))
    options = ["--isolation", "none", "--limit", "1", "--", "sh", "-c", "{input}"]
    process = paddock.start("map", "tasks.jsonl", "--out", "run", *options)
    with process:
        results = paddock.cwd / "run/results.jsonl"
        wait_until(results.exists, within=PATIENCE, otherwise="the first task did not end")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=50)
    assert process.returncode == 130
    assert (summary(paddock)["unfinished"], summary(paddock)["exit_code"]) == (1, None)
    (paddock.cwd / "go").touch()
    done = paddock("map", "--resume", "run")
    assert done.returncode == 0, done.stderr
    assert summary(paddock) == {
        "completed": 2, "exit_code": 0, "faults": {}, "gave_up": None, "total": 2, "unfinished": 0,
    }  # fmt: skip


def test_changed_options_are_refused_unless_all_is_to_run_again(paddock: Paddock) -> None:
    write_tasks(paddock, "one", "two")
    command = ["--isolation", "none", "--secret", "TOKEN", "--", "sh", "-c", "echo $X $TOKEN"]
    secret = {"TOKEN": "a-token-of-ours"}
    assert paddock("map", "tasks.jsonl", "--out", "run", *command, env=secret).returncode == 0
    refused = paddock("map", "--resume", "run", "--env", "X=1", env=secret)
    assert refused.returncode == 2
    assert '+ backend.env_vars.X: "1"' in refused.stderr
    changed = ["--resume", "run", "--env", "X=1", "--rerun-changed"]
    assert paddock("map", *changed, env=secret).returncode == 0
    output = (paddock.cwd / "run/tasks/t0/attempt-2/stdout").read_text()
    assert output == "1 [secret TOKEN]\n"
    assert paddock("map", "--resume", "run", env=secret).returncode == 0, "the new ones are kept"
    kept = [path.read_bytes() for path in paddock.cwd.rglob("run/**/*") if path.is_file()]
    assert not any(b"a-token-of-ours" in each for each in kept)


def test_tasks_are_repeated_and_one_repetition_runs_again(paddock: Paddock) -> None:
    write_tasks(paddock, "true", "false")
    command = ["--isolation", "none", "--repeat", "2", "--", "sh", "-c", "{input}"]
    assert paddock("map", "tasks.jsonl", "--out", "run", *command).returncode == 1
    assert summary(paddock)["faults"] == {"task.failed": 2}
    again = paddock("map", "--resume", "run", "--rerun", "t1@2", "--rerun", "cancelled")
    assert again.returncode == 1
    assert "1 finished tasks run again" in again.stderr
    attempts = sorted(path.parent.name for path in paddock.cwd.glob("run/tasks/*/attempt-2"))
    assert attempts == ["t1@2"]
    refused = paddock("map", "--resume", "run", "--repeat", "3")
    assert refused.returncode == 2
    assert "--repeat cannot be changed with --resume" in refused.stderr
