"""Messages of the in-sandbox runtime, beside a bare `websockets` echo of frames of the same size.

``streamed`` is assistant messages a second, from the handler's thread to the client's callback,
beside frames that are sent one after the other and echoed. ``one message`` is how long one takes
on that way, where they are far between, and ``one request`` a whole request of a session, beside
the way of one frame there and back; the median of each.

    python bench/remote.py [--count N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

import websockets
from websockets.asyncio.server import ServerConnection, serve

from paddock import QueryOptions, RuntimeServer, RuntimeUseClient

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT = "The quick brown fox jumps over the lazy dog. " * 4
ROUNDS = 3
PAUSE = 0.002
"""Seconds between two messages whose way is measured."""


class Agent:
    """Streams as many messages as its prompt says; with a pause before each, when it was sent."""

    uses_sandbox = False

    async def run(self, invocation: Any, sender: Any) -> str:
        count, _, paced = invocation.user_prompt.partition(" ")
        for _ in range(int(count)):
            if paced:
                await asyncio.sleep(PAUSE)
            await sender.send_assistant_message([str(time.perf_counter()) if paced else TEXT])
        return "done"


async def echo(socket: ServerConnection) -> None:
    async for text in socket:
        await socket.send(text)


async def main() -> None:
    parser = argparse.ArgumentParser(description="messages a second of the in-sandbox runtime")
    parser.add_argument("--count", type=int, default=5000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        async with (
            serve(echo, "127.0.0.1", 0, compression=None) as bare,
            RuntimeServer(Agent(), port=0, working_dir=folder, state_dir=folder) as server,
        ):
            port = next(iter(bare.sockets)).getsockname()[1]
            client = RuntimeUseClient(server.url)
            floor, ours = [], []
            for _ in range(ROUNDS):
                async with websockets.connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
                    floor.append(await of_echo(socket, count))
                ours.append(await of_ours(client, count))
    best, bare_best = max(each[0] for each in ours), max(each[0] for each in floor)
    print(f"streamed, messages/s  {best:8.0f}    echo {bare_best:8.0f}    {best / bare_best:5.2f}x")
    way = least(floor, 1)
    for what, column in (("one message", 1), ("one request", 2)):
        found = least(ours, column)
        print(f"{what}, median ms {found:10.3f}    echo {way:8.3f}    {way / found:5.2f}x")


def least(rounds: Sequence[tuple[float, ...]], column: int) -> float:
    return min(each[column] for each in rounds) * 1000


async def of_echo(socket: websockets.ClientConnection, count: int) -> tuple[float, ...]:
    frame = json.dumps({"message_type": "assistant_message", "text_blocks": [TEXT]})

    async def send() -> None:
        for _ in range(count):
            await socket.send(frame)

    began = time.perf_counter()
    sending = asyncio.create_task(send())
    for _ in range(count):
        json.loads(await socket.recv())
    await sending
    streamed = count / (time.perf_counter() - began)
    times = []
    for _ in range(count // 10):
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        await socket.send(frame)
        json.loads(await socket.recv())
        times.append(time.perf_counter() - began)
    return streamed, statistics.median(times)


async def of_ours(client: RuntimeUseClient, count: int) -> tuple[float, ...]:
    heard = 0
    ways: list[float] = []

    async def on_assistant(message: Any) -> None:
        nonlocal heard
        heard += 1
        if message.text_blocks != [TEXT]:
            ways.append(time.perf_counter() - float(message.text_blocks[0]))

    options = QueryOptions("s", "m", on_assistant_message=on_assistant)
    async with client.session() as session:
        began = time.perf_counter()
        await session.query(str(count), options)
        streamed = count / (time.perf_counter() - began)
        if heard != count:
            raise RuntimeError(f"{heard} of {count} messages came")
        await session.query(f"{count // 10} paced", options)
        times = []
        for _ in range(count // 10):
            began = time.perf_counter()
            await session.query("0", options)
            times.append(time.perf_counter() - began)
    return streamed, statistics.median(ways), statistics.median(times)


asyncio.run(main())
