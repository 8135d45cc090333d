"""What a thousand agents cost in one process, written as a user would, beside loops without us.

Each agent makes five real tool calls, shell commands in a directory of its own, and then answers.
All talk to one scripted server in a process of its own; each contender is a process, too:

- ``paddock``: a session of an `Agent` with the developer profile, its own model client and a
  `LocalBackend` sandbox without isolation, with events, checks, redaction and clean-up.
- ``aiohttp + spawn``: the least that does the same: a POST, the stream's lines as JSON, and
  `asyncio.create_subprocess_exec`.
- ``openai loop``: the streaming loop that the client's documentation shows, with one client for
  all, and the same spawn.

CPU is that of the contender's process, user and system, without its children's. The ratios are to
the ``openai loop`` for CPU, and to ``aiohttp + spawn`` for time.

    python bench/thousand.py [--quick] [--agents 1000] [--at-once 1000] [--rounds 1]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Messages = list[dict[str, Any]]
    Ask = Callable[[Messages], Awaitable[dict[str, Any]]]
    Run = Callable[[], Awaitable[None]]

CALLS = 5
COMMAND = "echo {number} >> notes.txt; cat notes.txt"
SCRIPT: list[dict[str, Any]] = [
    *(
        {
            "text": "I add a line to my notes and look at what is there.",
            "tool_calls": [{"name": "bash", "arguments": {"command": COMMAND.format(number=n)}}],
            "usage": {"input_tokens": 1200, "output_tokens": 40},
        }
        for n in range(CALLS)
    ),
    {"text": "There are five lines.", "usage": {"input_tokens": 1400, "output_tokens": 10}},
]
PROMPT = "You keep notes."
TASK = "Write five lines."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "description": "Run a command in a shell.",
            "parameters": {
                "type": "object",
                "properties": {"command": {"type": "string"}},
                "required": ["command"],
            },
        },
    }
]
TIMEOUT = 600.0
"""Seconds. By default the client gives a connection up after 5: too few for a thousand."""


async def paddock_agents() -> AsyncIterator[Run]:
    from paddock import Agent, AgentConfig, LocalBackend, Session

    agent = Agent(
        AgentConfig(
            system_prompt=PROMPT,
            model="scripted",
            profile="developer",
            backend=LocalBackend(isolation="none"),
        )
    )

    async def run() -> None:
        async with Session(agent) as session:
            result = await session.run(prompt=TASK)
        assert result.status == "completed", result
        assert len(session.state.messages) == 2 + 2 * CALLS

    yield run


async def openai_loop() -> AsyncIterator[Run]:
    import openai

    async with openai.AsyncOpenAI(timeout=TIMEOUT) as client:
        untyped: Any = client.chat.completions  # the messages are plain dictionaries

        async def ask(messages: Messages) -> dict[str, Any]:
            stream = await untyped.create(
                model="scripted",
                messages=messages,
                tools=TOOLS,
                stream=True,
                stream_options={"include_usage": True},
            )
            answer = Answer()
            async for chunk in stream:
                for choice in chunk.choices:
                    answer.add(choice.delta.model_dump(exclude_none=True))
            return answer.message()

        yield lambda: converse(ask)


async def aiohttp_loop() -> AsyncIterator[Run]:
    import aiohttp

    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def ask(messages: Messages) -> dict[str, Any]:
            body = {"model": "scripted", "messages": messages, "tools": TOOLS, "stream": True}
            answer = Answer()
            async with session.post(url, json=body) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        for choice in json.loads(line[6:])["choices"]:
                            answer.add(choice["delta"])
            return answer.message()

        yield lambda: converse(ask)


class Answer:
    """What the pieces of a stream make up; there is at most one call."""

    def __init__(self) -> None:
        self._text = ""
        self._call = {"id": "", "name": "", "arguments": ""}

    def add(self, delta: dict[str, Any]) -> None:
        self._text += delta.get("content") or ""
        for call in delta.get("tool_calls") or ():
            self._call["id"] += call.get("id") or ""
            for name, piece in call.get("function", {}).items():
                self._call[name] += piece or ""

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text}
        if self._call["id"]:
            function = {"name": self._call["name"], "arguments": self._call["arguments"]}
            message["tool_calls"] = [
                {"id": self._call["id"], "type": "function", "function": function}
            ]
        return message


async def converse(ask: Ask) -> None:
    with tempfile.TemporaryDirectory() as folder:
        messages: Messages = [
            {"role": "system", "content": PROMPT},
            {"role": "user", "content": TASK},
        ]
        while "tool_calls" in (message := await ask(messages)):
            (call,) = message["tool_calls"]
            command = json.loads(call["function"]["arguments"])["command"]
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=folder,
            )
            output = (await process.communicate())[0].decode()
            result = {"role": "tool", "tool_call_id": call["id"], "content": output}
            messages += [message, result]
        assert len(messages) == 2 + 2 * CALLS


CONTENDERS = {
    "paddock": paddock_agents,
    "aiohttp + spawn": aiohttp_loop,
    "openai loop": openai_loop,
}


async def contend(name: str, agents: int, at_once: int) -> dict[str, float]:
    """Run all agents of one contender; return its costs."""
    begun, used = time.perf_counter(), time.process_time()
    room = asyncio.Semaphore(at_once)

    async def one(run: Run) -> None:
        async with room:
            await run()

    async with contextlib.asynccontextmanager(CONTENDERS[name])() as run:
        await asyncio.gather(*(one(run) for _ in range(agents)))
    return {
        "cpu": time.process_time() - used,
        "wall": time.perf_counter() - begun,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def serve() -> None:
    from paddock.testing.model_server import ModelServer

    async with ModelServer(SCRIPT) as server:
        print(server.base_url, server.api_key, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def measure(agents: int, at_once: int, rounds: int) -> None:
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, costs in taken.items():
            costs.append(measured(name, agents, at_once))
    typical = {
        name: {what: statistics.median(each[what] for each in costs) for what in costs[0]}
        for name, costs in taken.items()
    }
    cpu, wall = typical["openai loop"]["cpu"], typical["aiohttp + spawn"]["wall"]
    print(f"{agents} agents of {CALLS} calls each, {at_once} at once")
    print(f"{'':18}{'CPU s':>8}{'ratio':>8}{'time s':>9}{'ratio':>8}{'peak MiB':>11}")
    for name, found in typical.items():
        print(
            f"{name:18}{found['cpu']:8.2f}{found['cpu'] / cpu:7.2f}x"
            f"{found['wall']:9.1f}{found['wall'] / wall:7.2f}x{found['rss']:11.0f}"
        )


def measured(name: str, agents: int, at_once: int) -> dict[str, float]:
    """Have a server and a contender of their own, so that none meets what another one left."""
    ours = [sys.executable, __file__, "--agents", str(agents), "--at-once", str(at_once)]
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*ours, "--serve"], **piped) as server:  # type: ignore[call-overload]
        base_url, api_key = server.stdout.readline().split()
        account = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": api_key}
        try:
            told = subprocess.run(
                [*ours, "--contender", name],
                env={**os.environ, **account},
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        finally:
            server.communicate()
    costs: dict[str, float] = json.loads(told)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100 agents, to try it out")
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--at-once", type=int, help="as many at a time; all, if not given")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    agents = 100 if options.quick else options.agents
    at_once = options.at_once or agents
    if options.serve:
        asyncio.run(serve())
    elif options.contender:
        print(json.dumps(asyncio.run(contend(options.contender, agents, at_once))))
    else:
        measure(agents, at_once, options.rounds)


if __name__ == "__main__":
    main()
