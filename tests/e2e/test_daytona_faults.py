"""What becomes of a sandbox in Daytona when something fails: every fault, at every stage.

Each test ends with no sandbox on the server, no client left open and nothing that the SDK's
models do not describe. Requests are counted: nothing is done twice, and nothing is asked for
in a storm.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tenacity.wait import wait_fixed

from paddock.backends.daytona import service
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.errors import ConfigError, SandboxError, SandboxLost
from paddock.testing.daytona import (
    Delay,
    DestroyDuringStart,
    DropAfter,
    DropBefore,
    ExpiredKey,
    FailWith,
    MoveProxy,
    Quota,
    SilentEvents,
    Status,
    StuckIn,
    Truncate,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from paddock.backends.daytona import DaytonaBackend
    from paddock.testing.daytona.faults import Fault, FaultKind
    from tests.e2e.conftest import Daytona


DEADLINE = 20.0
"""Seconds for what takes milliseconds, on a machine that is busy."""
CREATE = "POST /api/sandbox"
WAIT = "GET /api/sandbox/[^/]+"
LIST = "GET /api/sandbox"
DELETE = "DELETE /api/sandbox/[^/]+"
EXECUTE = "POST /toolbox/.*/process/execute"
UPLOAD = "POST /toolbox/.*/files/bulk-upload"
DOWNLOAD = "POST /toolbox/.*/files/bulk-download"
RENEW = "POST /api/sandbox/.*/last-activity"
BIG = 512 * 1024
"""Bytes of a file that goes by the service's own streams."""

