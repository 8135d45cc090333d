"""A server of an agent's: connected when it is first needed, and again after it has died."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from paddock._logs import get_logger
from paddock.errors import PaddockError, ToolError
from paddock.redaction import Redactor
from paddock.runtime.core.lazy import LazyResource
from paddock.runtime.core.pausing import ANSWER_TIMEOUT, PausableTimeout
from paddock.runtime.tools.mcp.messages import UNREADABLE
from paddock.runtime.tools.mcp.session import ServerSession
from paddock.runtime.tools.mcp.transports import LastWords, by_http, by_process

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from mcp import types
    from mcp.client._transport import TransportStreams

    from paddock.runtime.tools.mcp.config import McpServer
    from paddock.runtime.tools.mcp.questions import Ask
    from paddock.sandbox import Sandbox

__all__ = ["Connection", "GetSandbox"]

GetSandbox = Callable[[], Awaitable["Sandbox"]]

FIRST_BACKOFF = 0.5
"""Seconds between the second death of a server and its next start; twice as many after each."""

MAX_BACKOFF = 60.0

STABLE = 60.0
"""Seconds after which a server that lived so long counts as sound again."""

MAX_WAIT = 5.0
"""Seconds that a call waits for the next start; longer, it fails and says when that is."""

SIGN_OF_LIFE = 5.0
"""Seconds in which a server that let a call time out has to answer another one."""

_log = get_logger(__name__)


class Connection:
    """The connection to one server, whose process runs in what `get_sandbox` returns."""

    def __init__(self, server: McpServer, get_sandbox: GetSandbox) -> None:
        self.server = server
        self.redactor = Redactor()
        """Knows the values of the variables that the server gets."""
        self._get_sandbox = get_sandbox
        self._session: LazyResource[ServerSession] = LazyResource(self._connect, name="MCP server")
        self._deaths = 0
        self._began = 0.0
        self._next_start = 0.0

    async def tools(self) -> list[types.Tool]:
        """Return the tools that the server has. Raise `ToolError` if it cannot be reached."""
        return (await self._get()).tools

    async def call(
        self, name: str, arguments: dict[str, Any], *, report: Callable[[str], None], ask: Ask
    ) -> types.CallToolResult:
        """Call a tool. Raise `ToolError` if there is no answer: a call is never made twice.

        What the server asks a person is answered by `ask`, outside the time of the call.
        """
        session = await self._get()
        clock = PausableTimeout(self.server.call_timeout)
        try:
            async with clock.limit:
                return await session.call(name, arguments, report=report, ask=ask, clock=clock)
        except Exception as error:
            if clock.limit.expired():
                await self._check(session)
                raise ToolError(
                    f"{self._called}: '{name}' took longer than {self.server.call_timeout:g} s and "
                    "was cancelled; it may have had its effect"
                ) from error
            if session.ended:
                raise ToolError(
                    self._told("ended during the call, which may have had its effect", session)
                ) from error
            if self.server.url is not None:  # it may have forgotten us
                await self._check(session)
            raise ToolError(self.redactor.text(f"{self._called}: {_reason(error)}")) from error

    def release(self) -> None:
        """Ask for the end of the connection from anywhere, without waiting."""
        self._session.release()

    async def aclose(self) -> None:
        """End the connection and the server. Runs to its end if cancelled."""
        await self._session.aclose()

    async def _check(self, session: ServerSession) -> None:
        """End a server that hangs, so that the next call gets another one."""
        if not session.ended and not await session.answers(SIGN_OF_LIFE):
            self._note_death()
            self._session.renew()

    async def _get(self) -> ServerSession:
        session = await self._make()
        if session.ended:
            self._note_death()
            self._session.renew()
            session = await self._make()
        return session

    async def _make(self) -> ServerSession:
        try:
            return await self._session.get()
        except PaddockError:
            raise
        except Exception as error:
            raise ToolError(self._told_of_start(error)) from error

    def _note_death(self) -> None:
        now = time.monotonic()
        self._deaths = 1 if now - self._began > STABLE else self._deaths + 1
        pause = 0.0 if self._deaths < 2 else FIRST_BACKOFF * 2.0 ** min(self._deaths - 2, 20)
        self._next_start = now + min(pause, MAX_BACKOFF)

    async def _connect(self) -> ServerSession:
        """Start the server, when it is time to."""
        left = self._next_start - time.monotonic()
        if left > MAX_WAIT:
            raise ToolError(
                f"{self._called} has died {self._deaths} times; it is started again in {left:.0f} s"
            )
        if left > 0:
            await asyncio.sleep(left)
        self._began = time.monotonic()
        words = LastWords()
        try:
            return await ServerSession.open(
                self._transport, words, timeout=self.server.start_timeout
            )
        except Exception as error:
            self._note_death()
            cause = _cause(error)
            if isinstance(cause, PaddockError) and not isinstance(cause, ToolError):
                raise cause from None  # of the sandbox, or of the configuration
            raise ToolError(self._told_of_start(cause, words)) from error

    def _transport(self, words: LastWords) -> AbstractAsyncContextManager[TransportStreams]:
        server = self.server
        if server.url is None:
            return self._process(words)
        headers = server.resolve(server.headers)
        self._learn()
        return by_http(server.url, headers, silence=server.call_timeout + ANSWER_TIMEOUT)

    @contextlib.asynccontextmanager
    async def _process(self, words: LastWords) -> AsyncIterator[TransportStreams]:
        server = self.server
        assert server.command is not None, "it has a command or a URL"
        env = server.resolve(server.env)
        self._learn()
        sandbox = await self._get_sandbox()
        process = await sandbox.start(server.command, cwd=server.cwd, env=env, max_output=0)
        async with by_process(process, words) as streams:
            yield streams

    def _learn(self) -> None:
        """Redact what the server gets of this process's environment, as far as that is secret."""
        values = self.server.resolve({name: f"${{{name}}}" for name in self.server.references})
        self.redactor |= Redactor({n: value for n, value in values.items() if len(value) >= 8})

    @property
    def _called(self) -> str:
        return f"the MCP server '{self.server.name}'"

    def _told(self, what: str, session: ServerSession) -> str:
        words = str(session.words)
        return self.redactor.text(f"{self._called} {what}" + (f": {words}" if words else ""))

    def _told_of_start(self, error: BaseException, words: LastWords | None = None) -> str:
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self.server.start_timeout:g} s"
        else:
            reason = _reason(error)
        more = str(words or "")
        told = f"{self._called} cannot be reached: {reason}" + (f"; {more}" if more else "")
        return self.redactor.text(told)


def _cause(error: BaseException) -> BaseException:
    """Return what went wrong, out of the groups that the SDK's scopes raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    if isinstance(cause, ValidationError):
        problem = cause.errors(include_input=False)[0]
        place = ".".join(map(str, problem["loc"])) or "it"
        return f"{UNREADABLE}: {place}: {problem['msg']}"
    return str(cause) or type(cause).__name__
