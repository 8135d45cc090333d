"""A command that takes longer than anything between us and it is patient: it runs once, to its
end, and its output and exit code are exact, whatever becomes of the requests that wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tenacity.wait import wait_fixed

from paddock.backends.daytona import long_poll, request_channel, service
from paddock.backends.daytona.long_poll import PATIENCE
from paddock.errors import ExecTimeout
from paddock.testing.daytona import CutWebSocket, DropAfter, DropBefore, GiveUp, Status, Truncate
from tests.e2e.daytona.served import DEADLINE, EVENTS, EXECUTE, is_running, made, meeting, started

if TYPE_CHECKING:
    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from paddock.testing.daytona.faults import FaultKind
    from tests.e2e.conftest import Daytona

LIMIT = 2.0
"""Seconds that the proxy of these tests gives a request."""


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_pause", wait_fixed(0.02))
    monkeypatch.setattr(long_poll, "PATIENCE", 4.0)
    monkeypatch.setattr(request_channel, "SHORTEST", 0.5)


def requests(daytona: Daytona) -> int:
    return daytona.server.count("POST", "/process/execute")


async def test_a_command_outlives_the_limit_that_a_proxy_has_for_requests(
    daytona: Daytona, sandbox: DaytonaSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPEATING", 5.0)  # less than the command takes
    command = "echo x >> runs; echo out; echo err >&2; sleep 7.5; printf 'end\\0'; exit 7"
    before = requests(daytona)
    faults = daytona.server.faults
    cut = faults.add(match=EXECUTE, kind=GiveUp(seconds=LIMIT))
    told = faults.add(match=EXECUTE, kind=GiveUp(seconds=LIMIT, status=524), times=None, after=1)
    result = await sandbox.exec(command)
    faults.clear()
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (7, b"out\nend\0", "err\n")
    assert await sandbox.fs.read_text("runs") == "x\n"
    # 4 and 2 s were too long, 1 s is not.
    asked = cut.fired + told.fired
    assert 4 <= asked <= 2 + (7.5 - 2 * LIMIT) + 1
    assert requests(daytona) - before == asked + 1
    assert 524 in {each.status for each in daytona.server.requests}


async def test_output_as_it_comes_is_whole_and_in_order_over_many_cuts(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    seen: list[bytes] = []
    command = "echo x >> runs; for i in $(seq 30); do echo $i; sleep 0.05; done; exit 5"
    running = asyncio.create_task(
        sandbox.exec(command, on_output=lambda _, data: seen.append(data))
    )
    cuts: list[FaultKind] = [
        DropAfter(),
        DropBefore(),
        Truncate(bytes=5),
        GiveUp(seconds=0.01),
        Status(status=502),
    ]
    for kind in cuts * 2:
        await meeting(daytona.server.faults.add(match=EXECUTE, kind=kind), running)
    assert (await running).exit_code == 5
    assert b"".join(seen) == "".join(f"{number}\n" for number in range(1, 31)).encode()
    assert await sandbox.fs.read_text("runs") == "x\n"


async def test_a_command_runs_on_while_the_websocket_of_events_is_cut(daytona: Daytona) -> None:
    cut = daytona.server.faults.add(match=EVENTS, kind=CutWebSocket(bytes=120), times=4)
    async with made(daytona.recipe) as sandbox:
        running = await started(sandbox, "echo x >> runs; sleep 2; echo done; exit 3")
        # With them the service says that a sandbox has changed; each is one more thing to lose.
        await sandbox.native.set_labels({**sandbox.native.labels, "more": "1"})
        result = await running
        assert (result.exit_code, result.stdout) == (3, "done\n")
        assert await sandbox.fs.read_text("runs") == "x\n"
    assert cut.fired >= 1


async def test_a_timeout_and_a_cancellation_end_the_command_behind_a_hasty_proxy(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    daytona.server.faults.add(match=EXECUTE, kind=GiveUp(seconds=LIMIT), times=None)
    command = "setsid sh -c 'echo $$ > pid; exec sleep 988001' & echo partial; wait"
    with pytest.raises(ExecTimeout) as caught:
        await sandbox.exec(command, timeout=3)
    assert caught.value.result.stdout == "partial\n"
    assert not await is_running(sandbox, int(await sandbox.fs.read_text("pid")))
    running = await started(sandbox, "echo $$ > pid; exec sleep 988002")
    running.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert not await is_running(sandbox, int(await sandbox.fs.read_text("pid")))


async def test_no_request_waits_as_long_as_a_proxy_usually_does() -> None:
    assert PATIENCE < 30
