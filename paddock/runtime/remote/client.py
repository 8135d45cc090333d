"""The client outside: it asks a runtime inside a sandbox to run an agent, or commands."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pydantic

from paddock._logs import get_logger
from paddock.runtime.core.calling import call
from paddock.runtime.remote.calls import Call, CallSpec, answer_upload, request_frame
from paddock.runtime.remote.messages import (
    ArtifactUploadRequestMessageInterface,
    CommandExecutionResultMessageInterface,
    ErrorMessageInterface,
    ResultMessageInterface,
)
from paddock.runtime.remote.options import (
    AgentRuntimeError,
    CommandExecutionResult,
    ExecuteCommandsOptions,
    QueryOptions,
    QueryResult,
)
from paddock.runtime.remote.transports import END_TIMEOUT, WebSocketTransport

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from paddock.runtime.remote.messages import (
        CommandInterface,
        InvocationMessage,
    )
    from paddock.runtime.remote.options import (
        IsCancelledCallback,
        OnArtifactUploadRequestCallback,
        OnAssistantMessageCallback,
    )
    from paddock.runtime.remote.transports import (
        ConnectedTransport,
        PersistentTransport,
        Transport,
    )

__all__ = ["RuntimeUseClient", "RuntimeUseSession"]

R = TypeVar("R", bound=ResultMessageInterface)

_log = get_logger(__name__)


class _Caller(ABC):
    """What a client and a session have in common: calls, and aborting them."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[Any] | None, Call] = {}

    def abort(self, call: asyncio.Task[Any] | None = None) -> None:
        """Cancel the running calls, or the one of the task `call`.

        Each raises `CancelledException` when its request has ended inside.
        """
        for task, each in list(self._calls.items()):
            if call is None or task is call:
                each.abort()

    async def _perform(self, spec: CallSpec) -> dict[str, Any] | None:
        """Return the terminal message of a call; None if it ends without one."""
        made = Call(spec)
        task = asyncio.current_task()
        self._calls[task] = made
        try:
            async with self._turn(made):
                return await made.run(self._messages(made))
        finally:
            self._calls.pop(task, None)

    @asynccontextmanager
    async def _turn(self, call: Call) -> AsyncIterator[None]:
        """Enter when `call` may begin; it has ended when this is left."""
        yield

    @abstractmethod
    def _messages(self, call: Call) -> AsyncGenerator[dict[str, Any], None]:
        """Send the request of `call`, and return what comes back."""

    async def query(self, prompt: str, options: QueryOptions) -> QueryResult:
        """Have the agent answer `prompt`; return what it gives.

        Raises `AgentRuntimeError` if it fails, `CancelledException` after `abort`, and
        `TimeoutError`. Whatever ends the call early cancels the request inside.
        """
        request = options.request(prompt)
        spec = _spec(options, request_frame(request), "result_message", "Query was cancelled")
        frame = await self._result(spec)
        found = ResultMessageInterface.model_validate(frame)
        return QueryResult(data=found.data, metadata=found.metadata)

    async def execute_commands(
        self, commands: list[CommandInterface], options: ExecuteCommandsOptions
    ) -> CommandExecutionResult:
        """Run commands until one fails, which is no error: its exit code is in the result.

        Raises what `query` raises.
        """
        spec = _spec(
            options,
            request_frame(options.request(commands)),
            "command_execution_result_message",
            "Command execution was cancelled",
        )
        found = CommandExecutionResultMessageInterface.model_validate(await self._result(spec))
        return CommandExecutionResult(results=found.results, metadata=found.metadata)

    async def _result(self, spec: CallSpec) -> dict[str, Any]:
        frame = await self._perform(spec)
        if frame is None:
            raise AgentRuntimeError("No result message received")
        if frame["message_type"] == "error_message":
            raise _as_error(frame)
        return frame


