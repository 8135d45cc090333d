"""What the server removes of guests at its end, and what it leaves alone."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from paddock.testing.daytona import leftovers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_directories_of_guests_that_ended_go_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "FOLDERS", str(tmp_path / ".paddock-"))
    for name in (".paddock-ended", ".paddock-lives", "work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.stdout").write_text("long")
    (tmp_path / ".paddock-file").touch()
    (tmp_path / ".paddock-link").symlink_to("work")
    held = os.open(tmp_path / ".paddock-lives", os.O_RDONLY | os.O_DIRECTORY)
    try:
        leftovers.remove_leftovers(time.time() + 60)
        assert (tmp_path / ".paddock-ended").exists(), "it is older than the server"
        leftovers.remove_leftovers(0.0)
    finally:
        os.close(held)
    assert {each.name for each in tmp_path.iterdir()} == {
        ".paddock-lives", ".paddock-file", ".paddock-link", "work",
    }  # fmt: skip
    assert (tmp_path / "work" / "1.stdout").exists()
