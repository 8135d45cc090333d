"""The agent of ``paddock serve --agent echo``: it does what its prompt begins with. For tests."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

from paddock.runtime.remote.failures import RequestFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.remote.handler import AgentInvocation, Sender

__all__ = ["EchoAgent"]


class EchoAgent:
    """Knows these prompts, and says back any other one.

    ``ECHO:text``, ``STRUCTURED:json``, ``SLOW:milliseconds``, ``STREAM:count``,
    ``STREAM_TEXT:text`` (a message for each word), ``ERROR:text``, ``WRITE_FILE:path text`` and
    ``READ_FILE:path``.
    """

    uses_sandbox = False

    async def run(self, invocation: AgentInvocation, sender: Sender) -> Any:
        """Do what the prompt says."""
        kind, _, rest = invocation.user_prompt.partition(":")
        do = _KINDS.get(kind)
        if do is None:
            return _text(invocation, invocation.user_prompt)
        return await do(invocation, sender, rest)


def _text(invocation: AgentInvocation, text: str, **metadata: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, "metadata": {"model": invocation.model, **metadata}}


async def _echo(invocation: AgentInvocation, _: Sender, rest: str) -> Any:
    return _text(invocation, rest)


async def _structured(_: AgentInvocation, __: Sender, rest: str) -> Any:
    began = time.monotonic()
    try:
        found = json.loads(rest)
    except ValueError as error:
        raise RequestFailed(f"STRUCTURED: it is not JSON: {error}") from None
    duration = round((time.monotonic() - began) * 1000)
    return {
        "type": "structured_output",
        "structured_output": found,
        "metadata": {"duration_ms": duration},
    }


async def _slow(invocation: AgentInvocation, _: Sender, rest: str) -> Any:
    await asyncio.sleep(_number(rest) / 1000)
    return _text(invocation, "slow done")


async def _stream(invocation: AgentInvocation, sender: Sender, rest: str) -> Any:
    count = _number(rest)
    for number in range(1, count + 1):
        await sender.send_assistant_message([f"message {number} of {count}"])
    return _text(invocation, f"streamed {count}")


async def _stream_text(invocation: AgentInvocation, sender: Sender, rest: str) -> Any:
    for word in rest.split():
        await sender.send_assistant_message([word])
    return _text(invocation, rest)


async def _error(_: AgentInvocation, sender: Sender, rest: str) -> Any:
    sender.send_error_message(rest, {"source": "echo"})
    raise RequestFailed(rest)


async def _write_file(invocation: AgentInvocation, _: Sender, rest: str) -> Any:
    path, text = rest.split(" ", 1) if " " in rest else (rest, "")
    await asyncio.to_thread(_write, os.path.join(invocation.working_dir, path), text)
    return _text(invocation, f"wrote {path}")


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


async def _read_file(invocation: AgentInvocation, _: Sender, rest: str) -> Any:
    return _text(
        invocation, await asyncio.to_thread(_read, os.path.join(invocation.working_dir, rest))
    )


def _read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read()


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise RequestFailed(f"{text!r} is not a whole number") from None


_KINDS: dict[str, Callable[[AgentInvocation, Sender, str], Awaitable[Any]]] = {
    "ECHO": _echo,
    "STRUCTURED": _structured,
    "SLOW": _slow,
    "STREAM": _stream,
    "STREAM_TEXT": _stream_text,
    "ERROR": _error,
    "WRITE_FILE": _write_file,
    "READ_FILE": _read_file,
}
