"""The handler that the recordings were made with, as a handler of ours."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddock.runtime.remote.handler import AgentInvocation, Sender

__all__ = ["Lab"]


class Error(Exception):
    """As the recorded one, it has metadata, a cause and a detail."""

    def __init__(self, text: str, **attributes: Any) -> None:
        super().__init__(text)
        self.__dict__.update(attributes)


class Lab:
    """Does what a prompt begins with, its times multiplied by `pace`.

    `started` is set when an invocation has begun.
    """

    uses_sandbox = False

    def __init__(self, pace: float = 1.0) -> None:
        self.pace = pace
        self.started = asyncio.Event()
        self._home = asyncio.get_running_loop()

    async def run(self, invocation: AgentInvocation, sender: Sender) -> Any:
        self._home.call_soon_threadsafe(self.started.set)
        kind, _, rest = invocation.user_prompt.partition(":")
        return await getattr(self, kind.lower())(invocation, sender, rest)

    async def _pause(self, milliseconds: str) -> None:
        await asyncio.sleep(int(milliseconds) / 1000 * self.pace)

    async def echo(self, invocation: AgentInvocation, _: Sender, rest: str) -> Any:
        return {"type": "text", "text": rest, "metadata": {"model": invocation.model}}

    async def stream(self, _: AgentInvocation, sender: Sender, rest: str) -> Any:
        for number in range(1, int(rest) + 1):
            sender.send_assistant_message([f"message {number} of {rest}"])
        return f"streamed {rest}"

    async def structured(self, _: AgentInvocation, __: Sender, rest: str) -> Any:
        found = json.loads(rest)
        metadata = {"duration_ms": 5}
        return {"type": "structured_output", "structured_output": found, "metadata": metadata}

    async def slow(self, _: AgentInvocation, __: Sender, rest: str) -> Any:
        await self._pause(rest)
        return "slow done"

    async def abortable(self, _: AgentInvocation, __: Sender, rest: str) -> Any:
        await self._pause(rest)
        return "abortable done"

    async def write(self, _: AgentInvocation, __: Sender, rest: str) -> Any:
        path, text, milliseconds = rest.split("|")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)  # noqa: ASYNC240
        await self._pause(milliseconds)
        return f"wrote {path}"

    async def write_structured(self, _: AgentInvocation, __: Sender, rest: str) -> Any:
        path, text, found = rest.split("|")
        Path(path).write_text(text)  # noqa: ASYNC240
        return json.loads(found)

    async def say_and_wait(self, _: AgentInvocation, sender: Sender, rest: str) -> Any:
        await sender.send_assistant_message(["I wait."])
        await self._pause(rest)
        return "waited"

    async def throw(self, _: AgentInvocation, __: Sender, rest: str) -> Any:
        error = Error(rest, metadata={"phase": "lab"}, code="E_LAB")
        raise error from Error("root cause")

    async def error(self, _: AgentInvocation, sender: Sender, rest: str) -> Any:
        sender.send_error_message(rest, {"source": "lab"})
        raise RuntimeError(rest)

    async def error_then_result(self, _: AgentInvocation, sender: Sender, rest: str) -> Any:
        await sender.send_error_message(rest, {"source": "lab"})
        return "result after error"

    async def big(self, _: AgentInvocation, __: Sender, rest: str) -> Any:
        return "x" * int(rest)

    async def env(self, invocation: AgentInvocation, _: Sender, rest: str) -> Any:
        return json.dumps({"inv": invocation.env.get(rest)})

    async def format(self, invocation: AgentInvocation, _: Sender, __: str) -> Any:
        return {"format": invocation.output_format}
