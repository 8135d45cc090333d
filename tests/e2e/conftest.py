"""`paddock` as a real process, in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60
"""Seconds for one command, on two cores that may be busy with other tests."""


@dataclass(frozen=True)
class Paddock:
    """Runs `paddock` commands. `home` is empty at first; so is the directory they run in."""

    home: Path
    cwd: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE")
        here = {name: os.environ[name] for name in kept if name in os.environ}
        return {**here, "HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}

    def __call__(
        self, *args: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        settings = {"stdin": subprocess.DEVNULL, **options}
        if "input" in settings:
            del settings["stdin"]
        return subprocess.run(
            self.command(*args),
            cwd=self.cwd,
            env=self.environment | (env or {}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **settings,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does."""
        return subprocess.Popen(
            self.command(*args),
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    @staticmethod
    def command(*args: str) -> list[str]:
        return [sys.executable, "-m", "paddock", *args]


@pytest.fixture
def paddock(tmp_path: Path) -> Paddock:
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    home.mkdir()
    cwd.mkdir()
    return Paddock(home, cwd)
