"""How `paddock map` ends: its exit codes, signals, and what CI reads."""

from __future__ import annotations

import asyncio
import json
import signal
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from paddock.testing.model_server import ModelServer
from tests.e2e.processes import wait_until
from tests.e2e.terminal import Terminal

if TYPE_CHECKING:
    import subprocess

    from tests.e2e.conftest import Paddock

PATIENCE = 50
"""Seconds for the first task to end, on a machine ten times as busy as ours."""

AWAY = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "a-key-of-ours"}
"""A service of models that cannot be reached."""

MAP = ("map", "tasks.jsonl", "--out", "run", "--isolation", "none")
SHELL = ("--", "sh", "-c", "{input}")


def write_tasks(paddock: Paddock, *inputs: str) -> None:
    lines = [json.dumps({"id": f"t{n}", "input": each}) for n, each in enumerate(inputs)]
    (paddock.cwd / "tasks.jsonl").write_text("\n".join(lines))


def write_agent(paddock: Paddock, tasks: int) -> None:
    (paddock.cwd / "agent.yaml").write_text("profile: readonly\nmodel: openai:m\n")
    lines = [json.dumps({"id": f"t{n}", "prompt": "Go."}) for n in range(tasks)]
    (paddock.cwd / "tasks.jsonl").write_text("\n".join(lines))


def summary(paddock: Paddock) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((paddock.cwd / "run/summary.json").read_text())
    return found


def junit(paddock: Paddock) -> dict[str, tuple[str, str]]:
    """What JUnit says of each task: the kind of its end, and the type."""
    suite = ET.fromstring((paddock.cwd / "run/junit.xml").read_text()).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    found = {
        str(case.get("name")): next(((each.tag, each.get("type", "")) for each in case), ("", ""))
        for case in cases
    }
    for kind in ("failure", "error", "skipped"):
        number = sum(each == kind for each, _ in found.values())
        assert suite.get(f"{kind}s" if kind != "skipped" else kind) == f"{number}"
    return found


def test_all_completed_is_0_and_names_the_report(paddock: Paddock) -> None:
    write_tasks(paddock, "true", "true")
    done = paddock(*MAP, *SHELL)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "2 completed" in done.stderr
    assert "paddock: report: run/report.html" in done.stderr
    assert "--resume" not in done.stderr
    assert (paddock.cwd / "run/report.html").exists()


def test_the_share_that_has_to_be_completed_decides_between_0_and_1(paddock: Paddock) -> None:
    write_tasks(paddock, "true", "true", "exit 7", "true")
    assert paddock(*MAP, "--fail-under", "0.8", *SHELL).returncode == 1
    for share, code in (("0.75", 0), ("0.76", 1), ("0", 0), ("1", 1)):
        again = paddock("map", "--resume", "run", "--fail-under", share)
        assert again.returncode == code, (share, again.stderr)
        assert summary(paddock)["exit_code"] == code
    assert junit(paddock)["t2"] == ("failure", "task.failed")


def test_only_infrastructure_that_failed_is_4(paddock: Paddock) -> None:
    write_agent(paddock, 1)
    done = paddock(*MAP, "--agent", "agent.yaml", env=AWAY)
    assert done.returncode == 4, done.stderr
    assert junit(paddock) == {"t0": ("error", "infra.model")}


async def test_giving_up_is_75_and_a_later_resume_is_0(paddock: Paddock) -> None:
    write_agent(paddock, 4)
    async with ModelServer([], api_key="a-key-of-ours") as server:
        there = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}
    command = (*MAP, "--agent", "agent.yaml", "--give-up-after", "0.1")
    done = paddock(*command, env=there)
    assert done.returncode == 75, done.stderr
    assert "the batch gave up and can be resumed: infra.model" in done.stderr
    assert "paddock: continue with: paddock map --resume run" in done.stderr
    assert (summary(paddock)["unfinished"], summary(paddock)["exit_code"]) == (4, 75)
    assert {kind for kind, _ in junit(paddock).values()} == {"skipped"}
    port = int(server.base_url.removesuffix("/v1").rpartition(":")[2])
    turns = [{"text": "Done."}] * 4
    async with ModelServer(turns, port=port, api_key=server.api_key):
        again = await asyncio.to_thread(paddock, "map", "--resume", "run", env=there)
    assert again.returncode == 0, again.stderr
    assert summary(paddock)["completed"] == 4


def begun(paddock: Paddock, command: str) -> subprocess.Popen[str]:
    """A batch whose second task runs `command`, which notes that it began."""
    write_tasks(paddock, "true", f"touch {paddock.cwd}/begun; {command}")
    process = paddock.start(*MAP, "--limit", "1", *SHELL)
    there = (paddock.cwd / "begun").exists
    wait_until(there, within=PATIENCE, otherwise="the second task did not begin")
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_order_and_says_how_to_continue(
    number: signal.Signals, code: int, paddock: Paddock
) -> None:
    with begun(paddock, "sleep 600") as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    assert "1 completed, 1 pending" in said
    assert "paddock: continue with: paddock map --resume run" in said
    assert "Traceback" not in said
    assert junit(paddock) == {"t0": ("", ""), "t1": ("skipped", "")}
    assert json.loads(paddock("ls", "--backend", "local", "--json").stdout or "[]") == []


def test_a_second_signal_ends_it_at_once(paddock: Paddock) -> None:
    command = "trap '' TERM INT HUP; while :; do sleep 1; done"
    with begun(paddock, command) as process:
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode in (130, -signal.SIGINT)
    shown = paddock("batch", "status", "run", "--json")
    assert json.loads(shown.stdout)["running"] is False


def test_github_gets_a_summary_of_the_step_and_at_most_ten_annotations(paddock: Paddock) -> None:
    evil = "echo '::set-output name=x::y'; exit 3"
    write_tasks(paddock, "true", *[evil] * 60)
    place = paddock.cwd / "step.md"
    there = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place)}
    done = paddock(*MAP, "--limit", "16", *SHELL, env=there)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert all(line.startswith("::error title=t") for line in lines)
    said = place.read_text()
    assert "| task.failed | 60 |" in said
    assert said.count("| task.failed | command failed") == 50
    assert "and 10 more" in said
    failures = [line for line in done.stderr.splitlines() if line.startswith("t")]
    assert len(failures) < 60, "lines about failures are no flood"
    assert "more failed; see: paddock batch status" in done.stderr


def test_a_terminal_shows_a_bar_and_no_lines_but_failures(paddock: Paddock) -> None:
    write_tasks(paddock, "true", "exit 5", *["sleep 0.7"] * 4)
    with Terminal(paddock, *MAP, "--limit", "1", *SHELL) as terminal:
        terminal.wait_for("t1: task.failed")
        terminal.wait_for("/6 1 running, 1 failed")
        terminal.wait_for("left")
        terminal.wait_for("5 completed, 1 task.failed")
        assert terminal.end() == 1
    assert " done, " not in terminal.seen
