"""Files that are read and written by pieces, and what else changes files in one step."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance.base import Conformance, needs

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


class FileStreamTests(Conformance):
    async def test_what_is_written_by_pieces_is_read_by_pieces(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        data = os.urandom(3_000_001)
        async with fs.open_write("new/big") as file:
            for start in range(0, len(data), 700_000):
                await file.write(data[start : start + 700_000])
        async with fs.open_read("new/big") as reader:
            assert b"".join([piece async for piece in reader]) == data
        async with fs.open_read("new/big", offset=2_000_000) as reader:
            assert await reader.read(10) == data[2_000_000:2_000_010]
            assert await reader.read(0) == b""
            assert await reader.read(10**9) == data[2_000_010:]
            assert await reader.read(1) == b""
        async with fs.open_read("new/big", offset=10**9) as reader:
            assert [piece async for piece in reader] == []
        async with fs.open_write("empty"):
            pass
        assert await fs.read_bytes("empty") == b""
        with pytest.raises(ValueError, match="closed"):
            await file.write(b"x")

    async def test_a_tree_is_one_stream_that_any_tar_reads(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await fs.write_text("tree/below/file", "text")
        await fs.write_bytes("tree/big", bytes(3_000_000))
        async with fs.open_archive("tree") as archive:
            packed = b"".join([piece async for piece in archive])
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            found = {member.name.removeprefix("./"): member for member in tar}
            assert {"below", "below/file", "big"} <= found.keys()
            assert {name.partition("/")[0] for name in found} <= {"below", "big", "."}
            assert found["big"].size == 3_000_000
            text = tar.extractfile(found["below/file"])
            assert text is not None
            assert text.read() == b"text"
        async with fs.open_archive("tree") as archive:
            assert await archive.read(10)  # and no more: the rest is not sent
        with pytest.raises(NotADirectoryError):
            async with fs.open_archive("tree/big"):
                pass
        with pytest.raises(FileNotFoundError):
            async with fs.open_archive("missing"):
                pass

    async def test_nothing_is_seen_of_a_write_that_does_not_end(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await fs.write_text("kept", "old")
        for options in ({}, {"append": True}):
            with pytest.raises(ZeroDivisionError):
                async with fs.open_write("kept", **options) as file:
                    await file.write(bytes(500_000))
                    assert await fs.read_text("kept") == "old"
                    raise ZeroDivisionError
            assert await fs.read_text("kept") == "old"
        started = asyncio.Event()

        async def write() -> None:
            async with fs.open_write("never") as file:
                await file.write(b"half")
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(write())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await sandbox.exec("ls -A")).stdout == "kept\n"

    @needs("shell")
    async def test_a_reader_that_stops_holds_the_sender_up(
        self,
        sandbox: Sandbox,
    ) -> None:
        await sandbox.exec("truncate -s 1T sparse", check=True)
        async with sandbox.fs.open_read("sparse") as reader:
            assert len(await reader.read(3_000_000)) == 3_000_000
        async with sandbox.fs.open_read("sparse", offset=2**40 - 5) as reader:
            assert b"".join([piece async for piece in reader]) == bytes(5)

    async def test_conditions_hold_for_writes_by_pieces(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await fs.write_text("there", "old")
        entered = False
        with pytest.raises(FileExistsError):
            async with fs.open_write("there", exclusive=True):
                entered = True
        assert not entered
        async with fs.open_write("new", exclusive=True) as file:
            await file.write(b"mine")
        async with fs.open_write("there", append=True) as file:
            await file.write(b" and")
            await file.write(b" new")
        assert (await fs.read_text("there"), await fs.read_text("new")) == ("old and new", "mine")

    async def test_appending_adds_all_or_nothing(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await fs.append("d/log", "one\n")
        await fs.append("d/log", b"two\n")
        assert await fs.read_text("d/log") == "one\ntwo\n"
        much = os.urandom(1_500_000)
        await fs.append("d/log", much)
        assert (await fs.read_bytes("d/log"))[8:] == much
        await asyncio.gather(*(fs.append("lines", f"{number:05d}\n") for number in range(20)))
        assert sorted((await fs.read_text("lines")).split()) == [f"{n:05d}" for n in range(20)]

    @needs("shell")
    async def test_a_write_keeps_mode_and_hard_links(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await sandbox.exec("printf old > f; chmod 640 f; ln f hard; printf x > g; chmod 710 g")
        await fs.write_text("f", "new")
        await fs.write_bytes("hard", bytes(1_500_000))
        async with fs.open_write("f") as file:
            await file.write(b"last")
        assert await fs.read_text("hard") == "last"
        await fs.copy("g", "f")
        assert await fs.read_text("hard") == "x"
        await fs.copy("g", "copy")
        told = await sandbox.exec("stat -c '%a %h' f g copy; ls -A")
        assert told.stdout.split() == ["640", "2", "710", "1", "710", "1", "copy", "f", "g", "hard"]

    @needs("shell")
    async def test_entries_tell_their_kind_mode_and_owner(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await sandbox.exec("echo > f; ln -s f link", check=True)
        await fs.chmod("link", 0o751)
        info, link = await fs.stat("link"), await fs.lstat("link")
        assert (info.kind, info.mode, link.kind, link.size) == ("file", 0o751, "symlink", 1)
        ids = (await sandbox.exec("stat -c '%u %g' f")).stdout.split()
        assert [str(info.uid), str(info.gid)] == ids
        await fs.mkdir("d")
        await fs.chmod("d", 0o1755)
        await fs.chmod("d", 0o700)
        assert (await fs.stat("d")).mode == 0o700
