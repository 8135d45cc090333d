"""The command line as people and programs use it, in real processes: itself, runs and sessions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock import TelemetryStorage

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


@pytest.fixture
def script(paddock: Paddock) -> str:
    (paddock.cwd / "script.yaml").write_text(SCRIPT)
    return "scripted:script.yaml"


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
    done = paddock("run", "Find it", "--config", "agent.yaml", "--trust")
    assert done.returncode == 0, done.stderr
    assert "There it is." in done.stdout


CARELESS = "- tool_calls: [{name: bash, arguments: {command: rm -rf data}}]\n"


@pytest.mark.parametrize("agent", [["--model", "scripted:careless.yaml"], ["-c", "agent.yaml"]])
def test_a_call_that_nobody_can_approve_is_denied(paddock: Paddock, agent: list[str]) -> None:
    (paddock.cwd / "careless.yaml").write_text(CARELESS)
    (paddock.cwd / "agent.yaml").write_text("model: scripted:careless.yaml\n")
    done = paddock("run", "Clean up", *agent)
    assert "no user is there to approve" in done.stderr
    assert "--auto-approve" in done.stderr
    assert "not allowed" in done.stdout


def test_all_is_approved_for_one_command(paddock: Paddock) -> None:
    (paddock.cwd / "careless.yaml").write_text(f"{CARELESS}- text: Done.\n{CARELESS}{CARELESS}")
    done = paddock("run", "Clean up", "--model", "scripted:careless.yaml", "-y")
    assert done.returncode == 0, done.stderr
    for again in (["run", "--resume", "latest"], ["sessions", "resume", "latest"]):
        done = paddock(*again, "Once more")
        assert (done.returncode, "not allowed" in done.stdout) == (1, True), done.stderr


@pytest.mark.rows("O-6")
def test_telemetry_is_kept_where_the_environment_says_for_whom(paddock: Paddock) -> None:
    (paddock.cwd / "two.yaml").write_text("- text: One.\n- error: The service is down.\n")
    tenant = {"PADDOCK_TEAM_ID": "blue", "PADDOCK_PROJECT_ID": "search"}
    for prompt in (["Go"], ["Go on", "--resume", "latest"]):
        paddock("run", *prompt, "--model", "scripted:two.yaml", env=tenant)
    paddock("run", "Go", "--model", "scripted:two.yaml")
    (file,) = paddock.home.rglob("telemetry.db")
    with TelemetryStorage(file, read_only=True) as storage:
        (row,) = storage.list_sessions(limit=10)
        told = storage.get_session(row["session_id"])
    assert (row["team_id"], row["status"]) == ("blue", "error")
    assert told is not None
    assert [turn["user_input"] for turn in told["turns"]] == ["Go", "Go on"]


def test_telemetry_that_cannot_be_kept_is_an_error(paddock: Paddock, script: str) -> None:
    file = {"PADDOCK_OBSERVABILITY_CONFIG": "missing.yaml"}
    done = paddock("run", "Go", "--model", script, env=file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("paddock: telemetry cannot be kept: ")


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
    # In a pipe no sentence is broken into lines.
    assert all(finding["detail"] in shown.stdout for finding in findings.values())


def test_doctor_does_not_show_a_key(paddock: Paddock) -> None:
    done = paddock("doctor", env={"OPENAI_API_KEY": "sk-very-secret"})
    assert "OPENAI_API_KEY" in done.stdout
    assert "sk-very-secret" not in done.stdout + done.stderr
