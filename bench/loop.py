"""What a turn costs in CPU time: our model and our whole loop beside the bare client.

All read the same streams from one server in a process of its own, in conversations of
20 turns that grow by a tool call and its result each. ``bare client`` is the loop that
the client's documentation shows; ``our model`` reads the same stream raw; ``our loop``
is a session with that model, a tool that answers at once, events and a trace on disk.
Milliseconds of CPU for each turn, user and system, the best of several runs.

Then 1,000 sessions at once in one process, each with a scripted model, a tool and a
trace: time, and how much memory they took at the most.

    python bench/loop.py [--gap SECONDS] [--sessions 1000]

With a gap the server's events come one by one, as from a slow service; without one
several come at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import openai  # noqa: TID253 - it is what is measured

from paddock import (
    Agent,
    AgentConfig,
    ScriptedModel,
    Session,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)
from paddock.runtime.core.model import ModelClient, ModelRequest, ModelResponse
from paddock.runtime.models.openai import OpenAIModel
from paddock.testing.model_server import ModelServer

TURNS = 20
SESSIONS = 10
RUNS = 5
COMMAND = "cd /work && python -m pytest -q tests/test_calc.py 2>&1 | tail -40"
TURN = {
    "text": "I look at the failing test first and then read the module that it imports.",
    "tool_calls": [{"name": "bash", "arguments": {"command": COMMAND, "timeout": 120}}],
    "usage": {"input_tokens": 1200, "output_tokens": 60, "cached_tokens": 1000},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "What it does, when to use it, and when not to. " * 5,
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string", "description": "Where. " * 10}},
                "required": ["path"],
            },
        },
    }
    for name in ("bash", "read", "write", "edit", "list", "glob", "grep")
]
Messages = list[dict[str, Any]]
Ask = Callable[[Messages], Awaitable[None]]


def bare_client(client: Any) -> Ask:
    """The loop that the client's documentation shows; untyped, as the messages are."""

    async def ask(messages: Messages) -> None:
        stream = await client.chat.completions.create(
            model="scripted",
            messages=messages,
            tools=TOOLS,
            stream=True,
            stream_options={"include_usage": True},
        )
        texts: list[str] = []
        arguments: dict[int, str] = {}
        async for chunk in stream:
            if not chunk.choices:
                continue
            delta = chunk.choices[0].delta
            texts.append(delta.content or "")
            for call in delta.tool_calls or ():
                piece = (call.function and call.function.arguments) or ""
                arguments[call.index] = arguments.get(call.index, "") + piece
        assert COMMAND in arguments[0]

    return ask


def our_model(model: OpenAIModel) -> Ask:
    async def ask(messages: Messages) -> None:
        request = ModelRequest(model="scripted", messages=messages, tools=TOOLS)
        response = [event async for event in model.stream(request)][-1]
        assert isinstance(response, ModelResponse)
        assert COMMAND in response.tool_calls[0].arguments

    return ask


async def converse(ask: Ask) -> None:
    messages: Messages = [
        {"role": "system", "content": "You are careful. " * 120},
        {"role": "user", "content": "Mend it."},
    ]
    for number in range(TURNS):
        await ask(messages)
        function = {"name": "bash", "arguments": "{}"}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": TURN["text"], "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "a line of output\n" * 25},
        ]


class Answer(ToolHandler):
    """A tool that answers at once, so that what is measured is the loop."""

    name = "bash"
    description = "What it does, when to use it, and when not to. " * 5
    parameters: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"command": {"type": "string"}, "timeout": {"type": "integer"}},
        "required": ["command"],
    }

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        return ToolOutput(content="a line of output\n" * 25)


def our_agent() -> Agent:
    agent = Agent(AgentConfig(system_prompt="You are careful. " * 120, model="scripted"))
    agent.registry.clear()
    agent.registry.register(Answer())
    return agent


async def run_session(agent: Agent, model: ModelClient, folder: Path) -> None:
    async with Session(agent, client=model, session_dir=folder) as session:
        result = await session.run(prompt="Mend it.", max_turns=TURNS)
    assert len(session.state.messages) == 1 + 2 * TURNS, result


async def cost_of_turn(converse: Callable[[], Awaitable[None]]) -> float:
    """Milliseconds of CPU."""
    await converse()
    best = float("inf")
    for _ in range(RUNS):
        begin = time.process_time()
        for _ in range(SESSIONS):
            await converse()
        best = min(best, time.process_time() - begin)
    return best / SESSIONS / TURNS * 1000


async def serve(gap: float) -> None:
    async with ModelServer([TURN] * TURNS, gap=gap) as server:
        print(server.base_url, server.api_key, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def measure(base_url: str, api_key: str) -> None:
    model = OpenAIModel(base_url=base_url, api_key=api_key)
    agent = our_agent()
    with tempfile.TemporaryDirectory() as name:
        folders = (Path(name, str(number)) for number in itertools.count())
        async with openai.AsyncOpenAI(base_url=base_url, api_key=api_key) as client:
            costs = {
                "bare client": await cost_of_turn(lambda: converse(bare_client(client))),
                "our model": await cost_of_turn(lambda: converse(our_model(model))),
                "our loop": await cost_of_turn(lambda: run_session(agent, model, next(folders))),
            }
    await model.aclose()
    for contender, cost in costs.items():
        print(f"{contender:12}{cost:7.2f} ms/turn{cost / costs['bare client']:7.2f}x")


async def many(count: int) -> None:
    agent = our_agent()
    model = ScriptedModel([TURN] * TURNS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as name:
        begin = time.perf_counter()
        await asyncio.gather(
            *(run_session(agent, model, Path(name, str(number))) for number in range(count))
        )
        taken = time.perf_counter() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{count} sessions of {TURNS} turns at once: {taken:.1f} s, "
        f"{taken / count / TURNS * 1000:.2f} ms/turn, peak {grown:.0f} MiB above the start"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gap", type=float, default=0.0, help="seconds between events")
    parser.add_argument("--sessions", type=int, default=1000, help="how many at once")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return asyncio.run(serve(options.gap))
    command = [sys.executable, __file__, "--serve", "--gap", str(options.gap)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        base_url, api_key = server.stdout.readline().split()
        asyncio.run(measure(base_url, api_key))
        server.communicate()
    asyncio.run(many(options.sessions))
    return None


if __name__ == "__main__":
    main()
