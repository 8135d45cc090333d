"""How errors are told."""

from __future__ import annotations

import pytest

from paddock.cli.errors import explain, is_expected
from paddock.errors import (
    ConfigError,
    IsolationUnavailable,
    ModelError,
    SandboxError,
    SandboxLost,
    SessionLocked,
    SetupFailed,
    Unsupported,
)
from paddock.sandbox import ExecResult, Output


@pytest.mark.parametrize(
    ("error", "sentence", "advice"),
    [
        (ConfigError("profile: unknown"), "profile: unknown", ""),
        (FileNotFoundError(2, "No such file", "a.yaml"), "a.yaml: No such file", ""),
        (FileNotFoundError("Session not found: x"), "Session not found: x", ""),
        (Unsupported("pty", backend="local"), "the local backend does not support pty", ""),
        (
            IsolationUnavailable("bubblewrap", "not installed", backend="local"),
            "isolation",
            "doctor",
        ),
        (ModelError("API error 401"), "API error 401", "OPENAI_API_KEY"),
        (SessionLocked("abc", pid=1), "session abc is in use", "wait"),
        (SandboxLost("killed"), "was lost: killed", "--debug"),
    ],
)
def test_an_error_is_a_sentence_and_what_to_do(
    error: Exception, sentence: str, advice: str
) -> None:
    assert sentence in explain(error).splitlines()[0]
    assert advice in explain(error).splitlines()[-1]


def test_output_in_an_error_cannot_control_the_terminal() -> None:
    result = ExecResult(exit_code=1, err=Output(head=b"\x1b[2Jbad\x07"))
    assert "\x1b" not in explain(SetupFailed("make", result))


def test_a_group_is_expected_only_if_all_its_errors_are() -> None:
    fine = ExceptionGroup("", [OSError("a"), ExceptionGroup("", [ConfigError("b")])])
    assert is_expected(fine)
    assert not is_expected(ExceptionGroup("", [fine, KeyError("a defect")]))


def test_notes_of_an_error_are_shown_below_it() -> None:
    error = SandboxError("it failed")
    error.add_note("what was made may be there still")
    assert explain(error).splitlines()[:2] == [
        "it failed",
        "  what was made may be there still",
    ]
