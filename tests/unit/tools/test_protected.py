"""Which paths deserve care, by name alone."""

from __future__ import annotations

import pytest

from paddock.runtime.permissions.protected import PROTECTED, protected_reason


@pytest.mark.parametrize(
    "path",
    [
        ".git", ".git/config", ".git/config.worktree", ".git/hooks/pre-commit", "sub/.git",
        ".git/modules/sub/hooks/post-checkout", ".git/modules/sub/config", ".git/info/attributes",
        ".git/worktrees/w/config.worktree", "vendor/x.git/config", "vendor/x.git/hooks/update",
        ".gitmodules", "a/.gitmodules", ".envrc", "sub/.envrc", ".husky/pre-commit", ".husky/_/h",
        ".netrc", "home/_netrc", ".pre-commit-config.yaml", ".pre-commit-config.yml",
        "lefthook.yml", "/var/spool/cron/crontabs/root", "/var/spool/cron/u", "cron.d/x",
        "crontab", "/etc/cron.d/x", ".config/systemd/user/x.service", ".config/autostart/x.desktop",
        ".local/share/systemd/user/x.timer", "Library/LaunchAgents/x.plist", ".vimrc", ".npmrc",
        ".yarnrc.yml", ".pypirc", ".docker/config.json", ".kube/config", ".cargo/config.toml",
        ".vscode/tasks.json", ".devcontainer/devcontainer.json", ".devcontainer.json",
        "x.code-workspace", ".claude/settings.local.json", ".claude/hooks/x.sh", "paddock.toml",
        ".tmux.conf", ".zlogin", ".bash_aliases", "lib/python3/site-packages/x.pth",
        "sitecustomize.py", "/boot/x", "/proc/sys/kernel/core_pattern",
    ],
)  # fmt: skip
def test_what_others_obey_is_protected(path: str) -> None:
    assert protected_reason(path)


@pytest.mark.parametrize(
    "path",
    [
        ".GIT/config", ".Git/Hooks/x", "a/../.git/config", "./.git//config", "a/./.git",
        ".git./config", ".git /config", ".git. ./hooks/x", "GIT~1/config", "git~2/hooks/x",
        ".git::$INDEX_ALLOCATION/config", ".g\u200cit/config", "\ufeff.git/config",
        ".git\\hooks\\x", "sub\\.git\\config", ".BashRC", ".ENVRC", ".netrc.", ".SSH/id",
        "//etc/passwd", "/usr/../etc/passwd", "/tmp/../../etc/x",
    ],
)  # fmt: skip
def test_another_spelling_of_a_name_is_the_name(path: str) -> None:
    assert protected_reason(path)


@pytest.mark.parametrize(
    "path",
    [
        "src/a.py", "Makefile", "package.json", ".github/workflows/ci.yml", ".gitignore",
        ".gitattributes", "git/config", "git/hooks/x", "config", ".env", "gitconfig",
        "x.gitx/config",
        "/usr/src/app/a.py", "etc/x", "docs/ssh/x", "a.pth", ".claude/notes.md", "vscode/x",
        ".", "",
        "profile", "usr/x", "/home/u/x", "..", "data.netrc",
    ],
)  # fmt: skip
def test_an_ordinary_path_is_not(path: str) -> None:
    assert protected_reason(path) is None


@pytest.mark.parametrize("name", PROTECTED)
def test_every_row_can_match_and_says_why(name: str) -> None:
    path = name.replace("*", "x")
    for where in (path, f"/home/u/{path}", f"{path}/below", path.upper()):
        reason = protected_reason(where)
        assert reason is not None
        assert ": " in reason
