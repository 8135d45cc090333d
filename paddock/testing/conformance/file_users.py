"""Owners of files, and calls with the rights of another user, where a sandbox has users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError, Unsupported
from paddock.sandbox import Capability
from paddock.testing.conformance.base import Conformance

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.files import FileSystem
    from paddock.sandbox import Sandbox


async def _use(sandbox: Sandbox, fs: FileSystem, top: str, tmp_path: Path) -> None:
    await fs.write_text(f"{top}/theirs/a", "one\n")
    await fs.append(f"{top}/theirs/a", "needle\n")
    await fs.write_bytes(f"{top}/theirs/big", bytes(1_500_000))
    async with fs.open_write(f"{top}/theirs/b") as file:
        await file.write(b"by pieces")
    await fs.copy(f"{top}/theirs/a", f"{top}/theirs/c")
    await fs.mkdir(f"{top}/theirs/d")
    (tmp_path / "up").write_text("sent")
    await fs.upload(tmp_path / "up", f"{top}/theirs/e")
    owners = await sandbox.exec(f"stat -c %U {top}/theirs/*")
    assert owners.stdout == "nobody\n" * 6
    assert await fs.read_text(f"{top}/theirs/a") == "one\nneedle\n"
    assert await fs.read_bytes(f"{top}/theirs/big", offset=1_499_999) == b"\0"
    assert [line.line for line in (await fs.grep("needle", f"{top}/theirs/a")).lines] == [2]
    assert len(await fs.list(f"{top}/theirs")) == 6
    for call in (
        fs.read_bytes(f"{top}/mine"),
        fs.read_lines(f"{top}/mine"),
        fs.write_bytes(f"{top}/mine", b"x"),
        fs.append(f"{top}/mine", b"x"),
        fs.write_bytes(f"{top}/new", b"x"),
        fs.write_bytes(f"{top}/new", bytes(1_500_000)),
        fs.copy(f"{top}/mine", f"{top}/theirs/f"),
        fs.chmod(f"{top}/mine", 0o666),
        fs.remove(f"{top}/mine"),
        fs.download(f"{top}/mine", tmp_path / "down"),
    ):
        with pytest.raises(PermissionError):
            await call
    assert await sandbox.fs.read_text(f"{top}/mine") == "mine\n"
    with pytest.raises(FileNotFoundError):
        await fs.stat(f"{top}/absent")


class FileUserTests(Conformance):
    async def test_calls_as_another_user_have_that_users_rights(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        if Capability.USER not in sandbox.capabilities:
            with pytest.raises(Unsupported, match="as_user"):
                sandbox.fs.as_user("nobody")
            return
        imported = await sandbox.exec("python3 -c 'import base64'", user="nobody")
        if not imported.ok:
            pytest.skip("the sandbox's Python is closed to other users")
        # Not every user may pass through the working directory.
        made = await sandbox.exec("mktemp -d /tmp/users-XXXXXX", check=True)
        top = made.stdout.strip()
        prepare = "chmod 755 .; mkdir theirs; chown nobody theirs; echo mine > mine; chmod 600 mine"
        await sandbox.exec(prepare, cwd=top, check=True)
        try:
            await _use(sandbox, sandbox.fs.as_user("nobody"), top, tmp_path)
        finally:
            await sandbox.fs.remove(top, recursive=True)

    async def test_a_user_that_there_is_not_is_named(self, sandbox: Sandbox) -> None:
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

    async def test_writes_keep_owner_mode_and_links(self, sandbox: Sandbox) -> None:
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
