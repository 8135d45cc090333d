"""Files that a request wants before anything runs."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from paddock.runtime.remote import downloads
from paddock.runtime.remote.unpacking import Stopped, unpack
from tests.unit.runtime.remote.store import open_store
from tests.unit.runtime.remote.talking import Talker, command_request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.remote.conftest import Serve
    from tests.unit.runtime.remote.store import Store

DEADLINE = 60.0  # seconds for what takes milliseconds


def tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def wants(store: Store, *paths: str, **more: Any) -> dict[str, Any]:
    listed = [{"download_url": f"{store.url}{path}", "working_dir": "dl", **more} for path in paths]
    return command_request("find dl -type f | sort", pre_execution_downloadables=listed)


@pytest.mark.rows("U-23")
async def test_files_are_saved_and_archives_unpacked(serve: Serve, store: Store) -> None:
    files = {"top/a.txt": b"a", "top/b/c.txt": b"c"}
    store.files = {
        "/x/data%20file.txt": b"data",
        "/1.zip": zipped({"zip/a": b""}),
        "/2.tar": tar({"tar/a": b""}),
        "/3.tar.gz": gzip.compress(tar({"gz/a": b""})),
        "/4.tgz": gzip.compress(tar({"tgz/a": b""})),
        "/5.tar.zst": zstandard.compress(tar(files)),
    }
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(wants(store, "/x/data%20file.txt?sig=1", *list(store.files)[1:]))
    assert ended["results"][0]["stdout"].split("\n")[:-1] == [
        "dl/data file.txt",
        "dl/gz/a",
        "dl/tar/a",
        "dl/tgz/a",
        "dl/top/a.txt",
        "dl/top/b/c.txt",
        "dl/zip/a",
    ]


@pytest.mark.rows("U-23", "N-12")
@pytest.mark.parametrize(
    "path", ["/f/..%2f..%2fescaped.txt", "/f/%2e%2e", "/f/a%5cb", "/f/a%0ab", "/f/"]
)
async def test_a_name_that_leads_elsewhere_is_refused(
    path: str, serve: Serve, store: Store, tmp_path: Path
) -> None:
    store.files = {path: b"x"}
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(wants(store, path))
    assert "which is no file name" in ended["error"]
    assert not store.gets
    assert [each.name for each in (tmp_path / "work").iterdir()] == []


@pytest.mark.rows("U-23")
@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "http:///x", "x"])
async def test_other_than_http_is_refused(url: str, serve: Serve) -> None:
    listed = [{"download_url": url, "working_dir": "dl"}]
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(command_request("true", pre_execution_downloadables=listed))
    assert "download_url" in ended["error"]


@pytest.mark.rows("U-23")
@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.zip", b"no zip", "not a whole archive"),
        ("a.tar.gz", gzip.compress(b"x" * 5000, mtime=0)[:40], "Download failed: a.tar.gz"),
        ("a.tar", tar({"../out.txt": b"x"}), "Download failed: a.tar"),
        ("a.zip", zipped({"ok": b"", "../../out.txt": b"x"}), "Download failed: a.zip"),
        ("a.zip", zipped({"/etc/out.txt": b"x"}), "Download failed: a.zip"),
    ],
)
async def test_a_bad_archive_leaves_nothing(
    name: str, data: bytes, told: str, serve: Serve, store: Store, tmp_path: Path
) -> None:
    store.files = {f"/{name}": data}
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(wants(store, f"/{name}"))
    assert told in ended["error"]
    assert list((tmp_path / "work" / "dl").iterdir()) == []
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.rows("U-23")
async def test_a_download_may_say_its_digest(serve: Serve, store: Store) -> None:
    store.files = {"/a": b"data"}
    digest = hashlib.sha256(b"data").hexdigest()
    async with serve() as server, Talker(server.url) as talker:
        good = await talker.ask(wants(store, "/a", sha256=digest))
        assert good["results"][0]["exit_code"] == 0
        bad = await talker.ask(wants(store, "/a", sha256="0" * 64))
        assert "SHA-256" in bad["error"]


@pytest.mark.rows("U-23")
async def test_a_download_that_is_too_large_is_refused(
    serve: Serve, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(downloads, "MAX_DOWNLOAD", 1000)
    store.files = {"/a": b"x" * 1001}
    async with serve() as server, Talker(server.url) as talker:
        assert "more than 1000 bytes" in (await talker.ask(wants(store, "/a")))["error"]
    assert list((tmp_path / "work" / "dl").iterdir()) == []


@pytest.mark.rows("U-23", "N-20")
async def test_a_cancellation_does_not_wait_for_a_download(
    serve: Serve, store: Store, tmp_path: Path
) -> None:
    async with serve() as server, Talker(server.url) as talker:
        await talker.send(wants(store, "/hold"))
        await store.held.wait()
        ended = await talker.ask({"message_type": "cancel_message"})
        assert ended["error"] == "Request cancelled"
        assert list((tmp_path / "work" / "dl").iterdir()) == []
        assert (await talker.ask(command_request("echo on")))["results"][0]["stdout"] == "on\n"


@pytest.mark.rows("U-23", "N-20")
async def test_a_cancellation_does_not_wait_for_an_archive(
    serve: Serve, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(archive: str, folder: str, name: str, stopped: threading.Event) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert stopped.wait(DEADLINE)

    monkeypatch.setattr(downloads, "unpack", hold)
    store.files = {"/a.tar": b""}
    async with serve() as server, Talker(server.url) as talker:
        await talker.send(wants(store, "/a.tar"))
        await begun.wait()
        ended = await talker.ask({"message_type": "cancel_message"})
        assert ended["error"] == "Request cancelled"
        assert list((tmp_path / "work" / "dl").iterdir()) == []


@pytest.mark.rows("N-20")
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_what_nobody_wants_is_not_unpacked(name: str, tmp_path: Path) -> None:
    archive, folder = tmp_path / name, tmp_path / "into"
    folder.mkdir()
    made = zipped({"file": b"text"}) if name.endswith(".zip") else tar({"file": b"text"})
    archive.write_bytes(gzip.compress(made) if name.endswith(".gz") else made)
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(Stopped):
        unpack(str(archive), str(folder), name, stopped)
    assert list(folder.iterdir()) == []
    stopped.clear()
    unpack(str(archive), str(folder), name, stopped)
    assert [each.name for each in folder.iterdir()] == ["file"]


@pytest.mark.rows("U-23")
async def test_no_url_is_in_an_error(serve: Serve, store: Store) -> None:
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(wants(store, "/missing?key=very-secret"))
        assert ended["error"] == "Download failed: 404 Not Found"
        listed = [{"download_url": "http://127.0.0.1:1/a?key=very-secret", "working_dir": "dl"}]
        await talker.ask(command_request("true", pre_execution_downloadables=listed))
    assert "very-secret" not in str(talker.frames)


@pytest.mark.rows("U-23", "N-17")
@pytest.mark.parametrize(
    "more",
    [
        {"headers": {"A": "\u00e9\u20ac"}},
        {"headers": {"A": "a\r\nb: c"}},
        {"working_dir": "a\0b"},
    ],
)
async def test_what_no_request_can_have_is_told_and_not_quoted(
    serve: Serve, store: Store, more: dict[str, Any]
) -> None:
    async with serve() as server, Talker(server.url) as talker:
        given = {"download_url": f"{store.url}/name.txt", "working_dir": "dl", **more}
        ended = await talker.ask(command_request("true", pre_execution_downloadables=[given]))
    assert ended["error"].startswith("Download failed: name.txt: ")
    assert ended["metadata"]["error_name"] == "Error"


@pytest.mark.rows("U-23")
async def test_a_link_of_a_zip_that_is_longer_than_any_path_is_refused(
    serve: Serve, store: Store
) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"x" * 5000)
    store.files = {"/1.zip": made.getvalue()}
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(wants(store, "/1.zip"))
    assert "symbolic link that is too long" in ended["error"]


@pytest.mark.rows("U-22")
async def test_headers_are_for_the_server_of_the_url_alone(serve: Serve, store: Store) -> None:
    """Those who are sent on do not get the keys; the server itself does, under another path."""
    headers = {"X-Key": "mine", "Authorization": "Bearer mine"}
    async with open_store() as other, serve() as server, Talker(server.url) as talker:
        other.files["/there"] = store.files["/here"] = b"x"
        other.moved["/back"] = f"{store.url}/here"
        store.moved = {"/near": "/here", "/far": f"{other.url}/there"}
        store.moved["/round"] = f"{other.url}/back"
        await talker.ask(wants(store, "/near", "/far", "/round", headers=headers))
    keys = [{name: found.get(name.lower()) for name in headers} for found in store.asked]
    none = dict.fromkeys(headers)
    assert store.gets == ["/near", "/here", "/far", "/round", "/here"]
    assert keys == [headers, headers, headers, headers, none]
    assert [found.get("x-key") for found in other.asked] == [None, None]
    assert other.gets == ["/there", "/back"]
