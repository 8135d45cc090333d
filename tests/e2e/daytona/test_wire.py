"""What Paddock asks of Daytona: which requests, how many, and what they say."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.backends.base import Backend
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.errors import (
    ConfigError,
    SandboxClosed,
    SandboxLost,
    Unsupported,
)
from paddock.files import FileSystem
from paddock.image import Image
from paddock.network import Allow
from paddock.sandbox import Capability, Process, Resources, Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.testing.daytona import DaytonaServer
    from tests.e2e.conftest import Daytona


EXECUTE = "/process/execute"
BOUNDARY = b"\r\n--DAYTONA-FILE-BOUNDARY"
"""Ends a part of the service's download, wherever it stands."""


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


async def test_the_calls_of_the_service_are_as_many_as_is_documented(
    daytona: Daytona, tmp_path: Path
) -> None:
    server, recipe = daytona.server, replace(daytona.recipe, lease=None)
    (tmp_path / "small").write_text("x")
    await recipe.list()  # and what dead processes have left was looked for
    await (await recipe.create()).aclose()
    count = _counted(server)
    sandbox = await recipe.create()
    assert isinstance(sandbox, DaytonaSandbox)
    made = count()
    # The last two have it live as long as its recipe says, once its guest is there.
    assert (made[0], made[-3:]) == ("POST sandbox", ["POST execute", "POST -1", "POST 0"])
    assert set(made[1:-3]) == {f"GET {sandbox.id}"}
    fs = sandbox.fs
    calls: dict[str, tuple[Callable[[], Awaitable[object]], list[str]]] = {
        "exists": (lambda: fs.exists("no"), ["POST execute"]),
        "mkdir": (lambda: fs.mkdir("d"), ["POST execute"]),
        "upload": (lambda: fs.upload(tmp_path / "small", "s"), ["POST execute"]),
        "download": (lambda: fs.download("s", tmp_path / "back"), ["POST execute"] * 2),
        "stdin": (lambda: sandbox.exec(["cat"], stdin="in"), ["POST execute"]),
        "limit": (lambda: sandbox.limit_time(lifetime=3600), ["POST execute"]),
        "renew": (sandbox.renew, ["POST execute"]),
        "url": (lambda: sandbox.url(80), ["GET preview-url"]),
        "signed": (lambda: sandbox.signed_url(80), ["GET signed-preview-url"]),
        "list": (recipe.list, ["GET sandbox"]),
    }
    for name, (call, expected) in calls.items():
        await call()
        assert count() == expected, name
    await sandbox.detach()
    assert count() == []
    again = await recipe.attach(sandbox.id)
    assert count() == [f"GET {sandbox.id}", "POST execute"]
    await again.aclose()
    assert count() == [f"DELETE {sandbox.id}"]


@pytest.mark.parametrize("kind", [Sandbox, FileSystem, Process, Backend])
def test_every_method_of_the_contract_is_in_the_documented_table(kind: type) -> None:
    lines = (Path(__file__).parents[3] / "docs" / "daytona.md").read_text().splitlines()
    table = " ".join(line for line in lines if line.startswith("| "))
    known = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", table))))
    said = set(re.findall(r"\w+", table))
    methods = {name for name, each in vars(kind).items() if callable(each) and name[0] != "_"}
    local = {"raise_if_closed", "path", "set_secrets", "redactor", "setup_commands"}
    assert methods - local <= known | (said & {"pool", "list"})


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
    left = await sandbox.exec(f"ls -A {sandbox.fs._folder} 2>/dev/null")
    assert left.stdout == ""


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
        if os.geteuid() == 0:  # as whom the account's sandboxes run
            who = await sandbox.exec("id -u; echo $USER", user="nobody")
            assert who.stdout == "65534\nnobody\n"
            with pytest.raises(ConfigError, match="user='nosuch': the sandbox has no such user"):
                await sandbox.exec("true", user="nosuch")
        else:
            assert Capability.USER not in sandbox.capabilities
            with pytest.raises(Unsupported, match="user='root'"):
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


async def test_closing_at_once_ends_a_call_that_was_hardly_made(daytona: Daytona) -> None:
    sandbox = await daytona.recipe.create()
    calling = asyncio.create_task(sandbox.exec("sleep 985001"))
    async with asyncio.timeout(60):
        await asyncio.gather(sandbox.aclose(), calling, return_exceptions=True)
    assert isinstance(calling.exception(), SandboxLost | SandboxClosed)


async def test_a_version_of_uv_is_seen_to_before_the_setup(
    daytona: Daytona, tmp_path: Path
) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\necho uv 0.9.5\n")
    (tmp_path / "uv").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    recipe = replace(daytona.recipe, env_vars=path, uv_version="0.9.5", setup=["uv --version > v"])
    async with recipe.sandbox() as sandbox:
        assert await sandbox.fs.read_text("v") == "uv 0.9.5\n"
