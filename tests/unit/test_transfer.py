"""What comes from a sandbox is ended with the download that takes it."""

from __future__ import annotations

import asyncio
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import tar
from paddock.backends.transfer import PIECE, extract_stream, receive_file
from paddock.transfers import Tree

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


class Stream:
    """An endless download of one large file, as it is or in an archive."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = False

    async def pieces(self, first: bytes = b"") -> AsyncGenerator[bytes]:
        try:
            yield first + bytes(PIECE)
            while True:
                self.begun.set()  # the taker goes on first, until it waits for a thread
                yield bytes(PIECE)
        finally:
            self.ended = True


@pytest.mark.parametrize("archived", [False, True], ids=["file", "tree"])
async def test_a_cancelled_download_ends_what_it_took_from(tmp_path: Path, archived: bool) -> None:
    stream = Stream()
    if archived:
        member = tar.Member("large", tar.FILE, mode=0o600, mtime=0, size=2**34)
        pieces = stream.pieces(tar.header(member))
        taking = extract_stream(pieces, tmp_path / "got", PurePosixPath("/large"), Tree())
    else:
        pieces = stream.pieces()
        taking = receive_file(pieces, tmp_path / "got")
    task = asyncio.create_task(taking)
    async with asyncio.timeout(60):
        await stream.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert stream.ended
    assert os.listdir(tmp_path) == []
