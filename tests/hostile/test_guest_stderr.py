"""A guest that was taken over writes to its stderr whatever it likes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from paddock import LocalBackend
from paddock.backends.guest.stderr import TAIL_BYTES, GuestStderr, printable
from paddock.backends.local import probe
from paddock.backends.local.sandbox import LocalSandbox
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from tests.conftest import Require

BYTES = 50_000_000


async def test_only_the_end_is_kept() -> None:
    stderr, writer = await GuestStderr.open()

    def flood() -> None:
        for _ in range(BYTES // 100_000):
            os.write(writer, b"A" * 100_000)
        os.write(writer, b"\x1b]0;title\x07the end\n")
        os.close(writer)

    flooding = asyncio.create_task(asyncio.to_thread(flood))
    await flooding
    words = await stderr.last_words()
    assert len(words) < 2 * TAIL_BYTES
    assert words.endswith("A\\x1b]0;title\\x07the end")
    stderr.close()


async def test_a_process_that_holds_it_open_does_not_hold_up_the_reason() -> None:
    stderr, writer = await GuestStderr.open()
    try:
        os.write(writer, b"words")
        assert (await stderr.last_words()) in ("", "words")
    finally:
        os.close(writer)
        stderr.close()


def test_what_a_terminal_obeys_is_shown() -> None:
    hostile = b"\x1b[2Ja\rb\x00c\xffd\n\te \xe2\x80\xae \xc2\x9b31m"
    shown = printable(hostile)
    assert "\\x1b[2Ja\\x0db\\x00c\ufffdd\n\te" in shown
    assert not set("\x1b\r\0\u202e\x9b") & set(shown)


async def test_nothing_that_a_guest_says_is_on_the_disk(require: Require) -> None:
    found = await probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    async with LocalBackend(isolation="bubblewrap").sandbox() as sandbox:
        assert isinstance(sandbox, LocalSandbox)
        names = await asyncio.to_thread(os.listdir, sandbox._directory.path)
        assert not [name for name in names if "log" in name]
        sandbox._process.kill()
        with pytest.raises(SandboxLost, match="signal 9"):
            await sandbox.exec("sleep 100")
