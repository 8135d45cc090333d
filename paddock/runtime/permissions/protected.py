"""Files that programs and people outside a sandbox obey or trust: writing them deserves care.

A working directory may be one of the host's, and what an agent writes elsewhere may be brought
there. A hook, a start-up file or a task of an editor is run later, with the rights of whoever
works there. This module judges by name and touches no file.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import PurePosixPath

__all__ = ["protected_reason"]

_GIT = "git runs commands that it names"
_SHELL = "shells run it when they start"
_STARTS = "a program runs what it says when it starts"
_COMMIT = "its commands are run at each commit"
_EDITOR = "an editor runs what it says when the folder is opened"
_AGENT = "coding agents run or obey what it says"
_PACKAGES = "a package manager obeys it, or takes credentials from it"
_BUILD = "a build tool runs what it names"
_LOGIN = "it holds credentials, or says who may log in"
_TIMED = "its commands are run at set times"
_SESSION = "what it names is started with the user's session"
_ENTERED = "its commands are run when the folder is entered"

PROTECTED: Final[dict[str, str]] = {
    # git: the directory itself, bare repositories, submodules, worktrees, a file in its place
    ".git": _GIT, "*.git/config": _GIT, "*.git/hooks": _GIT, ".gitconfig": _GIT,
    ".gitmodules": _GIT, ".git-credentials": _LOGIN,
    ".hg/hgrc": "Mercurial runs commands that it names", ".hgrc": "Mercurial runs its hooks",
    # what runs at a commit, or on entering a folder
    ".husky": _COMMIT, ".githooks": _COMMIT, ".pre-commit-config.y*ml": _COMMIT,
    "lefthook.*": _COMMIT, ".lefthook.*": _COMMIT, ".lintstagedrc*": _COMMIT,
    "lint-staged.config.*": _COMMIT, ".overcommit.yml": _COMMIT, ".simple-git-hooks.*": _COMMIT,
    ".envrc": _ENTERED, ".autoenv*": _ENTERED, ".mise.toml": _ENTERED, "mise.toml": _ENTERED,
    ".mise": _ENTERED, "mise.local.toml": _ENTERED, ".mise.local.toml": _ENTERED,
    # shells and sessions
    ".bashrc": _SHELL, ".bash_*": _SHELL, ".profile": _SHELL, ".zshrc": _SHELL, ".zshenv": _SHELL,
    ".zprofile": _SHELL, ".zlogin": _SHELL, ".zlogout": _SHELL, ".kshrc": _SHELL,
    ".mkshrc": _SHELL, ".cshrc": _SHELL, ".tcshrc": _SHELL, ".login": _SHELL, ".logout": _SHELL,
    ".inputrc": _SHELL, ".pam_environment": _SESSION, ".xprofile": _SESSION,
    ".xinitrc": _SESSION, ".xsession*": _SESSION, ".config": _SESSION, ".local/bin": _SHELL,
    ".local/share/systemd": _SESSION, ".local/share/dbus-1": _SESSION,
    ".local/share/applications": _SESSION, ".local/share/bash-completion": _SHELL,
    "autostart": _SESSION, "systemd/user": _SESSION, "systemd/system": _SESSION,
    "launchagents": _SESSION, "launchdaemons": _SESSION,
    # at set times
    "crontab": _TIMED, ".crontab": _TIMED, "crontabs": _TIMED, "cron.d": _TIMED,
    "cron.daily": _TIMED, "cron.hourly": _TIMED, "cron.weekly": _TIMED, "cron.monthly": _TIMED,
    # programs
    ".vimrc": _STARTS, ".gvimrc": _STARTS, ".exrc": _STARTS, ".nvimrc": _STARTS,
    ".nvim.lua": _STARTS, ".vim": _STARTS, ".emacs": _STARTS, ".emacs.d": _STARTS,
    ".dir-locals*.el": _STARTS, ".gdbinit": _STARTS, ".lldbinit": _STARTS, ".irbrc": _STARTS,
    ".pryrc": _STARTS, ".pythonrc*": _STARTS, ".ipython": _STARTS, ".jupyter": _STARTS,
    ".rprofile": _STARTS, ".psqlrc": _STARTS, ".sqliterc": _STARTS, ".screenrc": _STARTS,
    ".tmux.conf": _STARTS, ".ripgreprc": _STARTS, ".curlrc": _STARTS, ".wgetrc": _STARTS,
    ".mailcap": _STARTS, ".forward": _STARTS, ".procmailrc": _STARTS,
    "sitecustomize.py": _STARTS, "usercustomize.py": _STARTS,
    "site-packages/*.pth": _STARTS, "dist-packages/*.pth": _STARTS,
    # packages and builds
    ".npmrc": _PACKAGES, ".yarnrc*": _PACKAGES, ".yarn/releases": _PACKAGES,
    ".yarn/plugins": _PACKAGES, ".pnpmfile.*": _PACKAGES, "bunfig.toml": _PACKAGES,
    ".pypirc": _PACKAGES, "pip.conf": _PACKAGES, ".pip": _PACKAGES, ".pydistutils.cfg": _PACKAGES,
    ".condarc": _PACKAGES, ".gemrc": _PACKAGES, ".bundle/config": _PACKAGES, ".m2": _PACKAGES,
    ".cargo": _BUILD, ".gradle": _BUILD, ".mvn": _BUILD, ".bazelrc": _BUILD,
    # credentials
    ".netrc": _LOGIN, "_netrc": _LOGIN, ".ssh": _LOGIN, ".gnupg": _LOGIN, ".aws": _LOGIN,
    ".azure": _LOGIN, ".docker": _LOGIN, ".kube": _LOGIN, ".pgpass": _LOGIN, ".my.cnf": _LOGIN,
    ".rhosts": _LOGIN, ".shosts": _LOGIN, ".password-store": _LOGIN, ".vault-token": _LOGIN,
    # editors and agents
    ".vscode": _EDITOR, ".idea": _EDITOR, ".devcontainer": _EDITOR, ".devcontainer.json": _EDITOR,
    ".vs": _EDITOR, ".fleet": _EDITOR, ".zed": _EDITOR, "*.code-workspace": _EDITOR,
    ".cursor": _AGENT, ".windsurf": _AGENT, ".continue": _AGENT, ".codex": _AGENT,
    ".gemini": _AGENT, ".mcp.json": _AGENT, ".claude/agents": _AGENT, ".claude/commands": _AGENT,
    ".claude/hooks": _AGENT, ".claude/plugins": _AGENT, ".claude/settings*.json": _AGENT,
    ".claude/skills": _AGENT, ".aider.conf.yml": _AGENT, ".paddock": _AGENT,
    "paddock.toml": _AGENT,
}  # fmt: skip
"""Names and ends of paths, in lower case, and why they are protected; so is all below them.

