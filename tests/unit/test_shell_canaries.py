"""What the restricted shell allows is run, among files that nothing of it may ever change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from paddock.runtime.shell import RESTRICTED_ENV, Allowed, check_command
from tests.unit.shell_lines import ALLOWED, LINES, OPEN_TO_DRIVERS

if TYPE_CHECKING:
    from pathlib import Path


def _prepare(root: Path) -> None:
    (root / "sub").mkdir()
    for name in ("canary", "in", "a", "b", "x", "out", "-delete", "-oevil", "--output=evil"):
        (root / name).write_text(f"{name}\nsecond\n")
    (root / "sub" / "a.py").write_text("foo\n")
    (root / "x.json").write_text('{"a": [1]}')
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    evil = f"touch {root}/evil; echo"
    config = {
        "core.fsmonitor": evil, "core.pager": evil, "diff.external": evil, "gpg.program": evil,
        "diff.d.textconv": evil, "diff.d.command": evil, "log.showSignature": "true",
    }  # fmt: skip
    subprocess.run([*git, "init", "-q", root], check=True)
    (root / ".gitattributes").write_text("* diff=d\n")
    subprocess.run([*git, "-C", root, "add", "a", "b", ".gitattributes"], check=True)
    subprocess.run([*git, "-C", root, "commit", "-qm", "one"], check=True)
    (root / "a").write_text("changed\n")
    for key, value in config.items():
        subprocess.run([*git, "-C", root, "config", key, value], check=True)


def _fingerprint(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "directory"
        for path in sorted(root.rglob("*"))
    }


def _run(command: str, root: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(root), **RESTRICTED_ENV}
    subprocess.run(
        ["sh", "-c", command], cwd=root, env=env, stdin=subprocess.DEVNULL, timeout=20,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.fixture
def canaries(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    _prepare(tmp_path)
    return tmp_path


def test_running_every_allowed_command_changes_no_file(canaries: Path) -> None:
    before = _fingerprint(canaries)
    for command in [*ALLOWED, *OPEN_TO_DRIVERS]:
        decision = check_command(command)
        assert isinstance(decision, Allowed)
        _run(decision.command, canaries)
        assert _fingerprint(canaries) == before, command


@pytest.mark.parametrize("command", ["git diff", "git status", "git blame a", "git log -p"])
def test_the_canaries_do_show_what_a_repository_can_start(canaries: Path, command: str) -> None:
    subprocess.run(
        command.split(), cwd=canaries, env={"PATH": os.environ["PATH"], "HOME": str(canaries)},
        check=False, capture_output=True,
    )  # fmt: skip
    assert (canaries / "evil").exists()


@given(line=LINES)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_running_whatever_is_allowed_changes_no_file(canaries: Path, line: str) -> None:
    decision = check_command(line)
    if isinstance(decision, Allowed):
        before = _fingerprint(canaries)
        _run(decision.command, canaries)
        assert _fingerprint(canaries) == before
