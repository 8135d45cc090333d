"""The surroundings of a sandbox's commands: folders, variables, the shell.

The commands run on this machine, as this user, without any isolation.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["Surroundings", "find_shell"]

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LISTED_SHELLS = Path("/etc/shells")


class Surroundings:
    """What every command of one sandbox starts with."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self.root = root
        self.home = root / "home" / "daytona"
        self.sessions = self.home / ".daytona" / "sessions"
        """Where the daemon keeps the FIFOs of sessions, from the first of them on."""
        self.code = root / "code"
        """Where code is that is to be run."""
        self.env = dict(env)

    def make_folders(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.code.mkdir(parents=True, exist_ok=True)

    def variables(self, own: Mapping[str, str] | None = None) -> dict[str, str]:
        """A command's whole environment: nothing of the server's own is in it."""
        base = {"PATH": SEARCH_PATH, "HOME": str(self.home), "LANG": "C.UTF-8"}
        return {**base, **self.env, **(own or {})}

    def change_env(
        self, values: Mapping[str, str], *, unset: Collection[str], prefix: str | None
    ) -> None:
        """For commands from now on: drop names and values that begin so, then set `values`."""
        kept = {
            name: value
            for name, value in self.env.items()
            if name not in unset and not (prefix and value.startswith(prefix))
        }
        self.env = {**kept, **values}

    def resolve(self, path: str | None) -> Path:
        """Relative to the work folder; an absolute path is what it says, on this machine."""
        return self.home / (path or "")


def find_shell() -> str:
    """zsh or bash if this machine lists them, then ``$SHELL``, then sh."""
    listed = LISTED_SHELLS.read_text().split() if LISTED_SHELLS.exists() else []
    for name in ("zsh", "bash"):
        for path in listed:
            if Path(path).name == name and os.access(path, os.X_OK):
                return path
    return os.environ.get("SHELL") or shutil.which("sh", path=SEARCH_PATH) or "/bin/sh"