class RuntimeUseSession(_Caller):
    """A connection for one request after the other; calls at the same time wait for each other."""

    def __init__(self, connected: ConnectedTransport) -> None:
        super().__init__()
        self._connected = connected
        self._lock = asyncio.Lock()
        self._on_artifact: Callable[..., Any] | None = None

    @asynccontextmanager
    async def _turn(self, call: Call) -> AsyncIterator[None]:
        async with call.turn(self._lock):
            if call.spec.on_artifact is not None:
                self._on_artifact = call.spec.on_artifact
            try:
                yield
            finally:
                if not call.is_clean:
                    await self._connected.close()  # what may still come is not for the next call

    def _messages(self, call: Call) -> AsyncGenerator[dict[str, Any], None]:
        return self._connected.request(call.send_queue)

    async def end(self) -> None:
        """Tell the runtime that no request follows; late requests for uploads are answered.

        Running calls of other tasks are cancelled first.
        """
        self.abort()
        end_session = getattr(self._connected, "end_session", None)
        if end_session is not None:
            async with self._lock:  # a call that was cancelled reads on until it has ended inside
                await end_session(on_message=self._answer_late, timeout_s=END_TIMEOUT)

    async def _answer_late(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        if frame.get("message_type") != "artifact_upload_request_message":
            return None
        if self._on_artifact is None:
            return None
        try:
            request = ArtifactUploadRequestMessageInterface.model_validate(frame)
            return await answer_upload(self._on_artifact, request)
        except Exception:
            _log.exception("no answer about an artifact at the end of a session")
            return None


class RuntimeUseClient(_Caller):
    """Talks to the runtime at `ws_url`, or over a `transport` instead.

    A `token` and `headers` are sent when it connects. Each call has a connection of its own;
    `session` is for many on one. Calls at the same time do not disturb each other.
    """

    def __init__(
        self,
        ws_url: str | None = None,
        transport: Transport | None = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if transport is None:
            if ws_url is None:
                raise ValueError("Either ws_url or transport must be provided")
            transport = WebSocketTransport(ws_url, token=token, headers=headers)
        self._transport = transport

    def _messages(self, call: Call) -> AsyncGenerator[dict[str, Any], None]:
        return self._transport(send_queue=call.send_queue)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[RuntimeUseSession]:
        """Open a connection for one request after the other, and end it as the runtime expects.

        Raises `TypeError` for a transport that serves one request only.
        """
        if not hasattr(self._transport, "connect"):
            raise TypeError(
                "The configured transport does not support persistent sessions. "
                "Use a transport that implements PersistentTransport (e.g. WebSocketTransport)."
            )
        async with cast("PersistentTransport", self._transport).connect() as connected:
            session = RuntimeUseSession(connected)
            try:
                yield session
            finally:
                await session.end()

    async def invoke(
        self,
        invocation: InvocationMessage,
        on_result_message: Callable[[R], Awaitable[None]],
        result_message_cls: type[R],
        on_assistant_message: OnAssistantMessageCallback | None = None,
        on_artifact_upload_request: OnArtifactUploadRequestCallback | None = None,
        on_error_message: Callable[[ErrorMessageInterface], Awaitable[None]] | None = None,
        is_cancelled: IsCancelledCallback | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the document's
        logger: logging.Logger | None = None,
    ) -> None:
        """Run an agent, and give what comes to callbacks.

        The result is read as `result_message_cls`. An error is given to `on_error_message`, or
        logged; it is not raised. When `is_cancelled` says so, the request is cancelled, and
        `CancelledException` raised. Raises `TimeoutError` after `timeout` seconds.
        """
        logger = logger or _log
        spec = CallSpec(
            request=request_frame(invocation),
            terminal="result_message",
            cancelled="Invocation was cancelled",
            logger=logger,
            on_assistant=on_assistant_message,
            on_artifact=on_artifact_upload_request,
            is_cancelled=is_cancelled,
            timeout=timeout,
        )
        frame = await self._perform(spec)
        if frame is None:
            logger.error("the runtime's messages ended without a result")
        elif frame["message_type"] == "result_message":
            found = result_message_cls.model_validate(frame)
            await call(cast("Callable[..., Any]", on_result_message), found)
        elif on_error_message is not None:
            failed = ErrorMessageInterface.model_validate(frame)
            await call(cast("Callable[..., Any]", on_error_message), failed)
        else:
            logger.error("error from the runtime: %s", frame.get("error"))


def _spec(
    options: QueryOptions | ExecuteCommandsOptions,
    request: dict[str, Any],
    terminal: str,
    cancelled: str,
) -> CallSpec:
    return CallSpec(
        request=request,
        terminal=terminal,
        cancelled=cancelled,
        logger=options.logger or _log,
        on_assistant=options.on_assistant_message,
        on_output=options.on_command_output,
        on_artifact=options.on_artifact_upload_request,
        timeout=options.timeout,
        idle_timeout=options.idle_timeout,
        assistant_timeout=options.assistant_callback_timeout,
        artifact_timeout=options.artifact_upload_callback_timeout,
    )


def _as_error(frame: Mapping[str, Any]) -> AgentRuntimeError:
    try:
        found = ErrorMessageInterface.model_validate(frame)
    except pydantic.ValidationError:
        return AgentRuntimeError(str(frame.get("error", frame)))
    return AgentRuntimeError(found.error, found.metadata)