FAULTS: dict[str, FaultKind] = {
    "429": Status(status=429, headers={"Retry-After": "0.05"}),
    "500-json": Status(status=500),
    "502-html": Status(status=502, body="html"),
    "503-empty": Status(status=503, body="empty"),
    "504-json": Status(status=504),
    "drop-before": DropBefore(),
    "drop-after": DropAfter(),
    "truncated": Truncate(bytes=10),
}
every_fault = pytest.mark.parametrize("kind", FAULTS.values(), ids=FAULTS)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries of a call that failed, unless the service says how long."""
    monkeypatch.setattr(service, "_pause", wait_fixed(0.05))


@asynccontextmanager
async def made(recipe: DaytonaBackend) -> AsyncIterator[DaytonaSandbox]:
    async with recipe.sandbox() as sandbox:
        assert isinstance(sandbox, DaytonaSandbox)
        yield sandbox


@pytest.fixture
async def sandbox(daytona: Daytona) -> AsyncIterator[DaytonaSandbox]:
    async with made(daytona.recipe) as sandbox:
        yield sandbox


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def meeting(fault: Fault, task: asyncio.Task[Any]) -> None:
    """Wait until a request of `task` has met the `fault`."""
    async with asyncio.timeout(DEADLINE):
        while not fault.fired:
            assert not (await asyncio.wait([task], timeout=0.005))[0], "it met nothing"


async def started(sandbox: DaytonaSandbox, command: str) -> asyncio.Task[Any]:
    """A task that waits for `command`, which is running by now."""
    task = asyncio.create_task(sandbox.exec(f": > running; {command}"))
    await sandbox.exec("until [ -e running ]; do sleep 0.02; done", timeout=DEADLINE)
    return task


# one fault at one stage: the call succeeds all the same


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


# faults that stay


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


# starts that go wrong


async def test_a_slow_start_is_waited_for(daytona: Daytona) -> None:
    daytona.server._fleet.delays["creating"] = 1.2
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).ok


async def test_a_start_of_which_no_event_tells_is_seen(daytona: Daytona) -> None:
    daytona.server._fleet.delays["creating"] = 0.3
    daytona.server.faults.add(match=CREATE, kind=SilentEvents())
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).ok


async def test_a_start_without_any_events_works(daytona: Daytona) -> None:
    daytona.server.faults.add(match="GET /api/socket.io/", kind=Status(status=503), times=None)
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).ok


async def test_a_stuck_start_ends_at_its_deadline_and_leaves_nothing(daytona: Daytona) -> None:
    daytona.server.faults.add(match=CREATE, kind=StuckIn(state="creating"))
    with pytest.raises(SandboxError, match="timeout"):
        await replace(daytona.recipe, create_timeout=1).create()
    assert not daytona.living


@pytest.mark.parametrize("state", ["error", "build_failed"])
async def test_a_start_that_fails_tells_the_reason_and_leaves_nothing(
    daytona: Daytona, state: Any
) -> None:
    kind = FailWith(state=state, reason="the disk of runner 7 is on fire")
    daytona.server.faults.add(match=CREATE, kind=kind)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="runner 7 is on fire"):
            await daytona.recipe.create()
    assert not daytona.living
    assert daytona.server.count("POST", "/sandbox") == 1


async def test_a_sandbox_destroyed_during_its_start_is_told_at_once(daytona: Daytona) -> None:
    daytona.server.faults.add(match=CREATE, kind=DestroyDuringStart())
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError):
            await daytona.recipe.create()
    assert not daytona.living


async def test_a_quota_is_told_in_the_service_s_words(daytona: Daytona) -> None:
    daytona.server.faults.add(match=CREATE, kind=Quota(), times=None)
    before = asyncio.get_running_loop().time()
    with pytest.raises(SandboxError, match="Total CPU limit exceeded"):
        await daytona.recipe.create()
    assert asyncio.get_running_loop().time() - before < 2  # nothing was made: no long search
    assert daytona.server.count("POST", "/sandbox") == 1


async def test_an_expired_key_names_its_variable(daytona: Daytona, sandbox: DaytonaSandbox) -> None:
    for match, call in ((CREATE, daytona.recipe.create), (LIST, daytona.recipe.list)):
        daytona.server.faults.add(match=match, kind=ExpiredKey())
        asked: Awaitable[Any] = call()
        with pytest.raises(ConfigError, match="DAYTONA_API_KEY"):
            await asked
    assert daytona.server.count("POST", "/sandbox") == 2  # a wrong key is throttled: asked once


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


# the sandbox taken away


async def stop(sandbox: DaytonaSandbox) -> None:
    await sandbox.native.stop()


async def archive(sandbox: DaytonaSandbox) -> None:
    await sandbox.native.stop()
    await sandbox.native.archive()


async def delete(sandbox: DaytonaSandbox) -> None:
    await sandbox.native.delete()


@pytest.mark.parametrize(
    ("way", "reason"),
    [(stop, "stopped"), (archive, "stopped|archived"), (delete, "deleted")],
    ids=["stop", "archive", "delete"],
)
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "busy"])
async def test_a_sandbox_taken_away_is_lost_with_the_reason(
    daytona: Daytona, way: Callable[[DaytonaSandbox], Awaitable[None]], reason: str, *, idle: bool
) -> None:
    async with made(replace(daytona.recipe, lease=None)) as sandbox:
        running = None if idle else await started(sandbox, "exec sleep 987001")
        await way(sandbox)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(SandboxLost, match=reason):
                await (running or sandbox.exec("true"))
        with pytest.raises(SandboxLost):
            await sandbox.fs.read_text("x")
    assert not daytona.living


async def test_a_sandbox_that_errs_under_us_tells_the_reason(daytona: Daytona) -> None:
    async with made(daytona.recipe) as sandbox:
        running = await started(sandbox, "exec sleep 987002")
        fleet = daytona.server._fleet
        (there,) = fleet.sandboxes.values()
        await there.toolbox.stop()
        fleet._fail(there, "error", "its runner is gone")
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(SandboxLost, match="its runner is gone"):
                await running


# cancellation


@pytest.mark.parametrize(
    "stage", [LIST, CREATE, WAIT, EXECUTE], ids=["sweep", "create", "wait", "guest"]
)
async def test_a_creation_cancelled_at_any_stage_leaves_nothing(
    daytona: Daytona, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.daytona.backend.LOST_AND_FOUND", 0.6)
    fault = daytona.server.faults.add(match=stage, kind=Delay(seconds=0.3))
    making = asyncio.create_task(daytona.recipe.create())
    await meeting(fault, making)
    making.cancel()
    before = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert asyncio.get_running_loop().time() - before < 5
    # What the server does with a request that nobody waits for any more is done by then.
    daytona.server.faults.add(match=LIST, kind=Delay(seconds=0.5))
    assert list(await daytona.recipe.list()) == []
    assert not daytona.living


async def test_a_guest_that_does_not_start_can_be_cancelled_promptly(daytona: Daytona) -> None:
    fault = daytona.server.faults.add(match=EXECUTE, kind=Delay(seconds=3600))
    making = asyncio.create_task(daytona.recipe.create())
    await meeting(fault, making)
    making.cancel()
    before = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert asyncio.get_running_loop().time() - before < 3
    assert not daytona.living


async def test_a_creation_cancelled_again_and_again_leaves_nothing(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.daytona.backend.LOST_AND_FOUND", 0.2)
    for step in range(0, 60, 7):
        making = asyncio.create_task(daytona.recipe.create())
        for _ in range(step):
            await asyncio.sleep(0)
        while not making.done():
            making.cancel()
            await asyncio.sleep(0.01)
        assert making.cancelled() or await _closed(making)
        assert not daytona.living


async def _closed(making: asyncio.Task[Any]) -> bool:
    await making.result().aclose()
    return True


async def test_a_cancelled_command_ends_with_its_children_while_the_service_fails(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    command = "setsid sh -c 'echo $$ > pid; : > there; exec sleep 987003' & wait"
    running = await started(sandbox, command)
    await sandbox.exec("until [ -e there ]; do sleep 0.02; done", timeout=DEADLINE)
    daytona.server.faults.add(match=EXECUTE, kind=Status(status=502), times=2)
    daytona.server.faults.add(match=EXECUTE, kind=DropAfter(), times=1, after=2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_running(int(await sandbox.fs.read_text("pid")))


# the end


@pytest.mark.parametrize(
    "match",
    [EXECUTE, DELETE, "POST /api/sandbox/.*/last-activity"],
    ids=["exec", "delete", "lease"],
)
async def test_closing_while_the_service_fails_leaves_nothing(daytona: Daytona, match: str) -> None:
    sandbox = await replace(daytona.recipe, lease=0.3).create()
    assert isinstance(sandbox, DaytonaSandbox)
    running = await started(sandbox, "exec sleep 987004")
    daytona.server.faults.add(match=match, kind=Status(status=503, body="html"), times=3)
    daytona.server.faults.add(match=match, kind=DropBefore(), times=1, after=3)
    async with asyncio.timeout(DEADLINE):
        await sandbox.aclose()
    with pytest.raises(SandboxLost):
        await running
    assert not daytona.living


async def test_a_close_that_fails_for_good_raises_and_closes_the_client(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPEATING", 0.3)
    sandbox = await daytona.recipe.create()
    daytona.server.faults.add(match=DELETE, kind=Status(status=500), times=None)
    with pytest.raises(SandboxError, match="deleting"):
        await sandbox.aclose()
    assert not service._services[asyncio.get_running_loop()]
    daytona.server.faults.clear()
    assert await daytona.recipe.gc() == [sandbox.id]  # nobody holds it any more


MAKER = """
import asyncio, sys
from daytona import DaytonaConfig
from paddock.backends.daytona import DaytonaBackend

