"""``paddock approvals``: answering from another process than the one that asks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

COMMANDS = ("echo first > made; cat made", "echo second >> made; cat made")
SCRIPT = [
    {"tool_calls": [{"name": "bash", "arguments": {"command": each}} for each in COMMANDS]},
    {"text": "The end."},
]
PROFILE = "profile: careful\nshell: {mode: unrestricted}\napproval: {mode: all}\n"


@pytest.fixture(autouse=True)
def _project(paddock: Paddock) -> None:
    (paddock.cwd / "script.yaml").write_text(json.dumps(SCRIPT))
    (paddock.cwd / "careful.yaml").write_text(PROFILE)


def options(way: str) -> list[str]:
    script, profile = "scripted:script.yaml", "careful.yaml"
    return ["run", "Go on", "--model", script, "--profile", profile, "--approvals", way]


def listed(paddock: Paddock, status: str = "pending") -> list[dict[str, Any]]:
    done = paddock("approvals", "list", "--json", "--status", status)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_calls_are_answered_later_and_the_run_continues_with_the_answers(paddock: Paddock) -> None:
    done = paddock(*options("later"))
    assert done.returncode == 1
    assert "continue with: paddock sessions resume" in done.stderr
    first, second = [each["request"]["id"] for each in listed(paddock)]
    shown = paddock("approvals", "show", first[:6])
    assert f'"command": "{COMMANDS[0]}"' in shown.stdout
    assert "careful" not in shown.stderr
    approved = paddock("approvals", "answer", first, "--approve", "--by", "ann")
    assert approved.returncode == 0, approved.stderr
    assert paddock("sessions", "resume", "latest").returncode == 1, "one of two is not answered"
    revised = paddock(
        *("approvals", "answer", second, "--revise", "-"), input='{"command": "cat made"}'
    )
    assert revised.returncode == 0, revised.stderr
    done = paddock("sessions", "resume", "latest")
    assert done.returncode == 0, done.stderr
    assert "The end." in done.stdout
    assert "It ran with" in done.stdout
    assert listed(paddock) == []
    outcomes = [(each["decision"]["outcome"], each["decision"]["by"]) for each in listed(
        paddock, "answered"
    )]  # fmt: skip
    assert [outcome for outcome, _ in outcomes] == ["approve", "revise"]
    assert outcomes[0][1] == "ann"


def test_a_run_waits_until_its_calls_are_answered(paddock: Paddock) -> None:
    with paddock.start(*options("wait")) as running:
        while len(waiting := listed(paddock)) < len(COMMANDS):
            assert running.poll() is None
        first, second = [each["request"]["id"] for each in waiting]
        assert paddock("approvals", "answer", first, "--approve").returncode == 0
        refused = paddock("approvals", "answer", second, "--reject", "--feedback", "Enough.")
        assert refused.returncode == 0
        output, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert "✓ bash" in output
    assert "✗ not allowed" in output


def test_what_cannot_be_answered_says_what_can(paddock: Paddock) -> None:
    assert "none waits here" in paddock("approvals", "show", "8c1f").stderr
    paddock(*options("later"))
    first, second = [each["request"]["id"] for each in listed(paddock)]
    unknown = paddock("approvals", "answer", "nope", "--approve")
    assert unknown.returncode == 1
    assert "no approval 'nope'; those that wait are:" in unknown.stderr
    assert first in unknown.stderr
    assert second in unknown.stderr
    for given, problem in (
        ([], "give one of --approve, --reject and --revise FILE"),
        (["--approve", "--reject"], "give one of --approve, --reject and --revise FILE"),
        (["--revise", "missing.json"], "missing.json: No such file or directory"),
        (["--revise", "careful.yaml"], "unknown argument 'profile'"),
    ):
        done = paddock("approvals", "answer", first, *given)
        assert done.returncode == 1
        assert problem in done.stderr
        assert "Traceback" not in done.stderr
    paddock("approvals", "answer", first, "--approve", "--by", "ann")
    again = paddock("approvals", "answer", first, "--reject")
    assert again.returncode == 1
    assert "it was answered already: approve by ann" in again.stderr
