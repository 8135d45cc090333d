"""`main`, the one error boundary: whatever is put in, what comes out is words and a code."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.cli import main
from paddock.cli.app import with_command

if TYPE_CHECKING:
    from pathlib import Path


PROMPT = "---\nvariables: {language: {required: true}}\n---\nReview {{ language }}.\n"


@pytest.fixture(autouse=True)
def _in_an_empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PADDOCK_DEBUG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["run"],
        ["exec"],
        ["demo"],
        ["doctor"],
        ["sessions"],
        ["sessions", "resume"],
        ["ps"],
        ["cancel"],
        ["monitor"],
        ["export"],
    ],
    ids=" ".join,
)
def test_help_teaches_each_command(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    out, err = capfd.readouterr()
    assert "Usage: paddock" in out
    assert err == ""


@pytest.mark.parametrize(
    ("args", "told", "code"),
    [
        (["nonsense"], "No such command 'nonsense'.", 2),
        (["nonsense"], "paddock run nonsense", 2),
        (["seshions"], "Did you mean 'sessions'?", 2),
        ([], "there is no prompt", 1),
        (["run"], "there is no prompt", 1),
        (["run", "-m", "scripted:missing.yaml"], "there is no prompt", 1),
        (["-y", "x", "--model", "scripted:missing.yaml"], "missing.yaml", 1),
        (["Two words", "--profile", "nonsense"], "nonsense", 1),
        (["--debug", "Two words", "--max-turns", "0"], "--max-turns", 2),
        (["run", "x"], "no API key: set OPENAI_API_KEY", 1),
        (["run", "x", "--shell-mode", "nonsense"], "restricted, unrestricted", 1),
        (["run", "x", "--prompt", "missing.md"], "missing.md", 1),
        (["run", "x", "--prompt", "list.yaml"], "ends in .md", 1),
        (["run", "x", "-p", "prompt.md", "-s", "y"], "one of --prompt and --system-prompt", 2),
        (["run", "x", "-p", "prompt.md"], "Missing required variable: language", 1),
        (["run", "x", "-p", "prompt.md", "--var", "language"], "NAME=VALUE", 2),
        (["run", "x", "--vars-file", "missing.yaml"], "missing.yaml", 1),
        (["run", "x", "--vars-file", "list.yaml"], "mapping of variables", 1),
        (["run", "x", "--vars-file", "vars.yaml"], "vars.yaml, line 2: b has to be text", 1),
        (["run", "x", "--output", "list.yaml"], "list.yaml: it exists", 1),
        (["run", "x", "--output", "missing/answer.txt"], "no such directory", 1),
        (["run", "x", "--resume", "nonsense"], "nonsense", 1),
        (["run", "x", "--resume", "latest"], "no sessions", 1),
        (["run", "x", "--preview-lines", "-1"], "--preview-lines", 2),
        (["ps", "missing"], "no such directory", 1),
        (["ps", "list.yaml"], "not a directory", 1),
        (["cancel"], "or --all", 1),
        (["cancel", "nonsense"], "nonsense", 1),
        (["cancel", "x", "--dir", "missing"], "no such directory", 1),
        (["monitor", "missing"], "no such directory", 1),
        (["run", " "], "prompt is empty", 2),
        (["run", "x", "--max-turns", "0"], "--max-turns", 2),
        (["run", "x", "--nonsense"], "No such option", 2),
        (["run", "x", "--config", "missing.yaml"], "missing.yaml", 1),
        (["run", "x", "--config", "list.yaml"], "mapping", 1),
        (["run", "x", "--config", "broken.yaml"], "broken.yaml", 1),
        (["run", "x", "--config", "binary.yaml"], "binary.yaml", 1),
        (["run", "x", "--config", "provider.yaml"], "provider.yaml: provider 'nope' is not", 1),
        (["run", "x", "--config", "format.yaml"], "format.yaml: response_format: give", 1),
        (["run", "x", "--config", "sales.yaml"], "sales.yaml: databases.sales must be", 1),
        (["run", "x", "--config", "."], ".: Is a directory", 1),
        (["run", "x", "--profile", "nonsense"], "nonsense", 1),
        (["run", "x", "--model", "scripted:missing.yaml"], ": missing.yaml: No such file", 1),
        (["run", "x", "--model", "scripted:."], "give a YAML or JSON file", 1),
        (["run", "x", "--backend", "nonsense"], "nonsense", 1),
        (["exec"], "Missing argument", 2),
        (["exec", "--backend", "nonsense", "--", "true"], "nonsense", 1),
        (["exec", "--isolation", "nonsense", "--", "true"], "nonsense", 1),
        (["exec", "--image", "paddock:base", "--", "true"], "--image", 1),
        (["exec", "--upload", "missing:x", "--", "true"], "missing", 1),
        (["exec", "--upload", "colonless", "--", "true"], "SRC:DST", 2),
        (["exec", "--env", "A", "--", "true"], "KEY=VALUE", 2),
        (["exec", "--setup", "echo why >&2; exit 7", "--", "true"], "exit 7", 1),
        (["exec", "--timeout", "soon", "--", "true"], "--timeout", 2),
        (["sessions", "show", "nonsense"], "nonsense", 1),
        (["sessions", "show", "latest"], "no sessions", 1),
        (["sessions", "resume", "nonsense", "x"], "nonsense", 1),
        (["sessions", "list", "--session-dir", "list.yaml"], "list.yaml", 1),
        (["sessions", "list", "-n", "0"], "--limit", 2),
        (["demo", "--backend", "nonsense"], "nonsense", 1),
        (["demo", "-n", "-1"], "-n", 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_told_in_words(
    args: list[str], told: str, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cwd" / "list.yaml").write_text("- 1\n")
    (tmp_path / "cwd" / "prompt.md").write_text(PROMPT)
    (tmp_path / "cwd" / "vars.yaml").write_text("a: 1\nb: [1]\n")
    (tmp_path / "cwd" / "provider.yaml").write_text("provider: nope\n")
    (tmp_path / "cwd" / "format.yaml").write_text("response_format: {type: nope}\n")
    (tmp_path / "cwd" / "sales.yaml").write_text("databases: {sales: nope}\n")
    (tmp_path / "cwd" / "broken.yaml").write_text("a: [\n")
    (tmp_path / "cwd" / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert main(args) == code
    out, err = capfd.readouterr()
    assert told in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.rows("S-61")
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], ["run"]),
        (["--debug"], ["--debug", "run"]),
        (["Mend it."], ["run", "Mend it."]),
        (["--debug", "Mend it.", "-y"], ["--debug", "run", "Mend it.", "-y"]),
        (["-m", "x", "Mend it."], ["run", "-m", "x", "Mend it."]),
        (["--list"], ["run", "--list"]),
        (["seshions"], ["seshions"]),
        (["ls", "a b"], ["ls", "a b"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
    ],
)
def test_run_goes_without_saying_before_a_prompt(given: list[str], meant: list[str]) -> None:
    assert with_command(given) == meant


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_warning_is_one_line_without_a_place_in_our_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cwd" / "agent.yaml").write_text("modle: x\n")
    assert main(["run", "x", "-c", "agent.yaml"]) == 1
    told, *error = capfd.readouterr().err.splitlines()
    assert told == "paddock: agent.yaml, line 1: modle is kept as an extra; did you mean model?"
    assert "no API key" in error[0]


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr("paddock.backends.base.get_backend", broken)
    with pytest.raises(KeyError, match="a defect"):
        main(["exec", "--", "true"])


def test_debug_raises_what_is_otherwise_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        main(["--debug", "sessions", "show", "nonsense"])
    monkeypatch.setenv("PADDOCK_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["sessions", "show", "nonsense"])


def test_a_command_imports_no_other_command() -> None:
    program = (
        "import sys; from paddock.cli import main; main(['gc', '--help']); "
        "print([name for name in ('run', 'map', 'mcp') if 'paddock.cli.' + name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
