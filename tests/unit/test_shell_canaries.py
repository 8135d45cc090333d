"""What the restricted shell allows is run, among files that nothing of it may ever change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from paddock.runtime.permissions.restricted_shell import RESTRICTED_ENV, Allowed, check_command
from tests.unit.shell_lines import ALLOWED, LINES, OPEN_TO_DRIVERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def _prepare(root: Path) -> None:
    (root / "sub").mkdir()
    options = ("-delete", "-oevil", "--output=evil", "--pre=sh", "-e1e touch evil")
    for name in ("canary", "in", "a", "b", "x", "out", *options):
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


def _run(
    command: str, root: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    whole = {"PATH": os.environ["PATH"], "HOME": str(root), **RESTRICTED_ENV, **(env or {})}
    return subprocess.run(
        ["sh", "-c", command], cwd=root, env=whole, stdin=subprocess.DEVNULL, timeout=20,
        capture_output=True, check=False,
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


def test_names_of_files_never_become_options(canaries: Path) -> None:
    before = _fingerprint(canaries)
    for line in (
        "sort ''*", 'rg foo ""*', "find ''*", "sed -n -e 1p ''*", "git diff ''*", "sort \"\"''?*",
        "uniq ''*", "sort \\\n''*", "git log ''*",
    ):  # fmt: skip
        decision = check_command(line)
        assert isinstance(decision, Allowed)
        _run(decision.command, canaries)
        assert _fingerprint(canaries) == before, line


@pytest.mark.parametrize("value", ["-oevil", "--output=evil", "-oevil "])
def test_values_of_variables_never_become_options(canaries: Path, value: str) -> None:
    before = _fingerprint(canaries)
    for line in ("sort $USER in", "sort ~ in", 'sort "$HOME"/in', "git diff $LANG", "uniq $SHELL"):
        decision = check_command(line)
        assert isinstance(decision, Allowed)
        _run(decision.command, canaries, dict.fromkeys(("USER", "HOME", "LANG", "SHELL"), value))
        assert _fingerprint(canaries) == before, line


@pytest.mark.parametrize("command", ["git status", "git diff", "git blame a", "git ls-files -m"])
@pytest.mark.parametrize("scope", ["--local", "--worktree", "include"])
def test_no_filter_of_a_repository_is_started(canaries: Path, command: str, scope: str) -> None:
    _set_filter(canaries, scope)
    before = _fingerprint(canaries)
    decision = check_command(command)
    assert isinstance(decision, Allowed)
    ran = _run(decision.command, canaries)
    assert b"name programs (filter.*)" in ran.stderr
    assert ran.returncode != 0
    assert _fingerprint(canaries) == before
    _git(canaries, *command.split()[1:])
    assert (canaries / "evil").exists()  # it would have been


def test_filters_of_the_user_and_of_no_repository_do_not_matter(canaries: Path) -> None:
    (canaries / ".gitconfig").write_text('[filter "lfs"]\nclean = cat\n')
    decision = check_command("git status --short && git diff --stat | head -1")
    assert isinstance(decision, Allowed)
    ran = _run(decision.command, canaries)
    assert ran.returncode == 0
    assert b" M a" in ran.stdout


def test_a_bare_repository_within_a_tree_is_not_used(canaries: Path) -> None:
    bare = canaries / "sub" / "bare"
    (bare / "tree").mkdir(parents=True)
    (bare / "tree" / "f").write_text("1\n")
    _git(bare, "init", "-q", "--bare", ".")
    for key, value in (
        ("core.bare", "false"),
        ("core.worktree", str(bare / "tree")),
        ("filter.x.clean", f"touch {canaries}/evil; cat"),
    ):
        _git(bare, "config", key, value)
    (bare / "info" / "attributes").write_text("* filter=x\n")
    before = _fingerprint(canaries)
    for line in ("git -C sub/bare status", "cd sub/bare && git log", "git -C sub/bare diff"):
        decision = check_command(line)
        assert isinstance(decision, Allowed)
        assert _run(decision.command, canaries).returncode != 0
        assert _fingerprint(canaries) == before, line


def test_merging_anew_for_a_log_starts_no_merge_driver(canaries: Path) -> None:
    _git(canaries, "config", "diff.external", "")
    _git(canaries, "commit", "-qam", "ours")
    _git(canaries, "checkout", "-q", "-f", "-b", "other", "HEAD~1")
    (canaries / "a").write_text("theirs\n")
    (canaries / ".gitattributes").write_text("* merge=evil\n")
    _git(canaries, "commit", "-qam", "theirs")
    _git(canaries, "merge", "-q", "-s", "ours", "-m", "both", "master")
    _git(canaries, "config", "merge.evil.driver", f"touch {canaries}/evil")
    _git(canaries, "config", "log.diffMerges", "remerge")
    (canaries / "evil").unlink(missing_ok=True)
    before = _fingerprint(canaries)
    for line in ("git log -p -m", "git show -m", "git log -p --diff-merges=on"):
        decision = check_command(line)
        assert isinstance(decision, Allowed)
        _run(decision.command, canaries)
        assert _fingerprint(canaries) == before, line
    _git(canaries, "log", "-p", "-m", "--no-ext-diff", "--no-textconv")
    assert (canaries / "evil").exists()  # it would have been


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)}, check=False, capture_output=True,
    )  # fmt: skip


def _set_filter(root: Path, scope: str) -> None:
    """A filter that takes hold of the changed file, set where `scope` says."""
    (root / ".git" / "info" / "attributes").write_text("* filter=x\n")
    command = f"touch {root}/evil; cat"
    for key in ("core.fsmonitor", "diff.external", "diff.d.textconv", "diff.d.command"):
        _git(root, "config", "--unset", key)
    if scope == "include":
        (root / "settings").write_text(f'[filter "x"]\nclean = "{command}"\n')
        _git(root, "config", "include.path", str(root / "settings"))
    else:
        _git(root, "config", "extensions.worktreeConfig", "true")
        _git(root, "config", scope, "filter.x.clean", command)


@pytest.mark.parametrize("command", ["git diff", "git status", "git blame a", "git log -p"])
def test_the_canaries_do_show_what_a_repository_can_start(canaries: Path, command: str) -> None:
    subprocess.run(
        command.split(), cwd=canaries, env={"PATH": os.environ["PATH"], "HOME": str(canaries)},
        check=False, capture_output=True,
    )  # fmt: skip
    assert (canaries / "evil").exists()


@given(line=LINES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_running_whatever_is_allowed_changes_no_file(canaries: Path, line: str) -> None:
    decision = check_command(line)
    if isinstance(decision, Allowed):
        before = _fingerprint(canaries)
        _run(decision.command, canaries)
        assert _fingerprint(canaries) == before
