"""What the commands of a `FakeBackend` answer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from paddock._arguments import check_seconds
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from paddock.testing.fake.jobs import Source

__all__ = ["Answer", "FakeCall", "Reply", "Script", "read_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a command prints, after so many seconds, and how it ends."""

    stdout: str | bytes = ""
    stderr: str | bytes = ""
    exit_code: int = 0
    after: float = 0.0

    def __post_init__(self) -> None:
        check_seconds("after", self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeCall:
    """A command that a function of the script answers. `text` is what the patterns match."""

    text: str
    argv: Sequence[str]
    cwd: PurePosixPath
    env: Mapping[str, str]
    source: Source

    async def stdin(self) -> bytes:
        """Return all of stdin, once it has ended."""
        return await read_all(self.source)


Answered = Reply | str | bytes | int
"""A reply, only its stdout, or only its exit code."""
Answer = Answered | Callable[[FakeCall], Answered | Awaitable[Answered]]
"""What a pattern leads to. A function that is not asynchronous runs in a thread."""


def is_answer(given: object) -> bool:
    """Return whether a pattern may lead to this."""
    return isinstance(given, Reply | str | bytes | int) or callable(given)


class Script:
    """Patterns of commands, as of `fnmatch`, and their answers. The first one that matches wins."""

    def __init__(self, commands: Mapping[str, Answer]) -> None:
        self._commands = commands

    def find(self, text: str) -> Answer | None:
        """Return the answer for a command, None if the script has none."""
        found = (self._commands[each] for each in self._commands if fnmatchcase(text, each))
        return next(found, None)


async def reply_of(answer: Answer, call: FakeCall) -> Reply:
    """Return the reply to `call`."""
    if callable(answer):
        if inspect.iscoroutinefunction(answer):
            found = await answer(call)
        else:
            found = await asyncio.to_thread(answer, call)
            if inspect.isawaitable(found):
                found = await found
    else:
        found = answer
    match found:
        case Reply():
            return found
        case str() | bytes():
            return Reply(stdout=found)
        case int():
            return Reply(exit_code=found)
    raise ConfigError(f"commands: the answer to {call.text!r} is {found!r}: give a Reply, or text")


async def read_all(source: Source) -> bytes:
    """Return what comes until the end."""
    found = bytearray()
    while data := await source.read():
        found += data
    return bytes(found)
