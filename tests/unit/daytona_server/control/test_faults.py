"""Every fault of the conformance server, as the unmodified SDK meets it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from daytona import (  # noqa: TID253 - the SDK is what is served here
    CreateSandboxFromSnapshotParams,
    DaytonaAuthenticationError,
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaConnectionError,
    DaytonaError,
    DaytonaNotFoundError,
    DaytonaRateLimitError,
    DaytonaServiceUnavailableError,
    DaytonaTimeoutError,
)

from paddock.testing.daytona import (
    CutWebSocket,
    DaytonaServer,
    Delay,
    DestroyDuringStart,
    DropAfter,
    DropBefore,
    ExpiredKey,
    FailWith,
    GiveUp,
    MoveProxy,
    Quota,
    SilentEvents,
    Status,
    StuckIn,
    Truncate,
)
from tests.unit.daytona_server.control.conftest import Echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from daytona import AsyncDaytona

DEADLINE = 60.0  # seconds for what takes milliseconds
EXECUTE = "POST /toolbox/.*/process/execute"
CREATE = "POST /api/sandbox"
HOUR = 3600.0


async def test_a_status_comes_with_its_headers_and_executes_nothing(
    server: DaytonaServer, daytona: AsyncDaytona, executions: Callable[[], int]
) -> None:
    sandbox = await daytona.create()
    fault = server.faults.add(match=EXECUTE, kind=Status(status=429, headers={"Retry-After": "7"}))
    with pytest.raises(DaytonaRateLimitError) as caught:
        await sandbox.process.exec("true")
    assert caught.value.headers["Retry-After"] == "7"
    assert (fault.fired, executions()) == (1, 0)
    await sandbox.process.exec("true")
    assert (fault.fired, executions()) == (1, 1)


@pytest.mark.parametrize("body", ["json", "html", "empty"])
async def test_a_status_has_the_body_that_was_asked_for(
    server: DaytonaServer, daytona: AsyncDaytona, body: str
) -> None:
    server.faults.add(match="GET /api/sandbox/one", kind=Status(status=503, body=body))  # type: ignore[arg-type]
    with pytest.raises(DaytonaServiceUnavailableError) as caught:
        await daytona.get("one")
    assert ("<html>" in str(caught.value)) is (body == "html")


async def test_a_fault_lets_as_many_go_as_it_was_told(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    fault = server.faults.add(match="GET /api/sandbox", kind=Status(status=500), times=2, after=1)
    outcomes = []
    for _ in range(4):
        try:
            assert [each async for each in daytona.list()] == []
            outcomes.append(200)
        except DaytonaError as error:
            outcomes.append(error.status_code or 0)
    assert outcomes == [200, 500, 500, 200]
    assert fault.fired == 2


async def test_a_delay_goes_on_as_if_nothing_had_been(
    server: DaytonaServer, daytona: AsyncDaytona, executions: Callable[[], int]
) -> None:
    sandbox = await daytona.create()
    server.faults.add(match=EXECUTE, kind=Delay(seconds=0.1))
    began = time.monotonic()
    await sandbox.process.exec("true")
    assert time.monotonic() - began >= 0.1
    assert executions() == 1


async def test_a_delay_ends_with_the_server(
    other_server: Callable[..., DaytonaServer], connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    async with asyncio.timeout(DEADLINE), other_server() as server:
        server.faults.add(match="GET /api/sandbox/.*", kind=Delay(seconds=HOUR))
        async with connected(server) as daytona:
            with pytest.raises(DaytonaTimeoutError):
                await daytona.get("one", request_timeout=1)


async def test_a_connection_dropped_before_has_executed_nothing(
    server: DaytonaServer, daytona: AsyncDaytona, executions: Callable[[], int]
) -> None:
    sandbox = await daytona.create()
    server.faults.add(match=EXECUTE, kind=DropBefore())
    with pytest.raises(DaytonaConnectionError):
        await sandbox.process.exec("true")
    assert executions() == 0
    assert server.count("POST", "/process/execute") == 1, "the SDK does not repeat a POST"
    assert server.requests[-1].status is None


async def test_a_connection_dropped_after_has_executed_once(
    server: DaytonaServer, daytona: AsyncDaytona, executions: Callable[[], int]
) -> None:
    sandbox = await daytona.create()
    server.faults.add(match=EXECUTE, kind=DropAfter())
    with pytest.raises(DaytonaConnectionError):
        await sandbox.process.exec("true")
    assert executions() == 1


async def test_a_sandbox_whose_answer_was_dropped_is_there_by_its_name(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    server.faults.add(match=CREATE, kind=DropAfter())
    with pytest.raises(DaytonaConnectionError):
        await daytona.create(CreateSandboxFromSnapshotParams(name="lost"))
    assert (await daytona.get("lost")).name == "lost"


async def test_an_answer_is_truncated_at_the_byte(
    server: DaytonaServer, daytona: AsyncDaytona, executions: Callable[[], int]
) -> None:
    sandbox = await daytona.create()
    fault = server.faults.add(match=EXECUTE, kind=Truncate(bytes=5))
    with pytest.raises(DaytonaError):
        await sandbox.process.exec("true")
    assert (fault.fired, executions()) == (1, 1)
    assert server.count("POST", "/process/execute") == 1, "the relayed one does not count"


async def test_a_download_is_truncated_and_the_server_goes_on(
    connected: Callable[[DaytonaServer], AsyncDaytona], caplog: pytest.LogCaptureFixture
) -> None:
    content = b"x" * 3_000_000
    async with DaytonaServer() as server, connected(server) as daytona:
        sandbox = await daytona.create()
        await sandbox.fs.upload_file(content, "big")
        server.faults.add(match="POST /toolbox/.*/bulk-download", kind=Truncate(bytes=1000))
        with pytest.raises(DaytonaError):
            await sandbox.fs.download_file("big")
        assert await sandbox.fs.download_file("big") == content
        assert server.violations == []
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


@pytest.mark.parametrize(("code", "ends"), [(1000, True), (1006, False)])
async def test_a_websocket_is_cut_at_the_byte(
    server: DaytonaServer, daytona: AsyncDaytona, code: int, ends: bool
) -> None:
    sandbox = await daytona.create()
    server.faults.add(match="GET /toolbox/.*/logs", kind=CutWebSocket(bytes=14, code=code))  # type: ignore[arg-type]
    lines: list[str] = []
    follow = sandbox.process.get_session_command_logs_async("s", "c", lines.append, lines.append)
    if ends:
        await follow
    else:
        with pytest.raises(DaytonaError, match="1006"):
            await follow
    assert "".join(lines) == "line 0\nl"


@pytest.mark.parametrize("status", [None, 524])
async def test_a_request_that_is_given_up_goes_on(
    other_server: Callable[..., DaytonaServer],
    connected: Callable[[DaytonaServer], AsyncDaytona],
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    handle = Echo.handle

    async def slowly(toolbox: Echo, request: web.Request, path: str) -> web.StreamResponse:
        await asked.wait()
        answered.set()
        return await handle(toolbox, request, path)

    monkeypatch.setattr(Echo, "handle", slowly)
    async with other_server() as server, connected(server) as daytona:
        sandbox = await daytona.create()
        server.faults.add(match=EXECUTE, kind=GiveUp(seconds=0.05, status=status))
        with pytest.raises(DaytonaError) as caught:
            await sandbox.process.exec("true")
        assert caught.value.status_code == status
        assert not answered.is_set()
        asked.set()
        async with asyncio.timeout(DEADLINE):
            await answered.wait()


async def test_a_request_that_is_answered_in_time_is_not_given_up(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    server.faults.add(match=".*", kind=GiveUp(seconds=DEADLINE), times=None)
    sandbox = await daytona.create()
    assert (await sandbox.process.exec("true")).exit_code == 0


async def test_a_websocket_that_is_not_cut_is_whole(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create()
    lines: list[str] = []
    await sandbox.process.get_session_command_logs_async("s", "c", lines.append, lines.append)
    assert "".join(lines) == "line 0\nline 1\nline 2\n"


async def test_a_sandbox_that_is_being_made_can_be_found_and_not_deleted(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    server.faults.add(match=CREATE, kind=StuckIn(state="creating"))
    with pytest.raises(DaytonaTimeoutError) as caught:
        await daytona.create(timeout=1)
    assert caught.value.sandbox_id is not None
    sandbox = await daytona.get(caught.value.sandbox_id)
    assert sandbox.state == "creating"
    with pytest.raises(DaytonaConflictError):
        await sandbox.delete()
    server.release()
    await sandbox.wait_for_sandbox_start()
    await sandbox.delete(wait=True)
    assert not server.sandboxes


async def test_a_start_that_fails_says_why_and_is_recovered(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create()
    await sandbox.stop()
    kind = FailWith(state="error", reason="no space left", recoverable=True)
    server.faults.add(match="POST /api/sandbox/.*/start", kind=kind)
    with pytest.raises(DaytonaError, match=r"SandboxState\.ERROR"):
        await sandbox.start()
    await sandbox.refresh_data()  # the SDK leaves the reason out when an event told it
    assert sandbox.error_reason == "no space left"
    await sandbox.recover()
    assert server.sandboxes[sandbox.id].state == "started"


async def test_a_sandbox_destroyed_during_its_start_is_not_found(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    server.faults.add(match=CREATE, kind=DestroyDuringStart())
    with pytest.raises(DaytonaNotFoundError):
        await daytona.create(timeout=5)
    assert not server.sandboxes


async def test_quota_and_an_expired_key_are_refused_in_the_words_of_the_service(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    server.faults.add(match=CREATE, kind=Quota())
    with pytest.raises(DaytonaBadRequestError, match="limit exceeded"):
        await daytona.create()
    server.faults.add(match=CREATE, kind=ExpiredKey())
    with pytest.raises(DaytonaAuthenticationError, match="Invalid credentials"):
        await daytona.create()
    assert not server.sandboxes


async def test_the_toolbox_moves_and_is_found_after_a_look(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create()
    before = sandbox.toolbox_proxy_url
    server.faults.add(match="POST /api/sandbox/.*/last-activity", kind=MoveProxy())
    await sandbox.refresh_activity()
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.process.exec("true")
    await sandbox.refresh_data()
    assert sandbox.toolbox_proxy_url != before
    await sandbox.process.exec("true")
    assert server.count("POST", "/process/execute") == 2


async def test_without_events_a_wait_lasts_until_the_next_poll(
    other_server: Callable[..., DaytonaServer], connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    async with other_server(delay=0.2) as server, connected(server) as daytona:
        sandbox = await daytona.create()
        server.faults.add(match="POST /api/sandbox/.*/stop", kind=SilentEvents())
        began = time.monotonic()
        await sandbox.stop()
        assert time.monotonic() - began > 0.9, "the SDK polls once per second"


async def test_events_that_are_refused_leave_polling(
    other_server: Callable[..., DaytonaServer], connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    async with other_server() as server:
        refused = server.faults.add(
            match="GET /api/socket.io/", kind=Status(status=503), times=None
        )
        async with connected(server) as daytona:
            assert (await daytona.create()).state == "started"
        assert refused.fired >= 1


async def test_a_preview_meets_faults_too(server: DaytonaServer, daytona: AsyncDaytona) -> None:
    sandbox = await daytona.create()
    server.faults.add(match="GET /preview/.*", kind=Status(status=502, body="html"))
    link = await sandbox.get_preview_link(1)
    async with aiohttp.ClientSession() as session, session.get(link.url) as answer:
        assert answer.status == 502
        assert "<html>" in await answer.text()
