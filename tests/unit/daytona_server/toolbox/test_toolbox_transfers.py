"""Files go in and out of the conformance server's toolbox as streams, byte for byte."""

from __future__ import annotations

import asyncio
import io
import resource
from typing import TYPE_CHECKING

import aiohttp
import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    DaytonaError,
    DaytonaNotFoundError,
    FileDownloadRequest,
    FileUpload,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daytona import AsyncSandbox

MIB = 1 << 20
LARGE = 256
"""MiB of a file that must not be held in memory."""
ROOM = 64
"""MiB by which the memory of client and server together may grow meanwhile."""
EVERY_BYTE = bytes(range(256)) * 16


async def test_an_uploaded_file_comes_back_byte_for_byte(sandbox: AsyncSandbox, home: Path) -> None:
    await sandbox.fs.upload_file(EVERY_BYTE, 'new/folders/größe "x".bin')
    assert (home / "new" / "folders" / 'größe "x".bin').read_bytes() == EVERY_BYTE
    assert await sandbox.fs.download_file('new/folders/größe "x".bin') == EVERY_BYTE


async def test_many_files_go_in_one_request_and_come_back_in_one(sandbox: AsyncSandbox) -> None:
    files = {f"many/{number}": str(number).encode() for number in range(100)}
    await sandbox.fs.upload_files(
        [FileUpload(source=content, destination=path) for path, content in files.items()]
    )
    found = await sandbox.fs.download_files([FileDownloadRequest(source=path) for path in files])
    assert {each.source: each.result for each in found} == files


async def test_a_missing_file_is_an_error_of_its_own_among_others(sandbox: AsyncSandbox) -> None:
    await sandbox.fs.upload_file(b"here", "here")
    missing, here, folder = await sandbox.fs.download_files(
        [FileDownloadRequest(source=path) for path in ("missing", "here", ".")]
    )
    assert here.result == b"here"
    assert missing.error_details is not None
    assert folder.error_details is not None
    assert missing.error_details.error_code == "FILE_NOT_FOUND"
    assert folder.error_details.error_code == "INVALID_FILE_PATH"

    with pytest.raises(DaytonaNotFoundError):
        await sandbox.fs.download_file("missing")


async def test_an_upload_that_cannot_be_stored_is_told_by_its_text(sandbox: AsyncSandbox) -> None:
    await sandbox.fs.upload_file(b"", "file")
    with pytest.raises(DaytonaError, match="400: file/below: File exists") as caught:
        await sandbox.fs.upload_file(b"", "file/below")
    assert caught.value.status_code == 400


async def test_an_upload_replaces_what_was_there(sandbox: AsyncSandbox, home: Path) -> None:
    await sandbox.fs.upload_file(b"longer than the other", "file")
    await sandbox.fs.upload_file(b"short", "file")
    assert (home / "file").read_bytes() == b"short"


async def test_an_absolute_path_is_taken_as_it_is(sandbox: AsyncSandbox, tmp_path: Path) -> None:
    await sandbox.fs.upload_file(b"there", str(tmp_path / "outside"))
    assert (tmp_path / "outside").read_bytes() == b"there"


async def test_a_large_file_streams_both_ways_in_bounded_memory(sandbox: AsyncSandbox) -> None:
    block = bytes(MIB)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(LARGE):
            yield block

    before = _peak()
    async with asyncio.timeout(60):
        await sandbox.fs.upload_file_stream(blocks(), "large")
        size = 0
        async for chunk in await sandbox.fs.download_file_stream("large"):
            size += len(chunk)
    assert size == LARGE * MIB
    assert _peak() - before < ROOM


async def test_one_file_goes_in_and_out_by_an_address_of_its_own(
    sandbox: AsyncSandbox, address: str, home: Path
) -> None:
    where = f"http://{address}/toolbox/box/files"
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(EVERY_BYTE), filename="any")
    async with aiohttp.ClientSession() as client:
        async with client.post(f"{where}/upload-v2", params={"path": "one"}, data=form) as answer:
            assert answer.status == 200
        assert (home / "one").read_bytes() == EVERY_BYTE
        async with client.get(f"{where}/download", params={"path": "one"}) as answer:
            assert await answer.read() == EVERY_BYTE
        async with client.get(f"{where}/download", params={"path": "missing"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "FILE_NOT_FOUND")


def _peak() -> float:
    """The most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
