"""A project file as tests write it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from paddock.project import Project, find_project

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write"]


def write(folder: Path, text: str, name: str = "paddock.toml") -> Project:
    (folder / name).write_text(textwrap.dedent(text))
    project = find_project(folder)
    assert project is not None
    return project
