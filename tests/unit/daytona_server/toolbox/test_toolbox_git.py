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
    assert caught.value.status_code == 500
    with pytest.raises(DaytonaError) as caught:
        await sandbox.git.status("missing")
    assert (caught.value.status_code, caught.value.code) == (404, "GIT_REPO_NOT_FOUND")


async def test_a_repository_is_made_changed_and_published(
    sandbox: AsyncSandbox, home: Path
) -> None:
    git = sandbox.git
    await git.init("work", initial_branch="main")
    await git.init("shared.git", bare=True)
    await sandbox.fs.upload_file(b"one", "work/a")
    await git.add("work", ["a"])
    commit = await git.commit("work", "First\n\nbody", "Who", "who@example.invalid")
    (known,) = await git._api_client.get_commit_history("work")
    assert (known.hash, known.author, known.message) == (commit.sha, "Who", "First\n\nbody")
    await git.create_branch("work", "feature")
    assert (await git.branches("work")).current == "feature"
    with pytest.raises(DaytonaError) as caught:
        await git.create_branch("work", "feature")
    assert caught.value.code == "GIT_BRANCH_EXISTS"
    await git.checkout_branch("work", "main")
    with pytest.raises(DaytonaError) as caught:
        await git.checkout_branch("work", "missing")
    assert caught.value.code == "GIT_BRANCH_NOT_FOUND"
    await git.delete_branch("work", "feature")
    assert (await git.branches("work")).branches == ["main"]
    await git.remote_add("work", "origin", str(home / "shared.git"))
    await git.push("work")
    await git.clone(str(home / "shared.git"), "other", branch="main")
    await sandbox.fs.upload_file(b"two", "other/b")
    await git.add("other", ["."])
    await git.commit("other", "Second", "Who", "who@example.invalid")
    await git.push("other")
    await git.pull("work")
    assert await sandbox.fs.download_file("work/b") == b"two"
    await sandbox.fs.upload_file(b"three", "work/a")
    await git.add("work", ["a"])
    await git.restore("work", ["a"], staged=True, worktree=True)
    assert await sandbox.fs.download_file("work/a") == b"one"
    await git.reset("work", mode="hard", target="HEAD~1")
    assert not [each.name for each in await sandbox.fs.list_files("work") if each.name == "b"]


async def test_settings_are_kept_where_they_are_said(sandbox: AsyncSandbox) -> None:
    await sandbox.git.configure_user("Who", "who@example.invalid")
    assert await sandbox.git.get_config("user.name") == "Who"
    assert await sandbox.git.get_config("user.missing") is None
    await sandbox.git.init("work")
    await sandbox.git.set_config("user.name", "Other", path="work", scope="local")
    assert await sandbox.git.get_config("user.name", path="work", scope="local") == "Other"
