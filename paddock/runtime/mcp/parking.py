"""Calls that ask the client's user while they run, for clients to which a server sends no requests.

From revision 2026-07-28 on the answer to such a call is its question. Its work stays here until the
client calls again with the answer, and runs on where it was.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from paddock._concurrency import cancel
from paddock.runtime.core.pausing import ANSWER_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from mcp import types

    from paddock.runtime.mcp.toolbox import Ask, Report

    Work = Callable[[Ask, Report], Coroutine[Any, Any, types.CallToolResult]]

__all__ = ["AskingCall", "ParkedCalls"]

MAX_PARKED = 16
"""Calls that wait for an answer: each holds what it has begun, and one of the calls at once."""

_PREFIX = "parked-"


class AskingCall:
    """One call, whose `work` is given what asks and what reports. Begins at once."""

    def __init__(self, work: Work) -> None:
        self.question = ""
        self._answer: asyncio.Future[bool] | None = None
        self._asked = asyncio.Event()
        self._turn = asyncio.Lock()
        self._report: Report | None = None
        self.task = asyncio.create_task(work(self._ask, self._say), name="call of a tool that asks")

    def _say(self, text: str) -> None:
        if self._report is not None:
            self._report(text)

    async def _ask(self, what: str) -> bool:
        async with self._turn:
            self.question, self._answer = what, asyncio.get_running_loop().create_future()
            self._asked.set()
            return await self._answer

    def answer(self, approved: bool) -> None:
        """Answer its question."""
        assert self._answer is not None, "it has asked"
        self._asked.clear()
        self._answer.set_result(approved)

    async def run(self, report: Report) -> types.CallToolResult | None:
        """Return its result; None when it has a `question`. Cancelled, it has ended."""
        self._report = report
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait([self.task, asked], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await cancel(self.task)
            raise
        finally:
            asked.cancel()
        return self.task.result() if self.task.done() else None


class ParkedCalls:
    """The calls of one server that wait for an answer, by the state that their clients hold."""

    def __init__(self) -> None:
        self._calls: dict[str, AskingCall] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[types.CallToolResult]] = set()

    def park(self, call: AskingCall) -> str | None:
        """Keep a call that has a question, and return its state; None if there are too many."""
        if len(self._calls) >= MAX_PARKED:
            return None
        state = f"{_PREFIX}{uuid.uuid4().hex}"
        self._calls[state] = call
        self._timers[state] = asyncio.get_running_loop().call_later(
            ANSWER_TIMEOUT, self._give_up, state
        )
        return state

    def knows(self, state: str) -> bool:
        """Whether `state` is that of a call, which may have ended."""
        return state.startswith(_PREFIX)

    def take(self, state: str) -> AskingCall | None:
        """Return the call of `state`, once; None if it has ended."""
        if (timer := self._timers.pop(state, None)) is not None:
            timer.cancel()
        call = self._calls.pop(state, None)
        return None if call is None or call.task.done() else call

    def _give_up(self, state: str) -> None:
        if (call := self.take(state)) is not None:
            self._ending.add(call.task)
            call.task.add_done_callback(self._ending.discard)
            call.task.cancel()

    async def aclose(self) -> None:
        """End all calls."""
        for state in list(self._calls):
            self._give_up(state)
        if self._ending:
            await cancel(*self._ending)
