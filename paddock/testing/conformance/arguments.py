"""Arguments that make no sense are refused with the same words on every backend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ExecTimeout
from paddock.testing.conformance.base import Conformance

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


class ArgumentTests(Conformance):
    async def test_what_makes_no_sense_is_a_config_error_and_harms_nothing(
        self, sandbox: Sandbox
    ) -> None:
        fs = sandbox.fs
        process = await sandbox.start("read line")
        refused: list[tuple[str, Any]] = [
            (
                "env: the value of 'A' is of type int; give text (str)",
                sandbox.exec("x", env={"A": 1}),  # type: ignore[dict-item]
            ),
            ("command[1]=1: give text (str)", sandbox.exec(["echo", 1])),  # type: ignore[list-item]
            ("max_output=-5: give a whole number, 0 or more", sandbox.exec("x", max_output=-5)),
            (
                "timeout=nan: give a number of seconds, 0 or more, or None for no limit",
                sandbox.exec("x", timeout=math.nan),
            ),
            ("cwd='': give a path; '.' is the working directory", sandbox.start("x", cwd="")),
            ("offset=-1: give a whole number, 0 or more", fs.read_bytes("/etc/passwd", offset=-1)),
            ("start=0: give a whole number, 1 or more", fs.read_lines("/etc/passwd", start=0)),
            ("path='a\\x00b': give a path without NUL", fs.write_bytes("a\0b", b"")),
            ("signal number=99999: give a whole number, 1 to 64", process.signal(99999)),
            ("grace=-1: give a number of seconds, 0 or more", process.kill(grace=-1)),
        ]
        for message, call in refused:
            with pytest.raises(ConfigError) as caught:
                await call
            assert str(caught.value) == message
        await process.send(b"on\n")
        assert (await process.wait()).ok

    async def test_nothing_is_what_0_asks_for(self, sandbox: Sandbox) -> None:
        with pytest.raises(ExecTimeout):
            await sandbox.exec("touch started", timeout=0)
        await sandbox.fs.write_text("f", "needle\nneedle\n")
        assert (await sandbox.exec("printf 12345; printf 1 >&2", max_output=0)).out.dropped == 5
        assert await sandbox.fs.read_bytes("f", limit=0) == b""
        assert await sandbox.fs.read_bytes("f", offset=7, limit=0) == b""
        lines = await sandbox.fs.read_lines("f", limit=0)
        assert (lines.lines, lines.total) == ((), 2)
        assert await sandbox.fs.list(limit=0) == []
        globbed = await sandbox.fs.glob("*", limit=0)
        assert (globbed.paths, globbed.total) == ((), 1)
        found = await sandbox.fs.grep("needle", limit=0)
        assert (found.lines, found.truncated) == ((), True)
        assert (await sandbox.fs.grep("absent", limit=0)).truncated is False
        with pytest.raises(FileNotFoundError):
            await sandbox.fs.read_bytes("started", limit=0)