async def main():
    config = DaytonaConfig(api_key=sys.argv[1], api_url=sys.argv[2], target="us")
    path = {"PATH": sys.argv[3]}
    recipe = DaytonaBackend(config=config, snapshot=sys.argv[4], env_vars=path)
    async with recipe.sandbox() as sandbox:
        print(sandbox.id, flush=True)
        await sandbox.exec("exec sleep 987005")

asyncio.run(main())
"""


@asynccontextmanager
async def killed_maker(daytona: Daytona) -> AsyncIterator[str]:
    """The sandbox of another process that was ended by SIGKILL; its id."""
    recipe, server = daytona.recipe, daytona.server
    path = os.environ["PATH"]
    maker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKER, server.api_key, server.api_url, path, str(recipe.snapshot),
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},
    )  # fmt: skip
    assert maker.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE * 2):
            identity = (await maker.stdout.readline()).decode().strip()
    finally:
        maker.send_signal(signal.SIGKILL)
        await maker.wait()
    yield identity


async def test_what_a_killed_maker_left_is_swept_by_another_process(daytona: Daytona) -> None:
    async with made(daytona.recipe) as mine, killed_maker(daytona) as identity:
        assert set(daytona.living) == {mine.id, identity}
        (left,) = [info for info in await daytona.recipe.list() if info.id == identity]
        assert left.owner == "gone"
        assert await daytona.recipe.gc() == [identity]
        assert daytona.living == [mine.id]


async def test_what_a_killed_maker_left_ends_by_its_lease(daytona: Daytona) -> None:
    async with killed_maker(daytona) as identity:
        daytona.server.clock.advance(299)
        assert daytona.living == [identity]
        daytona.server.clock.advance(300)
        await daytona.empty()


# an image that is built while somebody watches


@pytest.mark.parametrize(
    "kind", [Status(status=503, body="html"), DropBefore()], ids=lambda kind: type(kind).__name__
)
@pytest.mark.parametrize("log", ["build-logs-url", "build-logs"])
async def test_a_build_whose_log_cannot_be_read_makes_its_sandbox(
    daytona: Daytona, log: str, kind: FaultKind
) -> None:
    fault = daytona.server.faults.add(match=f"GET /api/sandbox/[^/]+/{log}", kind=kind, times=3)
    recipe = replace(daytona.recipe, snapshot=None)
    async with recipe.sandbox(on_progress=lambda _: None) as sandbox:
        assert (await sandbox.exec("echo fine")).stdout == "fine\n"
        assert daytona.living == [sandbox.id]
    assert fault.fired


async def test_a_build_that_fails_tells_the_reason_and_leaves_nothing(daytona: Daytona) -> None:
    kind = FailWith(state="build_failed", reason="no such package: httpxx")
    daytona.server.faults.add(match=CREATE, kind=kind)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="httpxx"):
            await replace(daytona.recipe, snapshot=None).create(on_progress=lambda _: None)
    assert not daytona.living
