"""Files and trees that are small inside and huge, endless or slow outside."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends import transfer
from paddock.backends.guest import files as guest_files
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.files import GuestFileSystem
from paddock.backends.guest.inside import archive, extraction, folders, tar, wire
from paddock.backends.posix import files as posix_files
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from paddock.sandbox import Sandbox

GIB = 1024**3
DEADLINE = 300
"""Seconds: these take a few on a machine with nothing else to do."""


# ------------------------------------------------------------------- over every backend


async def test_a_sparse_file_takes_no_room_on_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.exec("truncate -s 100M sparse && printf end >> sparse", check=True)
    async with asyncio.timeout(DEADLINE):
        await sandbox.fs.download("sparse", tmp_path / "sparse")
    got = (tmp_path / "sparse").stat()
    assert got.st_size == 100 * 1024**2 + 3
    assert got.st_blocks * 512 < 8 * 1024**2
    with (tmp_path / "sparse").open("rb") as file:
        file.seek(-4, os.SEEK_END)
        assert file.read() == b"\0end"


async def test_a_sparse_file_in_a_tree_takes_no_room_on_the_host(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    await sandbox.exec("mkdir tree && truncate -s 100M tree/sparse", check=True)
    async with asyncio.timeout(DEADLINE):
        await sandbox.fs.download("tree", tmp_path / "tree")
    got = (tmp_path / "tree" / "sparse").stat()
    assert got.st_size == 100 * 1024**2
    assert got.st_blocks * 512 < 8 * 1024**2


async def test_a_file_that_is_too_large_is_not_held_in_memory(sandbox: Sandbox) -> None:
    await sandbox.exec("truncate -s 4G sparse", check=True)
    with pytest.raises(OSError, match=r"4294967296 bytes.*download it.*sparse"):
        await sandbox.fs.read_bytes("sparse")
    assert await sandbox.fs.read_bytes("sparse", offset=4 * GIB - 10, limit=100) == bytes(10)


async def test_a_tree_that_is_too_large_leaves_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.exec("mkdir tree && truncate -s 1T tree/sparse", check=True)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises((ValueError, OSError), match="too large"):
            await sandbox.fs.download("tree", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


async def test_a_search_ends_in_a_file_that_is_too_long(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (guest_files, posix_files):
        monkeypatch.setattr(module, "SEARCH_LIMIT", 1024**2)
    make = "mkdir tree; cd tree; echo a line | tee a b >c; yes other | head -c 3000000 >>b"
    await sandbox.exec(f"{make}; truncate -s 1T ../sparse", check=True)
    async with asyncio.timeout(DEADLINE):
        # Ripgrep knows no look-behind, and could be through before anybody looks.
        found = await sandbox.fs.grep("a (?<=a )line", "tree")
        lines = await sandbox.fs.read_lines("tree/b", start=2, limit=1)
        sparse = await sandbox.fs.read_lines("sparse", limit=1, width=5)
        nothing = await sandbox.fs.grep("a line", "sparse")
    assert found.too_long == sandbox.path("tree/b")
    assert [line.path.name for line in found.lines] == ["a", "b"]
    assert (lines.lines, lines.whole) == (("other",), False)
    assert abs(lines.total - 1024**2 // 6) <= 1
    assert (sparse.lines, sparse.whole) == (("\0\0\0\0\0...",), False)
    assert nothing.lines == ()


GROW = """
import sys
with open("growing", "ab", buffering=0) as file:
    file.write(b"line\\n" * 1000)
    print("begun", flush=True)
    for _ in range(300):
        file.write(b"line\\n" * 200_000)
