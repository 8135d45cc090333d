"""What becomes of a call of Daytona when something fails on its way: every fault, at every stage.

Each test ends with no sandbox on the server, no client left open and nothing that the SDK's
models do not describe, and counts what is asked: nothing is done twice, nothing in a storm.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from paddock.backends.daytona import service
from paddock.errors import ConfigError, SandboxLost
from paddock.testing.daytona import (
    DropBefore,
    ExpiredKey,
    MoveProxy,
    Status,
)
from tests.e2e.daytona.served import (
    BIG,
    CREATE,
    DEADLINE,
    DELETE,
    DOWNLOAD,
    EXECUTE,
    FAULTS,
    LIST,
    UPLOAD,
    WAIT,
    every_fault,
    made,
    started,
)

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from paddock.testing.daytona.faults import FaultKind
    from tests.e2e.conftest import Daytona


pytestmark = pytest.mark.usefixtures("short_pauses")


@every_fault
@pytest.mark.parametrize("stage", [CREATE, WAIT, EXECUTE], ids=["create", "wait", "guest"])
async def test_a_fault_while_a_sandbox_is_made_does_not_show(
    daytona: Daytona, stage: str, kind: FaultKind
) -> None:
    fault = daytona.server.faults.add(match=stage, kind=kind)
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).stdout == "fine\n"
        assert daytona.living == [sandbox.id]
    assert fault.fired == 1
    assert daytona.server.count("POST", "/sandbox") <= 2
    assert daytona.server.count("GET", "/sandbox/[^/]+") <= 6


async def test_a_fault_while_a_command_runs_runs_it_once(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    for name, kind in FAULTS.items():
        before = daytona.server.count("POST", "/process/execute")
        fault = daytona.server.faults.add(match=EXECUTE, kind=kind)
        said = await sandbox.exec(f"echo x >> {name}; echo said")
        assert (said.stdout, fault.fired) == ("said\n", 1), name
        assert daytona.server.count("POST", "/process/execute") - before <= 3, name
        assert await sandbox.fs.read_text(name) == "x\n", name


async def test_a_fault_while_a_command_is_waited_for_does_not_show(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    for name, kind in FAULTS.items():
        command = f"until [ -e go-{name} ]; do sleep 0.02; done; echo x >> {name}; cat {name}"
        running = await started(sandbox, command)
        daytona.server.faults.add(match=EXECUTE, kind=kind, times=2)
        await sandbox.fs.write_text(f"go-{name}", "")
        assert (await running).stdout == "x\n", name


async def test_a_fault_in_the_stream_of_an_upload_does_not_show(
    daytona: Daytona, sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    for name, kind in FAULTS.items():
        data = os.urandom(BIG)
        (tmp_path / "big").write_bytes(data)
        before = daytona.server.count("POST", "/files/bulk-upload")
        daytona.server.faults.add(match=UPLOAD, kind=kind)
        await sandbox.fs.upload_file(tmp_path / "big", "big")
        assert daytona.server.count("POST", "/files/bulk-upload") - before == 2, name
        assert await sandbox.fs.read_bytes("big") == data, name


async def test_a_fault_in_the_stream_of_a_download_does_not_show(
    daytona: Daytona, sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    data = os.urandom(BIG)
    await sandbox.fs.write_bytes("tree/big", data)
    for name, kind in FAULTS.items():
        before = daytona.server.count("POST", "/files/bulk-download")
        file = daytona.server.faults.add(match=DOWNLOAD, kind=kind)
        await sandbox.fs.download_file("tree/big", tmp_path / name)
        tree = daytona.server.faults.add(match=DOWNLOAD, kind=kind)
        await sandbox.fs.download("tree", tmp_path / f"tree-{name}")
        assert (file.fired, tree.fired) == (1, 1), name
        assert (tmp_path / name).read_bytes() == data, name
        assert (tmp_path / f"tree-{name}" / "big").read_bytes() == data, name
        assert daytona.server.count("POST", "/files/bulk-download") - before <= 4, name


@every_fault
async def test_a_fault_while_a_sandbox_is_deleted_does_not_keep_it(
    daytona: Daytona, kind: FaultKind
) -> None:
    fault = daytona.server.faults.add(match=DELETE, kind=kind)
    async with made(daytona.recipe):
        pass
    assert fault.fired == 1
    assert not daytona.living
    assert daytona.server.count("DELETE", "/sandbox/.*") == 2


async def test_a_fault_while_sandboxes_are_listed_does_not_show(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    for name, kind in FAULTS.items():
        before = daytona.server.count("GET", "/sandbox")
        daytona.server.faults.add(match=LIST, kind=kind)
        assert [info.id for info in await daytona.recipe.list()] == [sandbox.id], name
        assert daytona.server.count("GET", "/sandbox") - before == 2, name


async def test_whatever_the_page_of_a_proxy_says_it_is_passing(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    for status in (500, 502, 503, 504):
        pages = [
            Status(status=status),
            Status(status=status, body="html"),
            Status(status=status, body="empty"),
        ]
        for page in pages:
            daytona.server.faults.add(match=EXECUTE, kind=page)
            assert (await sandbox.exec("echo fine")).stdout == "fine\n", page


@pytest.mark.parametrize(
    "kind", [Status(status=503, body="html"), DropBefore()], ids=lambda kind: type(kind).__name__
)
async def test_a_service_that_stays_away_is_given_up_without_a_storm(
    daytona: Daytona, sandbox: DaytonaSandbox, kind: FaultKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPEATING", 0.5)
    before = len(daytona.server.requests)
    daytona.server.faults.add(match=EXECUTE, kind=kind, times=None)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxLost):
            await sandbox.exec("true")
    assert len(daytona.server.requests) - before < 40
    daytona.server.faults.clear()


async def test_retry_after_is_honoured_by_every_call(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    loop = asyncio.get_running_loop()
    for match in (EXECUTE, LIST):
        daytona.server.faults.add(
            match=match, kind=Status(status=429, headers={"Retry-After": "1"})
        )
        before = loop.time()
        if match is LIST:
            await daytona.recipe.list()
        else:
            await sandbox.exec("true")
        assert loop.time() - before >= 1


async def test_an_overloaded_service_makes_a_sandbox_when_it_is_less_so(daytona: Daytona) -> None:
    daytona.server.faults.add(match=CREATE, kind=Status(status=503, body="html"), times=4)
    async with made(daytona.recipe):
        assert len(daytona.living) == 1
    assert daytona.server.count("POST", "/sandbox") == 5


async def test_a_key_that_expires_under_a_sandbox_is_told_by_its_variable(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    daytona.server.faults.add(match=EXECUTE, kind=ExpiredKey(), times=None)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises((ConfigError, SandboxLost), match="DAYTONA_API_KEY"):
            await sandbox.exec("true")
    daytona.server.faults.clear()


async def test_a_toolbox_that_moves_is_followed(
    daytona: Daytona, sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    daytona.server.faults.add(match=EXECUTE, kind=MoveProxy())
    assert (await sandbox.exec("echo x >> runs; echo fine")).stdout == "fine\n"
    (tmp_path / "big").write_bytes(bytes(BIG))
    daytona.server.faults.add(match=UPLOAD, kind=MoveProxy())
    await sandbox.fs.upload_file(tmp_path / "big", "big")
    assert await sandbox.fs.read_text("runs") == "x\n"
