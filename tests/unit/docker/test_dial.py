"""Connections to an engine that come to nothing leave no socket open."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import types

import pytest

from paddock.backends.docker.engine import dial as engine_dial
from paddock.backends.docker.engine import tls
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.endpoint import Endpoint

DEADLINE = 60.0


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[socket.socket, socket.socket]:
    """The two ends that the next dialling passes bytes through."""
    ends = socket.socketpair()
    ours = types.SimpleNamespace(socketpair=lambda: ends, socket=socket.socket)
    for module in (engine_dial, tls):  # and not for event loops, which have pairs of their own
        monkeypatch.setattr(module, "socket", ours)
    return ends


async def test_of_an_engine_behind_ssh_where_there_is_no_ssh(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineError, match="no Docker Engine answers"):
        await engine_dial.dial(Endpoint("ssh://me@there"), "attach", asyncio.Protocol)
    assert [end.fileno() for end in pair] == [-1, -1]


async def test_of_an_engine_behind_tls_when_it_is_cancelled_before_it_has_begun(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    serving = tls._serving_loop()
    held, reached = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        held.wait(DEADLINE)

    serving.call_soon_threadsafe(hold)
    assert reached.wait(DEADLINE)
    dialling = asyncio.ensure_future(tls.dial_tls("localhost", 1, ssl.create_default_context()))
    await asyncio.sleep(0)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    held.set()
    passed = threading.Event()
    serving.call_soon_threadsafe(serving.call_soon, passed.set)
    assert await asyncio.to_thread(passed.wait, DEADLINE)
    assert [end.fileno() for end in pair] == [-1, -1]
