"""``--secret`` on the command line: commands have it, and nothing that is shown or kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_secrets import files_below, leaks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.conftest import Paddock

TOKEN = "tk-5e4d9c81-correct-horse"
GIVEN = ("--secret", "TOKEN", "--isolation", "none")
KNOWN = {"TOKEN": TOKEN}
RESULT = "has it\\\\n"
"""What `HAS` says, as it stands in the JSON within the JSON of a trace."""
HAS = f"test ${{#TOKEN}} = {len(TOKEN)} && echo has it"


@pytest.fixture
def run(paddock: Paddock) -> Sequence[str]:
    """A run whose model has a command say the secret; what a second prompt does is the same."""
    turn = {"tool_calls": [{"name": "bash", "arguments": {"command": f"{HAS}; echo $TOKEN"}}]}
    (paddock.cwd / "script.yaml").write_text(json.dumps([turn, {"text": "Done."}] * 4))
    return ("run", "Go", "--model", "scripted:script.yaml", "--profile", "developer", "-y")


def test_commands_of_a_run_have_a_secret_that_is_neither_shown_nor_kept(
    paddock: Paddock, run: Sequence[str]
) -> None:
    for more in (GIVEN, (*GIVEN, "--json"), ("--secret", f"TOKEN={TOKEN}", "--no-save")):
        done = paddock(*run, *more, env=KNOWN if "TOKEN" in more else {})
        assert done.returncode == 0, done.stderr
        assert "has it" in done.stdout
        assert "[secret TOKEN]" in done.stdout
        assert leaks((done.stdout + done.stderr).encode(), KNOWN) == []
    assert leaks(b"".join(files_below(paddock.home).values()), KNOWN) == []


def test_a_session_that_is_resumed_is_given_its_secrets_anew(
    paddock: Paddock, run: Sequence[str]
) -> None:
    assert paddock(*run, *GIVEN, env=KNOWN).returncode == 0
    again, given = ("Again", "--json"), ("--secret", f"TOKEN={TOKEN}")
    assert RESULT not in paddock("sessions", "resume", "latest", *again).stdout
    for command in (("sessions", "resume", "latest"), ("run", "--resume", "latest")):
        done = paddock(*command, *again, *given)
        assert done.returncode == 0, done.stderr
        assert RESULT in done.stdout
        assert leaks((done.stdout + done.stderr).encode(), KNOWN) == []


def test_the_output_of_a_command_is_passed_on_without_secrets(paddock: Paddock) -> None:
    command = f"{HAS}; printf 'a%sb' $TOKEN; printf %s ${{TOKEN%?????}} >&2"
    done = paddock("exec", *GIVEN, "--", "sh", "-c", command, env=KNOWN)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "has it\na[secret TOKEN]b"
    assert done.stderr.endswith(TOKEN[:-5]), "what only begins as the secret does is not held back"


def test_a_command_that_is_killed_has_its_output_shown_to_the_end(paddock: Paddock) -> None:
    command = "printf %s ${TOKEN%?????}; exec sleep 60"
    done = paddock("exec", *GIVEN, "--timeout", "2", "--", "sh", "-c", command, env=KNOWN)
    assert (done.returncode, done.stdout) == (124, TOKEN[:-5])


def test_the_demo_takes_secrets(paddock: Paddock) -> None:
    done = paddock("demo", "-n", "0", "--secret", f"TOKEN={TOKEN}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        ("TOKEN", 1, "--secret TOKEN: the environment has no such variable"),
        ("TOKEN=hunter2", 1, "secret TOKEN: it has 7 bytes"),
        ("tk-hunter2", 2, "give NAME, or NAME=VALUE"),
        ("=tk-hunter2", 2, "give NAME, or NAME=VALUE"),
    ],
)
def test_a_secret_that_cannot_be_given_is_told_without_it(
    paddock: Paddock, given: str, code: int, told: str
) -> None:
    done = paddock("run", "Go", "--secret", given)
    assert done.returncode == code, done.stderr
    assert told in " ".join(done.stderr.replace("\u2502", " ").split())
    assert "hunter2" not in done.stdout + done.stderr


def test_an_error_of_the_sandbox_says_no_secret(paddock: Paddock) -> None:
    for debug in ((), ("--debug",)):
        done = paddock(*debug, "exec", *GIVEN, "--setup", "echo $TOKEN; exit 3", "true", env=KNOWN)
        assert done.returncode == 1
        assert "[secret TOKEN]" in done.stderr
        assert TOKEN not in done.stdout + done.stderr
