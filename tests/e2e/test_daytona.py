"""What is Daytona's own: addresses, what the service does with a sandbox, requests counted."""

from __future__ import annotations

import asyncio
import os
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
from paddock.network import Allow
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from paddock.testing.daytona import DaytonaServer
    from tests.conftest import Require
    from tests.e2e.conftest import Daytona


EXECUTE = "/process/execute"
BOUNDARY = b"\r\n--DAYTONA-FILE-BOUNDARY"
"""Ends a part of the service's download, wherever it stands."""


@pytest.fixture
async def sandbox(daytona: Daytona) -> AsyncIterator[DaytonaSandbox]:
    async with daytona.recipe.sandbox() as sandbox:
        assert isinstance(sandbox, DaytonaSandbox)
        yield sandbox


def _counted(server: DaytonaServer) -> Callable[[], list[str]]:
    """The calls that were made since the last time that this was asked."""
    seen = len(server.requests)

    def count() -> list[str]:
        nonlocal seen
        new = [request for request in server.requests[seen:] if "socket.io" not in request.path]
        seen = len(server.requests)
        return [f"{request.method} {request.path.rpartition('/')[2]}" for request in new]

    return count


async def test_a_call_is_a_request(daytona: Daytona, sandbox: DaytonaSandbox) -> None:
    count = _counted(daytona.server)
    fs = sandbox.fs
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "exec": lambda: sandbox.exec("echo out; echo err >&2; exit 3"),
        "write": lambda: fs.write_text("a/b.txt", "x\n" * 1000),
        "read": lambda: fs.read_text("a/b.txt"),
        "lines": lambda: fs.read_lines("a/b.txt"),
        "stat": lambda: fs.stat("a"),
        "list": lambda: fs.list(depth=3),
        "glob": lambda: fs.glob("*.txt"),
        "grep": lambda: fs.grep("x"),
        "move": lambda: fs.move("a/b.txt", "c.txt"),
        "remove": lambda: fs.remove("a", recursive=True),
    }
    for name, call in calls.items():
        await call()
        assert count() == ["POST execute"], name