A pattern of several parts matches them in a row, anywhere in a path. Not here is what is run only
on request (Makefile, package.json) or elsewhere (workflows of a CI service), and what
no name tells: a bare repository may have any name.
"""

SYSTEM: Final = (
    "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys",
    "/usr", "/var/spool/at", "/var/spool/cron",
)  # fmt: skip
NOT_SYSTEM: Final = ("/usr/src",)
"""Where many images keep the application."""

_ROWS: Final = [(tuple(name.split("/")), name, why) for name, why in PROTECTED.items()]
_SHORT_NAME: Final = re.compile(r"git~[0-9]+")


def protected_reason(path: str | PurePosixPath) -> str | None:
    """Return why a write to `path` deserves care, or None.

    It sees through ``..`` and through spellings that some file systems take for the same name,
    but not through links; the sandbox is the boundary.
    """
    normal = posixpath.normpath(str(path))
    if normal.startswith("/"):
        normal = "/" + normal.lstrip("/")
        if _below(normal, SYSTEM) and not _below(normal, NOT_SYSTEM):
            return "in a system directory"
    parts = [_folded(part) for part in normal.replace("\\", "/").split("/")]
    for patterns, name, why in _ROWS:
        for start in range(len(parts) - len(patterns) + 1):
            if all(map(fnmatchcase, parts[start:], patterns)):
                return f"{name}, or part of it: {why}"
    return None


def _folded(part: str) -> str:
    """A name as the most lenient file system reads it.

    Case does not matter on macOS and Windows. HFS+ ignores characters that format text; Windows
    dots and blanks at the end and what follows a colon, and it knows ``.git`` as ``git~1`` too.
    """
    shown = "".join(char for char in part if unicodedata.category(char) != "Cf")
    folded = shown.partition(":")[0].rstrip(". ").casefold()
    return ".git" if _SHORT_NAME.fullmatch(folded) else folded


def _below(path: str, trees: tuple[str, ...]) -> bool:
    return any(path == tree or path.startswith(tree + "/") for tree in trees)
