"""Git in the conformance server's toolbox clones, and tells the state of a work tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from daytona import DaytonaError  # noqa: TID253 - the SDK is what is served here

if TYPE_CHECKING:
    from pathlib import Path

    from daytona import AsyncSandbox

MAKE = """
git init -q -b main origin && cd origin
git config user.email who@example.invalid && git config user.name Who
echo one > one && echo two > two && git add . && git commit -qm First
git branch other
"""


@pytest.fixture(autouse=True)
async def origin(sandbox: AsyncSandbox, home: Path) -> str:
    made = await sandbox.process.exec(MAKE)
    assert made.exit_code == 0, made.result
    return str(home / "origin")


async def test_a_clone_is_clean_on_its_branch(sandbox: AsyncSandbox, origin: str) -> None:
    await sandbox.git.clone(url=origin, path="deep/copy", branch="other")
    status = await sandbox.git.status("deep/copy")
    assert (status.current_branch, status.upstream) == ("other", "origin/other")
    assert (status.ahead, status.behind, status.file_status) == (0, 0, [])


async def test_changes_are_told_by_file(sandbox: AsyncSandbox, origin: str) -> None:
    await sandbox.git.clone(url=origin, path="copy")
    await sandbox.process.exec("cd copy; git mv one first; echo more >> two; touch 'new file'")
    status = await sandbox.git.status("copy")
    assert {
        each.name: (each.staging.value, each.worktree.value) for each in status.file_status
    } == {
        "first": ("Renamed", "Unmodified"),
        "two": ("Unmodified", "Modified"),
        "new file": ("Untracked", "Untracked"),
    }
    assert [each.extra for each in status.file_status if each.name == "first"] == ["one"]


async def test_what_is_no_repository_is_refused(sandbox: AsyncSandbox, home: Path) -> None:
    with pytest.raises(DaytonaError) as caught:
        await sandbox.git.clone(url=str(home / "missing"), path="copy")
    assert (caught.value.status_code, caught.value.code) == (404, "GIT_REPO_NOT_FOUND")
    with pytest.raises(DaytonaError):
        await sandbox.git.status("missing")