"""


async def test_a_file_that_grows_is_read_as_it_was(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for files in ("guest", "posix"):  # so that it is soon larger than what is read whole
        monkeypatch.setattr(f"paddock.backends.{files}.files.READ_LIMIT", 10_000_000)
    async with await sandbox.start(["python3", "-c", GROW]) as growing:
        async for _, data in growing.output():
            if data.startswith(b"begun"):
                break
        async with asyncio.timeout(DEADLINE):
            lines = await sandbox.fs.read_lines("growing", start=1, limit=2)
            with contextlib.suppress(OSError):  # it was larger than what is read whole
                await sandbox.fs.read_bytes("growing")
    assert lines.lines == ("line", "line")


MAKE_DEEP = """
import os
for _ in range(1500):
    os.mkdir("d")
    open("f", "w").close()
    os.chdir("d")
"""


async def test_a_deep_tree_is_carried_and_removed(sandbox: Sandbox, tmp_path: Path) -> None:
    await sandbox.exec(
        ["python3", "-c", f"import os; os.mkdir('deep'); os.chdir('deep')\n{MAKE_DEEP}"]
    )
    async with asyncio.timeout(DEADLINE):
        await sandbox.fs.download("deep", tmp_path / "deep")
        await sandbox.fs.remove("deep", recursive=True)
    assert not await sandbox.fs.exists("deep")
    with folders.opened(str(tmp_path)) as top, contextlib.closing(folders.Trail(top)) as trail:
        bottom = trail.at("deep/" + "/".join(["d"] * 1500))
        assert os.listdir(bottom) == []
    folders.remove_tree(str(tmp_path / "deep"))


async def test_special_files_and_loops_are_refused_or_left_out(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    await sandbox.exec(
        "mkfifo pipe && ln -s pipe to-pipe && ln -s loop loop && mkdir tree && "
        "mkfifo tree/pipe && ln -s loop tree/loop && ln -s . tree/self && echo x > tree/a && "
        "ln tree/a tree/b",
        check=True,
    )
    refused = "regular|symbolic link"
    for name in ("pipe", "to-pipe", "loop", "/dev/zero", "/dev/full"):
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(OSError, match=refused):
                await sandbox.fs.read_bytes(name)
            with pytest.raises(OSError, match=refused):
                await sandbox.fs.download(name, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    got = await sandbox.fs.download("tree", tmp_path / "tree")
    assert sorted(os.listdir(tmp_path / "tree")) == ["a", "b", "loop", "self"]
    assert [(str(each.path), each.reason) for each in got.left_out] == [("pipe", "a named pipe")]


# ------------------------------------------------------------ a guest that was taken over


class Place:
    """As much of a sandbox as its files need."""

    working_dir = PurePosixPath("/")

    def raise_if_closed(self) -> None:
        pass

    def path(self, path: str) -> PurePosixPath:
        return PurePosixPath("/", path)


class LyingClient(GuestClient):
    """The way to a guest that says what it is told to, whatever it is asked."""

    def __init__(self, body: dict[str, Any], blob: bytes = b"") -> None:
        super().__init__()
        self._answer = body, blob

    async def request(self, *_: object, **__: object) -> tuple[dict[str, Any], bytes]:
        return self._answer


def _files(client: LyingClient) -> GuestFileSystem:
    place: Any = Place()
    return GuestFileSystem(place, client)


async def test_an_endless_file_is_an_error() -> None:
    piece = b"A" * wire.INLINE
    for size in (0, len(piece), 2**70):
        with pytest.raises(OSError, match=r"limited to \d+.*endless"):
            await _files(LyingClient({"size": size}, piece)).read_bytes("endless")


async def test_no_more_is_returned_than_was_asked_for() -> None:
    files = _files(LyingClient({"size": 5}, b"A" * 1000))
    assert await files.read_bytes("x", limit=10) == b"A" * 10


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        ["/x", "file", "1", 0, 0],
        ["/x", "socket", 1, 0, 0],
        ["/x", ["file"], 1, 0, 0],
        [1, "file", 1, 0, 0],
        ["/x", "file", 1, 0, 10**400],
        ["/x", "file", 1, 0, None],
        {"path": "/x"},
    ],
)
async def test_an_answer_that_makes_no_sense_is_the_end_of_the_sandbox(entry: object) -> None:
    client = LyingClient({"entry": entry, "size": "many"})
    with pytest.raises(SandboxLost, match="protocol violation"):
        await _files(client).stat("x")
    assert client.link.over
    with pytest.raises(SandboxLost, match="protocol violation"):
        await _files(client).read_bytes("x")


async def test_an_endless_download_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "DOWNLOAD_LIMIT", 10_000_000)
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        while True:
            sent += 1_000_000
            yield bytes(1_000_000)

    with pytest.raises(OSError, match="More than 10000000 bytes came"):
        await transfer.receive_file(endless(), tmp_path / "got")
    assert sent < 20_000_000
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------ trees and time


class Counted:
    """Counts system calls, which is what a walk costs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._calls = 0
        for name in ("open", "stat", "fstat", "rename", "unlink", "rmdir", "listdir", "scandir"):
            monkeypatch.setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            self._calls += 1
            return call(*args, **kwargs)

        return counting

    def taken(self) -> int:
        """Calls since the last time."""
        calls, self._calls = self._calls, 0
        return calls


