"""How long a request may wait: as long as whatever is on its way lets it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from daytona import DaytonaConnectionError  # noqa: TID253 - its errors are what is judged here
from tenacity.wait import wait_none

from paddock.backends.daytona import request_channel, service
from paddock.backends.daytona.request_channel import RequestChannel
from paddock.backends.daytona.service import Service
from paddock.backends.guest.link import Link
from paddock.errors import SandboxLost

GONE = 1e-3
"""Seconds after which what fails at once has failed."""


class Proxy:
    """Gives a request up after `limit` seconds by a clock of its own; `waits` are what it saw."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.waits: list[float] = []
        self.now = 0.0
        self.broken = 0
        self.answer = SimpleNamespace(exit_code=0, result="said")
        self.process = self
        self.id = "box"
        self.state = "started"

    def monotonic(self) -> float:
        return self.now

    async def refresh_data(self, **_: Any) -> None:
        """It runs."""

    async def exec(self, command: str, *, timeout: int) -> Any:  # noqa: ASYNC109 - the SDK's
        wanted = float(command)
        assert timeout > wanted
        self.waits.append(wanted)
        if self.broken:
            self.broken -= 1
            self.now += GONE
            raise DaytonaConnectionError("nobody there")
        self.now += min(wanted, self.limit)
        if wanted > self.limit:
            raise DaytonaConnectionError("Server disconnected")
        return self.answer


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Proxy:
    proxy = Proxy(7.0)
    monkeypatch.setattr(request_channel, "time", proxy)
    monkeypatch.setattr(service, "_pause", wait_none())
    return proxy


@pytest.fixture
async def way(proxy: Proxy) -> RequestChannel:
    account: Any = None
    return RequestChannel(Service("key", account, account), proxy, Link())


async def test_what_is_given_up_for_its_waiting_waits_half_as_long_from_then_on(
    proxy: Proxy, way: RequestChannel
) -> None:
    for _ in range(2):
        assert await way.run(str, 20.0) == "said"
    assert proxy.waits == [20.0, 10.0, 5.0, 5.0]
    assert await way.run(str, 0.0) == "said"  # which was not to wait at all
    assert proxy.waits[-1] == 0.0


async def test_what_fails_at_once_was_not_given_up_for_its_waiting(
    proxy: Proxy, way: RequestChannel
) -> None:
    proxy.limit, proxy.broken = 30.0, 3
    assert await way.run(str, 20.0) == "said"
    assert proxy.waits == [20.0] * 4


async def test_no_request_is_shorter_than_is_of_use(proxy: Proxy, way: RequestChannel) -> None:
    proxy.limit = request_channel.SHORTEST
    assert await way.run(str, 20.0) == "said"
    assert proxy.waits == [20.0, 10.0, 5.0, 2.5, 1.25, request_channel.SHORTEST]


async def test_what_a_command_printed_is_shown_without_what_a_terminal_would_obey(
    proxy: Proxy, way: RequestChannel
) -> None:
    proxy.answer = SimpleNamespace(exit_code=1, result="\x1b]0;owned\x07\r\u202eha\ud800\n")
    with pytest.raises(SandboxLost) as lost:
        await way.run(str, 0.0)
    assert "exit 1: \\x1b]0;owned\\x07\\x0d\\x202eha?" in lost.value.reason