async def test_files_of_any_number_are_one_stream(
    daytona: Daytona, sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(5000):
        (tmp_path / "tree" / f"{number}").write_bytes(b"x" * 500)
    count = _counted(daytona.server)
    await sandbox.fs.upload(tmp_path / "tree", "tree")
    assert count() == ["POST bulk-upload", "POST execute"]
    await sandbox.fs.download("tree", tmp_path / "back")
    assert count() == ["POST execute"] * 2 + ["POST bulk-download", "POST execute"]
    assert len(os.listdir(tmp_path / "back")) == 5000
    left = await sandbox.exec(f"ls -A {sandbox.fs._folder} 2>/dev/null")  # type: ignore[attr-defined]
    assert left.stdout == ""


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
        with pytest.raises(urllib.error.HTTPError):
            await _get(preview.url)
        assert next(iter(preview.headers.values())) not in repr(preview)


async def _get(url: str, headers: Mapping[str, str] | None = None) -> str:
    request = urllib.request.Request(url, headers=dict(headers or {}))

    def read() -> str:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


async def test_one_without_a_lease_outlives_its_maker_and_is_found_again(daytona: Daytona) -> None:
    recipe = replace(daytona.recipe, lease=None, labels={"job": "7"})
    maker = await recipe.create()
    await maker.fs.write_text("kept", "yes")
    await maker.detach()
    with pytest.raises(SandboxClosed):
        await maker.exec("true")
    (info,) = await recipe.list({"job": "7"})
    assert (info.id, info.owner) == (maker.id, "unknown")
    assert await recipe.gc() == []
    async with await recipe.attach(maker.id) as again:
        assert await again.fs.read_text(maker.path("kept")) == "yes"
        assert again.labels == {"job": "7"}
    assert await recipe.list({"job": "7"}) == []
    with pytest.raises(ConfigError, match="no sandbox of ours"):
        await recipe.attach(maker.id)


async def test_an_archived_one_is_attached_to_again(daytona: Daytona) -> None:
    recipe = replace(daytona.recipe, lease=None)
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


async def test_it_is_kept_forked_paused_and_resized(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    await sandbox.fs.write_text("kept", "yes")
    one, other = await sandbox.fork(2)
    async with one, other:
        assert len({sandbox.id, one.id, other.id}) == 3
        await one.fs.write_text("own", "1")
        assert not await other.fs.exists("own")
    await sandbox.pause()
    waiting = asyncio.create_task(sandbox.exec("echo on"))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    await sandbox.resume()
    assert (await waiting).stdout == "on\n"
    await sandbox.resize(Resources(cpu=2))
    image = await sandbox.snapshot("kept")
    async with replace(daytona.recipe, snapshot=None, image=image).sandbox() as again:
        assert (await again.exec("true")).ok


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"resources": Resources(pids=100)}, "a limit on processes"),
        ({"resources": Resources(memory=1000)}, "whole GiB"),
        ({"resources": Resources(cpu=0.5)}, "whole cores"),
        ({"resources": Resources(cpu=1)}, "has its own"),
        ({"image": "debian:12"}, "not both"),
        ({"network": Allow(hosts=["example.org:8443"])}, "without ports"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_made(
    daytona: Daytona, changes: dict[str, object], error: str
) -> None:
    count = _counted(daytona.server)
    with pytest.raises((Unsupported, ConfigError), match=error):
        await replace(daytona.recipe, **changes).create()  # type: ignore[arg-type]
    assert count() == []


async def test_what_is_asked_for_arrives(daytona: Daytona) -> None:
    recipe = replace(
        daytona.recipe,
        snapshot=None,
        resources=Resources(cpu=2, memory=4 * 1024**3, disk=8 * 1024**3),
        network=Allow(hosts=["example.org", "*.example.com", "192.0.2.7"]),
        labels={"team": "a"},
        lease=200,
        auto_stop_interval=0,
    )
    async with recipe.sandbox() as sandbox:
        made = daytona.server.sandboxes[sandbox.id]
        told = made.settings
        assert (told["cpu"], told["memory"], told["disk"]) == (2, 4, 8)
        assert told["domainAllowList"] == "example.org,*.example.com"
        assert told["networkAllowList"] == "192.0.2.7/32"
        assert (told["autoStopInterval"], told["autoDeleteInterval"]) == (4, 0)
        assert made.labels["dev.paddock.label.team"] == "a"
        assert Capability.USER not in sandbox.capabilities
        with pytest.raises(Unsupported):
            await sandbox.exec("true", user="nobody")


async def test_an_image_of_ours_is_built_there(daytona: Daytona) -> None:
    image = Image.from_registry("debian:12").apt_install("git").env({"A": "1"})
    told: list[str] = []
    recipe = replace(daytona.recipe, snapshot=None, image=image)
    async with recipe.sandbox(on_progress=lambda step: told.append(step.step)) as sandbox:
        built = daytona.server.sandboxes[sandbox.id].build_info
        assert built is not None
        assert "apt-get" in built["dockerfileContent"]
    assert "image" in told


async def test_without_a_key_it_says_which_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DAYTONA_")]:
        monkeypatch.delenv(name)
    with pytest.raises(MissingCredentials, match="DAYTONA_API_KEY"):
        await DaytonaBackend().create()


async def test_a_version_of_uv_is_seen_to_before_the_setup(
    daytona: Daytona, tmp_path: Path
) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\necho uv 0.9.5\n")
    (tmp_path / "uv").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    recipe = replace(daytona.recipe, env_vars=path, uv_version="0.9.5", setup=["uv --version > v"])
    async with recipe.sandbox() as sandbox:
        assert await sandbox.fs.read_text("v") == "uv 0.9.5\n"


async def test_an_account_of_the_service_is_as_good_as_ours(require: Require) -> None:
    """With a key in the environment the contract tests run over its account, too."""
    require("daytona", "DAYTONA_API_KEY" in os.environ, "DAYTONA_API_KEY is not set")
    async with DaytonaBackend(labels={"test": "paddock"}).sandbox() as sandbox:
        result = await sandbox.exec("echo out; echo err >&2; exit 3")
        assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
        await sandbox.fs.write_bytes("bytes", bytes(range(256)))
        assert await sandbox.fs.read_bytes("bytes") == bytes(range(256))
        with pytest.raises(ExecTimeout):
            await sandbox.exec("setsid sleep 985001 & sleep 985002", timeout=1)
        assert not (await sandbox.exec("pgrep -f 'sleep 98500[12]'")).ok


async def test_closing_at_once_ends_a_call_that_was_hardly_made(daytona: Daytona) -> None:
    sandbox = await daytona.recipe.create()
    calling = asyncio.create_task(sandbox.exec("sleep 985001"))
    async with asyncio.timeout(20):
        await asyncio.gather(sandbox.aclose(), calling, return_exceptions=True)
    assert isinstance(calling.exception(), SandboxLost | SandboxClosed)


async def test_a_fork_has_an_owner_of_its_own_and_outlives_what_it_was_made_from(
    daytona: Daytona,
) -> None:
    parent = await daytona.recipe.create()
    assert await parent.fork(0) == []
    (fork,) = await parent.fork()
    await parent.aclose()
    async with fork:
        owners = {info.id: info.owner for info in await daytona.recipe.list()}
        assert owners == {parent.id: "alive", fork.id: "alive"}
        assert await daytona.recipe.gc() == []
        assert (await fork.exec("echo on")).stdout == "on\n"
    assert await daytona.recipe.list() == []


async def test_archiving_never_deletes(daytona: Daytona) -> None:
    recipe = replace(daytona.recipe, lease=None, ephemeral=True)
    async with recipe.sandbox() as sandbox:
        assert isinstance(sandbox, DaytonaSandbox)
        with pytest.raises(Unsupported, match="deleted when it is stopped"):
            await sandbox.archive()
        assert (await sandbox.exec("true")).ok


async def test_a_pause_holds_up_what_is_due_and_ends_nothing(
    sandbox: DaytonaSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.daytona.sandbox.PATIENCE", 1.0)
    overdue = asyncio.create_task(sandbox.exec("sleep 985001", timeout=0.5))
    await sandbox.exec("true")
    await sandbox.pause()
    await sandbox.pause()
    done, _ = await asyncio.wait([overdue], timeout=3)
    assert not done
    await sandbox.resume()
    with pytest.raises(ExecTimeout):
        await overdue
    assert (await sandbox.exec("echo on")).stdout == "on\n"


async def test_no_file_of_the_working_directory_says_where_sandboxes_are(
    daytona: Daytona, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("DAYTONA_TARGET=elsewhere\nDAYTONA_OTEL_ENABLED=true\n")
    monkeypatch.chdir(tmp_path)
    recipe = replace(daytona.recipe, config=daytona.recipe.config.model_copy(update={"target": ""}))  # type: ignore[union-attr]
    async with recipe.sandbox() as sandbox:
        assert daytona.server.sandboxes[sandbox.id].settings.get("target") != "elsewhere"
        assert isinstance(sandbox, DaytonaSandbox)
        assert sandbox._service.client._tracer_provider is None
        assert daytona.server.api_key not in repr(sandbox._service)
        assert daytona.server.api_key not in repr(recipe)


async def test_what_is_done_with_one_that_was_deleted_is_told_as_its_loss(
    sandbox: DaytonaSandbox,
) -> None:
    await sandbox.native.delete(wait=True)
    for call in (lambda: sandbox.snapshot("x"), sandbox.fork, lambda: sandbox.url(80)):
        with pytest.raises(SandboxLost, match="deleted"):
            await call()
