"""`LocalBackend(dirs=...)`: more directories of this machine that commands may write to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, IsolationUnavailable, LocalBackend
from paddock.backends import lease
from paddock.backends.guest.inside import landlock
from paddock.backends.isolation.dirs import checked_dirs
from paddock.backends.local import probe
from paddock.testing.conformance.watch import make_passable

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.isolation.levels import Isolation
    from tests.conftest import Require

OWNER = 1234
"""Whose a directory is that root's sandbox under Landlock may write to."""


@pytest.fixture(params=["bubblewrap", "landlock", "none"])
async def level(request: pytest.FixtureRequest, tmp_path: Path, require: Require) -> Isolation:
    make_passable(tmp_path)
    if request.param == "bubblewrap":
        found = await probe()
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    if request.param == "landlock":
        require("landlock", landlock.abi() > 0, "the kernel has no Landlock")
    level: Isolation = request.param
    return level


def _made(path: Path, level: Isolation) -> Path:
    path.mkdir(mode=0o755)
    if level == "landlock" and os.getuid() == 0:
        os.chown(path, OWNER, OWNER)
    return path


async def test_commands_write_to_directories_that_are_given(
    level: Isolation, tmp_path: Path
) -> None:
    first, second = _made(tmp_path / "first", level), _made(tmp_path / "second dir", level)
    owner = first.stat().st_uid
    backend = LocalBackend(isolation=level, dirs=[str(second), f"{first}/", str(first)])
    async with backend.sandbox() as sandbox:
        (first / "here").write_text("from here\n")
        assert (await sandbox.exec(["cat", f"{first}/here"])).stdout == "from here\n"
        await sandbox.fs.write_text(f"{second}/there", "from there\n")
        await sandbox.exec(["mkdir", f"{first}/made"], check=True)
        if level != "none":  # with bubblewrap it lands in the sandbox's own /tmp
            await sandbox.exec(["touch", str(tmp_path / "beside")])
    assert (second / "there").read_text() == "from there\n"
    assert {path.stat().st_uid for path in (first / "made", second / "there")} == {owner}
    assert not (tmp_path / "beside").exists()


async def test_a_directory_that_is_missing_or_holds_our_records_is_refused(
    level: Isolation, tmp_path: Path
) -> None:
    missing = LocalBackend(isolation=level, dirs=[str(tmp_path / "missing")])
    with pytest.raises(ConfigError, match="is no directory of this machine"):
        await missing.create()
    if level != "none":
        records = LocalBackend(isolation=level, dirs=[str(lease.base_directory())])
        with pytest.raises(ConfigError, match=r"dirs=.* contains Paddock's own records"):
            await records.create()


async def test_root_under_landlock_writes_to_no_directory_of_its_own(
    tmp_path: Path, require: Require
) -> None:
    require("landlock", landlock.abi() > 0, "the kernel has no Landlock")
    require("root", os.getuid() == 0, "an ordinary user works as itself")
    make_passable(tmp_path)
    ours, theirs = tmp_path / "ours", _made(tmp_path / "theirs", "landlock")
    ours.mkdir()
    with pytest.raises(IsolationUnavailable, match="is root's"):
        await LocalBackend(isolation="landlock", dirs=[str(ours)]).create()
    os.chown(ours, OWNER + 1, OWNER + 1)
    with pytest.raises(IsolationUnavailable, match="is another user's"):
        await LocalBackend(isolation="landlock", dirs=[str(ours), str(theirs)]).create()


@pytest.mark.parametrize(
    "dirs",
    ["/data", None, ["data"], [""], ["a\0b"], ["/"], ["/usr/local"], ["/etc"], ["/run"], [5]],
)
def test_what_is_no_list_of_directories_is_a_config_error(dirs: Any) -> None:
    with pytest.raises(ConfigError, match="dirs"):
        LocalBackend(dirs=dirs)


def test_directories_are_named_once_and_the_outer_one_first() -> None:
    assert checked_dirs(["/data/b/", "/data", "/data/./b", "/a"]) == ("/a", "/data", "/data/b")
