"""Owners of files, and calls with the rights of another user, where a sandbox has users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.sandbox import Sandbox


async def test_calls_as_another_user_have_that_users_rights(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    if Capability.USER not in sandbox.capabilities:
        with pytest.raises(Unsupported, match="as_user"):
            sandbox.fs.as_user("nobody")
        return
    fs = sandbox.fs.as_user("nobody")
    await sandbox.exec("mkdir theirs; chown nobody theirs; echo mine > mine; chmod 600 mine")
    await fs.write_text("theirs/a", "one\n")
    await fs.append("theirs/a", "needle\n")
    await fs.write_bytes("theirs/big", bytes(1_500_000))
    async with fs.open_write("theirs/b") as file:
        await file.write(b"by pieces")
    await fs.copy("theirs/a", "theirs/c")
    await fs.mkdir("theirs/d")
    (tmp_path / "up").write_text("sent")
    await fs.upload(tmp_path / "up", "theirs/e")
    owners = await sandbox.exec("stat -c %U theirs/*")
    assert owners.stdout == "nobody\n" * 6
    assert await fs.read_text("theirs/a") == "one\nneedle\n"
    assert await fs.read_bytes("theirs/big", offset=1_499_999) == b"\0"
    assert [line.line for line in (await fs.grep("needle", "theirs/a")).lines] == [2]
    assert len(await fs.list("theirs")) == 6
    for call in (
        fs.read_bytes("mine"),
        fs.read_lines("mine"),
        fs.write_bytes("mine", b"x"),
        fs.append("mine", b"x"),
        fs.write_bytes("new", b"x"),
        fs.write_bytes("new", bytes(1_500_000)),
        fs.copy("mine", "theirs/f"),
        fs.chmod("mine", 0o666),
        fs.remove("mine"),
        fs.download(sandbox.path("mine"), tmp_path / "down"),
    ):
        with pytest.raises(PermissionError):
            await call
    assert await sandbox.fs.read_text("mine") == "mine\n"
    with pytest.raises(FileNotFoundError):
        await fs.stat("absent")


async def test_a_user_that_there_is_not_is_named(sandbox: Sandbox) -> None:
    if Capability.USER not in sandbox.capabilities:
        with pytest.raises(ConfigError, match="user=''"):
            sandbox.fs.as_user("")
        return
    await sandbox.fs.write_text("f", "x")
    ghost = sandbox.fs.as_user("ghost")
    for call in (
        ghost.read_text("f"),
        ghost.read_lines("f"),
        ghost.write_text("g", "x"),
        ghost.list(),
        sandbox.fs.chown("f", "ghost"),
        sandbox.fs.chown("f", group="ghost"),
        sandbox.exec("true", user="ghost"),
    ):
        with pytest.raises(ConfigError, match="ghost"):
            await call


async def test_writes_keep_owner_mode_and_links(sandbox: Sandbox) -> None:
    if Capability.USER not in sandbox.capabilities:
        with pytest.raises(ConfigError, match="chown: give a user"):
            await sandbox.fs.chown("f")
        return
    fs = sandbox.fs
    await fs.write_text("f", "1")
    await fs.chmod("f", 0o640)
    await fs.chown("f", "nobody", "nogroup")
    await fs.write_text("f", "2")
    await sandbox.exec("ln f hard", check=True)
    await fs.write_text("f", "3")
    assert (await sandbox.exec("stat -c '%U:%G %a %h' f; cat hard")).stdout == (
        "nobody:nogroup 640 2\n3"
    )
    await fs.chown("f", group=0)
    await fs.chown("hard", 1)
    info = await fs.stat("f")
    assert (info.uid, info.gid) == (1, 0)
    with pytest.raises(FileNotFoundError):
        await fs.chown("absent", 0)
