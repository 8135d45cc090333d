"""How long a reply waits for the next piece of an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2
import pytest

from paddock.runtime.models._answer import AnswerBuilder
from paddock.runtime.models._failure import BrokenStream, Failure
from paddock.runtime.models._reply import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE = 30.0


class Silent(httpx2.AsyncByteStream):
    """A body of which nothing comes. Its transport may make an error of a cancellation."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._error is not None:
                raise self._error from None
            raise
        yield b""


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (None, Failure, "the service sent nothing for 0.01 s"),
        (OSError("closed under it"), BrokenStream, "closed under it"),
    ],
    ids=["silence", "an error of the transport"],
)
async def test_a_wait_that_is_over_leaves_its_task_uncancelled(
    error: Exception | None, kind: type[Failure], told: str
) -> None:
    http = httpx2.Response(200, stream=Silent(error))
    async with asyncio.timeout(DEADLINE):
        async with Reply(http, AnswerBuilder(), first=0.01, idle=DEADLINE) as reply:
            with pytest.raises(kind, match=told):
                await reply.read()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left to be cancelled


async def test_who_cancels_a_wait_is_obeyed() -> None:
    http = httpx2.Response(200, stream=Silent())
    async with Reply(http, AnswerBuilder(), first=DEADLINE, idle=DEADLINE) as reply:
        reading = asyncio.create_task(reply.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
