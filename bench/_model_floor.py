"""What a turn of a conversation costs in CPU time: our model next to the bare client.

Both read the same streams from one server in a process of its own, with histories that
grow by a tool call and its result each turn. Prints milliseconds of CPU for each turn,
user and system, the best of several runs. With a gap the events come one by one, as from
a slow service; without one several come at a time.

    python bench/_model_floor.py [--gap SECONDS]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import openai  # noqa: TID253 - it is what is measured

from paddock.runtime.models.base import ModelRequest, ModelResponse
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


async def cost_of_turn(ask: Ask) -> float:
    """Milliseconds of CPU."""
    await converse(ask)
    best = float("inf")
    for _ in range(RUNS):
        begin = time.process_time()
        for _ in range(SESSIONS):
            await converse(ask)
        best = min(best, time.process_time() - begin)
    return best / SESSIONS / TURNS * 1000


async def serve(gap: float) -> None:
    async with ModelServer([TURN] * TURNS, gap=gap) as server:
        print(server.base_url, server.api_key, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def measure(base_url: str, api_key: str) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=api_key) as client:
        bare = await cost_of_turn(bare_client(client))
    model = OpenAIModel(base_url=base_url, api_key=api_key)
    ours = await cost_of_turn(our_model(model))
    await model.aclose()
    print(f"bare client {bare:6.2f} ms/turn")
    print(f"our model   {ours:6.2f} ms/turn, {ours / bare:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gap", type=float, default=0.0, help="seconds between events")
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
    return None


if __name__ == "__main__":
    main()
