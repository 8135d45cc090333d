"""The files API of the conformance server's toolbox answers as the daemon does."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaNotFoundError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daytona import AsyncSandbox


async def test_a_folder_is_listed_with_what_each_entry_is(
    sandbox: AsyncSandbox, home: Path
) -> None:
    (home / "folder").mkdir(mode=0o755)
    (home / "file").write_text("seven!!")
    (home / "file").chmod(0o640)
    file, folder = await sandbox.fs.list_files(".")
    assert (file.name, file.is_dir, file.size) == ("file", False, 7)
    assert (file.mode, file.permissions) == ("-rw-r-----", "0640")
    assert (folder.name, folder.is_dir, folder.permissions) == ("folder", True, "0755")
    assert file.path is None
    assert file.modified_at is not None
    assert datetime.fromisoformat(file.modified_at).timestamp() == pytest.approx(
        (home / "file").stat().st_mtime
    )


async def test_a_listing_with_a_depth_has_paths_and_goes_so_deep(
    sandbox: AsyncSandbox, home: Path
) -> None:
    (home / "a" / "b" / "c").mkdir(parents=True)
    found = await sandbox.fs.list_files("a", depth=1)
    assert [each.path for each in found] == ["a/b"]
    found = await sandbox.fs.list_files(str(home), depth=3)
    assert [each.path for each in found] == [f"{home}/a", f"{home}/a/b", f"{home}/a/b/c"]


async def test_a_link_is_what_it_leads_to_and_one_to_nowhere_is_not_there(
    sandbox: AsyncSandbox, home: Path
) -> None:
    (home / "file").write_text("1234")
    (home / "link").symlink_to("file")
    (home / "lost").symlink_to("nothing")
    assert [(each.name, each.size) for each in await sandbox.fs.list_files("")] == [
        ("file", 4),
        ("link", 4),
    ]
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.fs.get_file_info("lost")


async def test_what_is_missing_is_not_found_by_code(sandbox: AsyncSandbox) -> None:
    with pytest.raises(DaytonaNotFoundError) as caught:
        await sandbox.fs.get_file_info("missing")
    assert (caught.value.code, caught.value.source) == ("FILE_NOT_FOUND", "DAYTONA_DAEMON")
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.fs.list_files("missing")
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.fs.delete_file("missing")


async def test_folders_are_made_with_their_parents_and_mode(
    sandbox: AsyncSandbox, home: Path
) -> None:
    await sandbox.fs.create_folder("deep/er", "700")
    await sandbox.fs.create_folder("deep/er", "700")
    assert (home / "deep" / "er").stat().st_mode & 0o777 == 0o700


async def test_a_folder_is_deleted_only_with_all_that_is_in_it(
    sandbox: AsyncSandbox, home: Path
) -> None:
    (home / "folder").mkdir()
    (home / "folder" / "file").touch()
    with pytest.raises(DaytonaBadRequestError):
        await sandbox.fs.delete_file("folder")
    await sandbox.fs.delete_file("folder", recursive=True)
    assert not (home / "folder").exists()


async def test_moving_renames_and_never_replaces(sandbox: AsyncSandbox, home: Path) -> None:
    (home / "one").write_text("one")
    (home / "two").write_text("two")
    with pytest.raises(DaytonaConflictError):
        await sandbox.fs.move_files("one", "two")
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.fs.move_files("one", "no/such/folder")
    await sandbox.fs.move_files("one", "three")
    assert (home / "three").read_text() == "one"


async def test_permissions_are_set(sandbox: AsyncSandbox, home: Path) -> None:
    (home / "file").touch()
    await sandbox.fs.set_file_permissions("file", mode="600")
    assert (home / "file").stat().st_mode & 0o777 == 0o600
    with pytest.raises(DaytonaBadRequestError):
        await sandbox.fs.set_file_permissions("file", owner="nobody-of-this-name")


async def test_find_looks_for_text_as_it_is_written_and_not_in_binary_files(
    sandbox: AsyncSandbox, home: Path
) -> None:
    (home / "text").write_text("no\na.b here\n")
    (home / "near").write_text("axb\n")
    (home / "binary").write_bytes(b"\0 a.b\n")
    [match] = await sandbox.fs.find_files(".", "a.b")
    assert (match.file, match.line, match.content) == ("text", 2, "a.b here")


async def test_search_matches_paths_below_the_folder(sandbox: AsyncSandbox, home: Path) -> None:
    (home / "deep").mkdir()
    (home / "top.py").touch()
    (home / "deep" / "low.py").touch()
    assert (await sandbox.fs.search_files(".", "*.py")).files == ["top.py"]
    assert (await sandbox.fs.search_files(".", "**/*.py")).files == ["top.py", "deep/low.py"]


async def test_replace_tells_of_each_file_how_it_went(sandbox: AsyncSandbox, home: Path) -> None:
    (home / "file").write_text("old and old")
    done, missing = await sandbox.fs.replace_in_files(["file", "missing"], "old", "new")
    assert (home / "file").read_text() == "new and new"
    assert (done.file, done.success) == ("file", True)
    assert (missing.success, "No such file" in (missing.error or "")) == (False, True)