def _members(depth: int, wide: int) -> io.BytesIO:
    """An archive of a chain of directories, and as many files and directories at its end."""
    names = ["/".join(["d"] * level) for level in range(1, depth + 1)]
    blocks = [tar.header(tar.Member(name, tar.DIRECTORY, mode=0o755, mtime=0)) for name in names]
    for number in range(wide):
        member = tar.Member(f"{names[-1]}/{number}", tar.DIRECTORY, mode=0o755, mtime=0)
        blocks.append(tar.header(member))
    return io.BytesIO(b"".join(blocks) + tar.END)


def test_the_cost_of_a_tree_is_that_of_its_entries_and_not_of_their_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = 500
    costs = []
    (tmp_path / "theirs").mkdir()
    counted = Counted(monkeypatch)
    for depth in (500, 1000, 2000):
        calls = []
        for _ in range(2):  # the second time it is merged into what is there
            extraction.extract(_members(depth, wide), str(tmp_path / "theirs"))
            calls.append(counted.taken())
        packed = sum(len(block) for block in archive.tar_blocks(str(tmp_path / "theirs")))
        calls.append(counted.taken())
        assert packed > 512 * (depth + wide)
        folders.remove_tree(str(tmp_path / "theirs" / "d"))
        calls.append(counted.taken())
        costs.append(calls)
    for first, second, third in zip(*costs, strict=True):
        # As much for each directory, however deep it is.
        assert (third - second) <= 2.1 * (second - first)


def test_names_alone_cannot_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "MAX_NAME_BYTES", 100_000)
    with pytest.raises(ValueError, match="bytes of names"):
        extraction.extract(_members(100, 1000), str(tmp_path / "theirs"))
    assert list(tmp_path.iterdir()) == []


def test_a_trail_leads_where_a_walk_from_the_top_does(tmp_path: Path) -> None:
    paths = ["", "a", "ab", "a/b", "a/b/c", "ab/c", "a/bc", "/".join(["e"] * 100)]
    for path in paths:
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
    with folders.opened(str(tmp_path)) as top, contextlib.closing(folders.Trail(top)) as trail:
        for path in [*paths, *reversed(paths), "e/e/e", *paths[::3], *paths[1::2]]:
            assert os.path.samestat(os.fstat(trail.at(path)), (tmp_path / path).stat()), path
        with pytest.raises(FileNotFoundError):
            trail.at("a/b/missing/d")
        (tmp_path / "link").symlink_to("a")
        with pytest.raises(OSError, match=r"link|Not a directory"):
            trail.at("link/b")
        assert os.path.samestat(os.fstat(trail.at("a/b/c")), (tmp_path / "a/b/c").stat())
