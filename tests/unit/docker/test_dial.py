"""Connections to an engine that come to nothing leave no socket open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.docker.engine import dial as engine_dial
from paddock.backends.docker.engine import tls, unix
from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.backends.docker.engine.endpoint import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("listens", [False, True], ids=["refused", "full"])
async def test_of_an_engine_whose_socket_takes_no_connection(
    listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []

    class Socket(socket.socket):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(unix, "CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(
        unix, "socket", types.SimpleNamespace(socket=Socket, AF_UNIX=socket.AF_UNIX)
    )
    with contextlib.ExitStack() as held:
        server = held.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(tmp_path / "s"))
        if listens:
            server.listen(0)
            for _ in range(2):  # which is more than its queue has room for
                caller = held.enter_context(socket.socket(socket.AF_UNIX))
                caller.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    caller.connect(str(tmp_path / "s"))
        with pytest.raises(EngineError, match="no Docker Engine answers"):
            await Engine.connect(f"unix://{tmp_path}/s")
    assert made
    assert [each.fileno() for each in made] == [-1] * len(made)
