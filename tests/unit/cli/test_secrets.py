"""What commands tell of errors, and ask, with secrets and with tricks in it."""

from __future__ import annotations

import pytest

from paddock import Decision
from paddock.cli import main
from paddock.cli.conversation import Approver
from paddock.cli.errors import explain, report_defect
from paddock.cli.render import describe_call
from paddock.cli.settings import keep_quiet
from paddock.errors import ConfigError
from paddock.redaction import Redactor

TOKEN = "tk-5e4d9c81-correct-horse"
QUIET = Redactor({"TOKEN": TOKEN})


@pytest.mark.rows("C49")
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"no route to {TOKEN}"),
        FileNotFoundError(2, "No such file", f"/work/{TOKEN}"),
        KeyError(TOKEN),
    ],
)
def test_an_error_is_explained_without_its_secrets(error: Exception) -> None:
    assert TOKEN not in explain(error, QUIET)
    assert "[secret TOKEN]" in explain(error, QUIET)


@pytest.mark.rows("C49")
def test_a_chain_of_errors_is_shown_without_its_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        try:
            raise OSError(f"inner {TOKEN}")
        except OSError as inner:
            raise RuntimeError(f"outer {TOKEN}") from inner
    except RuntimeError as error:
        report_defect(error, QUIET)
    told = capsys.readouterr().err
    assert TOKEN not in told
    assert "OSError: inner [secret TOKEN]" in told
    assert "RuntimeError: outer [secret TOKEN]" in told


@pytest.mark.rows("C58")
@pytest.mark.parametrize(
    "trick",
    [
        "\x1b[2K\x1b[1Als",
        "\x1b]0;title\x07",
        "\x9b2J",
        "rm -rf / \u202e# sl",
        "\u2066isolate\u2069",
        "zero\u200bwidth\ufeff",
        "line\u2028break\x85",
        "\r overwritten",
        "\x08\x08back",
    ],
)
async def test_what_an_approver_sees_has_its_escapes_and_directions_written_out(
    trick: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", _Person("n\n"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    arguments = {"command": trick, trick: [trick]}
    assert not await Approver()("bash", arguments)
    shown = capsys.readouterr().err + describe_call(trick, arguments)
    assert "Allow this call?" in shown
    assert all(character.isprintable() or character == "\n" for character in shown), shown


@pytest.mark.parametrize(
    ("typed", "decided"),
    [
        ("y", True), ("YES ", True), ("", False), ("n", False),
        ("use staging", Decision(outcome="reject", feedback="use staging", by="terminal")),
    ],
)  # fmt: skip
async def test_what_is_typed_beside_yes_and_no_is_a_reason(
    typed: str, decided: bool | Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", _Person(f"{typed}\n"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert await Approver()("bash", {"command": "rm -rf x"}) == decided


class _Person:
    """Sits at a terminal, and types `line`."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line


@pytest.mark.rows("C49")
def test_what_a_session_keeps_quiet_the_error_boundary_does_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **options: object) -> None:
        keep_quiet(QUIET)
        raise ConfigError(f"no route to {TOKEN}")

    monkeypatch.setattr("paddock.cli.app.app", fail)
    assert main([]) == 1
    told = capsys.readouterr().err
    assert TOKEN not in told
    assert "[secret TOKEN]" in told
