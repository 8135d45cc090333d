"""What is Daytona's own, and does not need a server that fails to order: over the account of the
environment, or over a server of ours, and nothing of it stays there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
import urllib.error
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock.backends.daytona import DaytonaBackend
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.errors import (
    ConfigError,
    ExecTimeout,
    MissingCredentials,
    SandboxClosed,
    SandboxLost,
    Unsupported,
)
from paddock.image import Image
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.conftest import Require
    from tests.daytona_account import DaytonaAccount


BOUNDARY = b"\r\n--DAYTONA-FILE-BOUNDARY"
"""Ends a part of the service's download, wherever it stands."""


@pytest.fixture
async def recipe(
    daytona_account: DaytonaAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DaytonaBackend]:
    """For sandboxes of this test alone, of which none may be left."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield replace(daytona_account.recipe, labels={"test": secrets.token_hex(6)})
    await daytona_account.require_empty()


@pytest.fixture
async def sandbox(recipe: DaytonaBackend) -> AsyncIterator[DaytonaSandbox]:
    async with recipe.sandbox() as sandbox:
        assert isinstance(sandbox, DaytonaSandbox)
        yield sandbox


async def test_a_file_that_holds_the_end_of_a_download_comes_back_whole(
    sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    contents = b"before" + BOUNDARY + b"--\r\n" + b"after" * 200_000
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "file").write_bytes(contents)
    await sandbox.fs.upload_file(tmp_path / "up" / "file", "file")
    await sandbox.fs.download_file("file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == contents
    await sandbox.fs.upload(tmp_path / "up", "tree")
    await sandbox.fs.download("tree", tmp_path / "tree")
    assert (tmp_path / "tree" / "file").read_bytes() == contents


async def test_a_port_has_an_address_that_takes_a_token(sandbox: DaytonaSandbox) -> None:
    await sandbox.fs.write_text("index.html", "hello from inside")
    server = "import http.server as h; s=h.HTTPServer(('127.0.0.1',0),h.SimpleHTTPRequestHandler)"
    program = f"{server}; print(s.server_port, flush=True); s.serve_forever()"
    async with await sandbox.start(["python3", "-c", program]) as process:
        port = int((await anext(aiter(process.output())))[1])
        preview = await sandbox.preview(port)
        assert preview.url == await sandbox.url(port)
        assert await _get(preview.url, preview.headers) == "hello from inside"
        assert await _get(await sandbox.signed_url(port, seconds=60)) == "hello from inside"
        with contextlib.suppress(urllib.error.HTTPError):  # or a page that asks who is there
            assert await _get(preview.url) != "hello from inside"
        assert next(iter(preview.headers.values())) not in repr(preview)


async def _get(url: str, headers: Mapping[str, str] | None = None) -> str:
    request = urllib.request.Request(url, headers=dict(headers or {}))

    def read() -> str:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


async def test_one_without_a_lease_outlives_its_maker_and_is_found_again(
    recipe: DaytonaBackend,
) -> None:
    recipe = replace(recipe, lease=None)
    maker = await recipe.create()
    await maker.fs.write_text("kept", "yes")
    await maker.detach()
    with pytest.raises(SandboxClosed):
        await maker.exec("true")
    (info,) = await recipe.list(recipe.labels)
    assert (info.id, info.owner) == (maker.id, "unknown")
    assert await recipe.gc() == []
    async with await recipe.attach(maker.id) as again:
        assert await again.fs.read_text(maker.path("kept")) == "yes"
        assert again.labels == recipe.labels
    assert await recipe.list(recipe.labels) == []
    with pytest.raises(ConfigError, match="no sandbox of ours"):
        await recipe.attach(maker.id)


async def test_an_archived_one_is_attached_to_again(recipe: DaytonaBackend) -> None:
    recipe = replace(recipe, lease=None)
    maker = await recipe.create()
    assert isinstance(maker, DaytonaSandbox)
    await maker.fs.write_text("kept", "yes")
    await maker.archive()
    async with await recipe.attach(maker.id) as again:
        assert await again.fs.read_text(maker.path("kept")) == "yes"


async def test_one_with_a_lease_is_neither_left_nor_archived(sandbox: DaytonaSandbox) -> None:
    for leaving in (sandbox.detach, sandbox.archive):
        with pytest.raises(Unsupported, match="lease"):
            await leaving()
    assert (await sandbox.exec("true")).ok


async def test_it_is_forked(sandbox: DaytonaSandbox) -> None:
    await sandbox.fs.write_text("kept", "yes")
    if Capability.FORK not in sandbox.capabilities:
        with pytest.raises(Unsupported, match="fork"):
            await sandbox.fork()
        return
    one, other = await sandbox.fork(2)
    async with one, other:
        assert len({sandbox.id, one.id, other.id}) == 3
        assert await one.fs.read_text("kept") == "yes"
        await one.fs.write_text("own", "1")
        assert not await other.fs.exists("own")


async def test_it_is_paused_and_goes_on(sandbox: DaytonaSandbox) -> None:
    if Capability.PAUSE not in sandbox.capabilities:
        with pytest.raises(Unsupported, match="pause"):
            await sandbox.pause()
        return
    await sandbox.pause()
    waiting = asyncio.create_task(sandbox.exec("echo on"))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    await sandbox.resume()
    assert (await waiting).stdout == "on\n"


async def test_it_is_resized_where_the_server_can(sandbox: DaytonaSandbox) -> None:
    with contextlib.suppress(Unsupported):
        await sandbox.resize(Resources(cpu=2))
    assert (await sandbox.exec("echo on")).stdout == "on\n"


async def test_it_is_kept_as_a_snapshot_that_others_begin_with(
    recipe: DaytonaBackend, sandbox: DaytonaSandbox
) -> None:
    await sandbox.fs.write_text("kept", "yes")
    image = await sandbox.snapshot(name := f"paddock-test-{secrets.token_hex(6)}")
    try:
        async with replace(recipe, snapshot=None, image=image).sandbox() as again:
            assert await again.fs.read_text("kept") == "yes"
        (info,) = [each for each in await recipe.images.list() if each.reference == name]
        assert info.label == sandbox.id
        assert await recipe.images.find([name, name]) == [name]
    finally:
        assert await recipe.images.remove(name) == name
    with pytest.raises(ConfigError, match=name):
        await recipe.images.remove(name)


async def test_an_image_is_built_there(recipe: DaytonaBackend) -> None:
    image = Image.from_registry("daytonaio/sandbox:latest").env({"MADE": "here"})
    told: list[str] = []
    built = replace(recipe, snapshot=None, image=image)
    async with built.sandbox(on_progress=lambda step: told.append(step.step)) as sandbox:
        assert (await sandbox.exec("echo fine")).stdout == "fine\n"
    assert "image" in told


async def test_without_a_key_it_says_which_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DAYTONA_")]:
        monkeypatch.delenv(name)
    with pytest.raises(MissingCredentials, match="DAYTONA_API_KEY"):
        await DaytonaBackend().create()


async def test_an_account_of_the_service_is_as_good_as_ours(
    daytona_account: DaytonaAccount, require: Require
) -> None:
    """With a key in the environment all tests of this account are of the service."""
    reason = "DAYTONA_API_KEY is not set, a server of ours stood in for the service"
    require("daytona", not daytona_account.ours, reason)
    async with DaytonaBackend(labels={"test": "paddock"}).sandbox() as sandbox:
        result = await sandbox.exec("echo out; echo err >&2; exit 3")
        assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
        with pytest.raises(ExecTimeout):
            await sandbox.exec("setsid sleep 985001 & sleep 985002", timeout=1)
    await daytona_account.require_empty()


async def test_a_fork_has_an_owner_of_its_own_and_outlives_what_it_was_made_from(
    recipe: DaytonaBackend,
) -> None:
    parent = await recipe.create()
    if Capability.FORK not in parent.capabilities:
        await parent.aclose()
        return
    assert await parent.fork(0) == []
    with pytest.raises(ConfigError):
        await parent.fork(-1)
    (fork,) = await parent.fork()
    await parent.aclose()
    async with fork:
        owners = {info.id: info.owner for info in await recipe.list(recipe.labels)}
        assert owners == {parent.id: "gone", fork.id: "alive"}
        assert await recipe.gc() == []
        assert (await fork.exec("echo on")).stdout == "on\n"
    assert await recipe.list(recipe.labels) == []


async def test_archiving_never_deletes(recipe: DaytonaBackend) -> None:
    async with replace(recipe, lease=None, ephemeral=True).sandbox() as sandbox:
        assert isinstance(sandbox, DaytonaSandbox)
        with pytest.raises(Unsupported, match="deleted when it is stopped"):
            await sandbox.archive()
        assert (await sandbox.exec("true")).ok


async def test_a_call_that_is_due_in_a_pause_ends_and_the_sandbox_goes_on(
    sandbox: DaytonaSandbox,
) -> None:
    if Capability.PAUSE not in sandbox.capabilities:
        return
    overdue = asyncio.create_task(sandbox.exec("sleep 985001", timeout=0.5))
    await sandbox.exec("true")
    await sandbox.pause()
    await sandbox.pause()
    async with asyncio.timeout(60):
        with pytest.raises(ExecTimeout):
            await overdue
    await sandbox.resume()
    assert (await sandbox.exec("echo on")).stdout == "on\n"


async def test_what_is_done_with_one_that_was_deleted_is_told_as_its_loss(
    sandbox: DaytonaSandbox,
) -> None:
    await sandbox.native.delete(wait=True)
    for call in (lambda: sandbox.snapshot("x"), sandbox.fork, lambda: sandbox.url(80)):
        with pytest.raises(SandboxLost, match="deleted"):
            await call()
