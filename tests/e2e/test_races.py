"""What a hostile sandbox or a thread's end could slip between two steps of ours.

Rows C4 and C20 of the reliability document.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import LocalBackend
from paddock.backends import local
from paddock.backends.guest.inside import archive, extraction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from paddock import Sandbox
    from paddock.backends.isolation.levels import Isolation

SECONDS = 3.0
MANY = 10
"""Times that something is tried at least, however busy the machine is."""
CANARY = "canary-of-the-host"
SWAP = """
import os, sys
secret = sys.argv[1]
os.makedirs("tree/real"); open("tree/real/file", "w").write("mine")
os.symlink(secret, "tree/trap")
print("ready", flush=True)
while True:
    for name in ("real", "trap"):
        os.rename("tree/" + name, "tree/sub")
        os.rename("tree/sub", "tree/" + name)
"""


async def _require_bubblewrap(require: Callable[[str, bool, str], None]) -> None:
    found = await local.probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)


@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
@pytest.mark.rows("C4")
async def test_a_sandbox_outlives_the_threads_that_end_beside_its_loop(
    isolation: Isolation, require: Callable[[str, bool, str], None]
) -> None:
    """bubblewrap ends with the thread that started it, so that has to be the loop's own."""
    if isolation == "bubblewrap":
        await _require_bubblewrap(require)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(4) as pool:
        loop.set_default_executor(pool)
        sandbox = await LocalBackend(isolation=isolation).create()
        loop.set_default_executor(ThreadPoolExecutor(1))
        used = tuple(pool._threads)
    assert used
    assert not any(thread.is_alive() for thread in used)
    async with sandbox:
        await asyncio.sleep(0.7)
        assert (await sandbox.exec("echo lives")).stdout == "lives\n"


@pytest.mark.rows("C4")
def test_a_sandbox_of_a_loop_in_a_thread_lives_as_long_as_the_loop() -> None:
    async def use() -> str:
        async with LocalBackend().sandbox() as sandbox:
            await asyncio.to_thread(threading.Event().wait, 0.6)
            return (await sandbox.exec("echo lives")).stdout

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, use()).result() == "lives\n"


@pytest.mark.rows("C20")
async def test_names_swapped_under_a_download_never_lead_to_the_host(
    require: Callable[[str, bool, str], None], tmp_path: Path
) -> None:
    await _require_bubblewrap(require)
    with tempfile.TemporaryDirectory(prefix="paddock-race-", dir=Path.home()) as name:
        _write(Path(name, "file"), CANARY)
        async with LocalBackend(isolation="bubblewrap").sandbox() as sandbox:
            swapping = await sandbox.start(["python3", "-c", SWAP, name])
            async with swapping:
                await anext(aiter(swapping.output()))
                await _attempt(sandbox, tmp_path)
        assert _read(Path(name, "file")) == CANARY
        assert os.listdir(name) == ["file"]


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _read(path: Path) -> str:
    return path.read_text()


async def _attempt(sandbox: Sandbox, target: Path) -> None:
    """Read, write and download through the name that is swapped, again and again."""
    fs = sandbox.fs
    attempts, end = 0, time.monotonic() + SECONDS
    while attempts < MANY or time.monotonic() < end:
        attempts += 1
        actions: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: fs.read_bytes("tree/sub/file"),
            lambda: fs.write_text("tree/sub/file", "theirs"),
            lambda: fs.download("tree", target / "down"),
            lambda: fs.download_file("tree/sub/file", target / "one"),
        )
        for action in actions:
            with contextlib.suppress(OSError, ValueError):
                assert await action() != CANARY.encode()
        for path in (target / "one", target / "down" / "sub" / "file"):
            if path.is_file():
                assert CANARY not in path.read_text()


@contextlib.contextmanager
def _swapped_directory(top: Path) -> Iterator[tuple[Path, Path]]:
    """A tree where `sub` is by turns a directory and a link to the second that is returned.

    As a sandbox can make it that works in place there.
    """
    tree, outside = top / "tree", top / "outside"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("mine")
    outside.mkdir()
    (outside / "file").write_text(CANARY)
    (tree / "trap").symlink_to(outside)
    with subprocess.Popen([sys.executable, "-c", SWAPPING], cwd=tree) as swapping:
        try:
            yield tree, outside
            assert swapping.poll() is None
        finally:
            swapping.kill()


@pytest.mark.rows("C20")
def test_a_directory_swapped_under_an_upload_never_leads_out_of_the_tree(tmp_path: Path) -> None:
    packed = 0
    with _swapped_directory(tmp_path) as (tree, _):
        end = time.monotonic() + SECONDS
        while packed < MANY or time.monotonic() < end:
            with contextlib.suppress(OSError):
                packed += 1
                assert CANARY.encode() not in b"".join(archive.tar_blocks(str(tree)))


@pytest.mark.rows("C20")
def test_a_directory_swapped_under_a_download_never_leads_out_of_the_tree(tmp_path: Path) -> None:
    source = tmp_path / "source" / "sub"
    source.mkdir(parents=True)
    for number in range(50):  # the more, the longer is the time to be led astray
        (source / f"file{number}").write_text("downloaded")
    stream = b"".join(archive.tar_blocks(str(source.parent)))
    arrived = 0
    with _swapped_directory(tmp_path) as (tree, outside):
        end = time.monotonic() + SECONDS
        while arrived < MANY or time.monotonic() < end:
            with contextlib.suppress(OSError):
                extraction.extract(io.BytesIO(stream), str(tree))
                arrived += 1
            assert (outside / "file").read_text() == CANARY
            assert os.listdir(outside) == ["file"]


SWAPPING = """
import ctypes
rename, here, exchange = ctypes.CDLL(None).renameat2, -100, 2
while True:
    if rename(here, b"sub", here, b"trap", exchange):
        raise SystemExit("this file system cannot exchange names")
"""
