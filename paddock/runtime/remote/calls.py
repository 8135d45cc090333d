"""One call of a client: what comes is given to callbacks, until the terminal message.

Every way out that is not the terminal message cancels the request inside and waits for its end, so
that the next call on the connection finds nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydantic

from paddock._concurrency import finish
from paddock.runtime.core.calling import call
from paddock.runtime.remote.messages import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CommandOutputMessageInterface,
    ErrorMessageInterface,
    is_terminal,
)
from paddock.runtime.remote.options import AgentRuntimeError, CancelledException
from paddock.runtime.remote.reading import ReadAhead
from paddock.runtime.remote.transports import negotiation

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from paddock.runtime.remote.messages import Request

__all__ = ["Call", "CallSpec", "answer_upload", "request_frame"]

DRAIN_TIMEOUT = 10.0
"""Seconds for the terminal message to come after a cancellation: a handler has as long to end."""
CANCEL_POLL = 0.5
"""Seconds between two questions whether the caller wants to cancel."""

_ONLY_OURS = ("artifacts_required", "workspace_diff", "paddock")


def request_frame(request: Request) -> dict[str, Any]:
    """Return a request as our client writes it; one folder is named as old servers read it too."""
    frame = request.model_dump(mode="json")
    for name in _ONLY_OURS:
        if not frame.get(name):
            frame.pop(name, None)
    folders = request.folders
    frame["artifacts_dirs"] = folders or None
    frame["artifacts_dir"] = folders[0] if len(folders) == 1 else None
    frame["paddock"] = negotiation()
    return frame


@dataclass(kw_only=True)
class CallSpec:
    """What one call is: its request, its callbacks, and how long it may take.

    `terminal` is the type of message that has the result, and `cancelled` the text of the
    exception for a call that was cancelled.
    """

    request: dict[str, Any]
    terminal: str
    cancelled: str
    logger: logging.Logger
    on_assistant: Callable[..., Any] | None = None
    on_output: Callable[..., Any] | None = None
    on_artifact: Callable[..., Any] | None = None
    is_cancelled: Callable[..., Any] | None = None
    timeout: float | None = None
    idle_timeout: float | None = None
    assistant_timeout: float | None = None
    artifact_timeout: float | None = None


class Call:
    """A running call. `abort` may be called by any task of its event loop."""

    def __init__(self, spec: CallSpec) -> None:
        self.spec = spec
        self.send_queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.send_queue.put_nowait(spec.request)
        self.is_clean = True
        """Whether nothing more of this call can come on its connection."""
        self._aborted_at: float | None = None
        self._waiting: asyncio.Timeout | None = None
        self._stream: ReadAhead | None = None
        self._count = 0
        self._is_ours = False
        self._last_type: str | None = None

    def abort(self) -> None:
        """Cancel the request; the call raises `CancelledException` when it has ended."""
        if self._aborted_at is None:
            self._aborted_at = time.monotonic()
            self.send_queue.put_nowait({"message_type": "cancel_message"})
            if self._stream is not None:
                self._stream.wake()
            if self._waiting is not None:
                self._waiting.reschedule(0)

    @asynccontextmanager
    async def turn(self, lock: asyncio.Lock) -> AsyncIterator[None]:
        """Hold `lock`. Raise `CancelledException` if `abort` comes while waiting for it."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                await lock.acquire()
        except TimeoutError:
            raise CancelledException(self.spec.cancelled) from None
        finally:
            self._waiting = None
        try:
            yield
        finally:
            lock.release()

    async def run(self, messages: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
        """Return the terminal message; None if the stream ends without one."""
        self._stream = ReadAhead(messages)
        try:
            async with asyncio.timeout(self.spec.timeout):
                return await self._read(self._stream)
        except BaseException:
            if not self._stream.has_ended_well:
                await finish(self._drain(self._stream))
            raise
        finally:
            await finish(self._stream.aclose())

    async def _drain(self, stream: ReadAhead) -> None:
        """Cancel the request and read on to its end, without callbacks."""
        if self._aborted_at is None:
            self.abort()
        ends = time.monotonic() + DRAIN_TIMEOUT
        while not stream.has_ended_well and (left := ends - time.monotonic()) > 0:
            with contextlib.suppress(StopAsyncIteration):
                await stream.next(left)
                continue
            break
        self.is_clean = stream.has_ended_well

    # --------------------------------------------------------------------------- reading

    async def _read(self, stream: ReadAhead) -> dict[str, Any] | None:
        heard = time.monotonic()
        while True:
            await self._ask_if_cancelled()
            try:
                message = await stream.next(self._limit(heard))
            except StopAsyncIteration:
                self._raise_if_aborted()
                return None
            if message is None:
                self._check_time(heard)
                continue
            heard = time.monotonic()
            if await self._take(message):
                self._raise_if_aborted()
                return message

    def _limit(self, heard: float) -> float | None:
        """Return for how many seconds to wait for a message before something else is due."""
        now, limits = time.monotonic(), []
        if self._aborted_at is not None:
            limits.append(self._aborted_at + DRAIN_TIMEOUT - now)
        elif self.spec.idle_timeout is not None:
            limits.append(heard + self.spec.idle_timeout - now)
        if self.spec.is_cancelled is not None:
            limits.append(CANCEL_POLL)
        return max(0.0, min(limits)) if limits else None

    def _check_time(self, heard: float) -> None:
        now, idle = time.monotonic(), self.spec.idle_timeout
        if self._aborted_at is not None:
            if now - self._aborted_at >= DRAIN_TIMEOUT:
                self.is_clean = False
                raise CancelledException(self.spec.cancelled)
        elif idle is not None and now - heard >= idle:
            raise AgentRuntimeError(
                f"No message received from agent runtime for {idle}s",
                {
                    "timeout_type": "idle_timeout",
                    "idle_timeout": idle,
                    "last_message_type": self._last_type,
                    "message_count": self._count,
                    "phase": "waiting_for_message",
                },
            )

    def _raise_if_aborted(self) -> None:
        if self._aborted_at is not None:
            raise CancelledException(self.spec.cancelled)

    async def _ask_if_cancelled(self) -> None:
        if self.spec.is_cancelled is None or self._aborted_at is not None:
            return
        if await call(self.spec.is_cancelled):
            self.abort()
            # The cancellation has left when the queue is empty, or the connection is gone.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_POLL):
                    await self.send_queue.join()
            raise CancelledException(self.spec.cancelled)

    async def _take(self, message: dict[str, Any]) -> bool:
        """Show a message to its callback; return whether it is the terminal one."""
        self._count += 1
        self._is_ours = self._is_ours or "seq" in message
        kind = message.get("message_type")
        self._last_type = kind if isinstance(kind, str) else None
        if is_terminal(message):
            if kind in (self.spec.terminal, "error_message"):
                return True
            self.spec.logger.error("the runtime sent a %s, which this call does not expect", kind)
            return False
        if self._aborted_at is not None or kind == "heartbeat_message":
            return False
        try:
            await self._show(kind, message)
        except pydantic.ValidationError as error:
            self.spec.logger.error("malformed %s: %d problems", kind, error.error_count())
        return False

    async def _show(self, kind: object, message: Mapping[str, Any]) -> None:
        spec = self.spec
        match kind:
            case "command_output_message":
                if spec.on_output is not None:
                    await call(
                        spec.on_output, CommandOutputMessageInterface.model_validate(message)
                    )
            case "assistant_message":
                if spec.on_assistant is not None:
                    await self._show_assistant(AssistantMessageInterface.model_validate(message))
            case "artifact_upload_request_message":
                await self._answer(ArtifactUploadRequestMessageInterface.model_validate(message))
            case "warning_message":
                warned = ErrorMessageInterface.model_validate(
                    {**message, "message_type": "error_message"}
                )
                spec.logger.warning("the agent reports: %s", warned.error)
            case _:
                spec.logger.error("a message of unknown type from the runtime: %s", kind)

    async def _show_assistant(self, message: AssistantMessageInterface) -> None:
        assert self.spec.on_assistant is not None
        shown = call(self.spec.on_assistant, message)
        details = {
            "last_message_type": self._last_type,
            "message_count": self._count,
            "phase": "assistant_callback",
        }
        await _within(
            self.spec.assistant_timeout,
            shown,
            "assistant",
            "on_assistant_message",
            details,
        )

    async def _answer(self, request: ArtifactUploadRequestMessageInterface) -> None:
        if self.spec.on_artifact is None:
            self.spec.logger.warning("no callback says where %s goes", request.filename)
            self._refuse(request, "the client has no callback for it")
            return
        details = {"filename": request.filename, "filepath": request.filepath}
        try:
            answer = await _within(
                self.spec.artifact_timeout,
                answer_upload(self.spec.on_artifact, request),
                "artifact_upload",
                "on_artifact_upload_request",
                details,
            )
        except Exception as error:
            self._refuse(request, f"its callback: {type(error).__name__}")
            raise
        self.send_queue.put_nowait(answer)

    def _refuse(self, request: ArtifactUploadRequestMessageInterface, why: str) -> None:
        """Tell a server of ours that no answer comes. Others do not know such a message."""
        if self._is_ours:
            self.send_queue.put_nowait(
                {
                    "message_type": "artifact_upload_failed_message",
                    "filename": request.filename,
                    "filepath": request.filepath,
                    "error": why,
                }
            )


async def answer_upload(
    callback: Callable[..., Any], request: ArtifactUploadRequestMessageInterface
) -> dict[str, Any]:
    """Return the response to a request for an upload, as `callback` says."""
    told = await call(callback, request)
    if isinstance(told, tuple):
        url, content_type = told
        told = ArtifactUploadResult(presigned_url=url, content_type=content_type)
    return {
        "message_type": "artifact_upload_response_message",
        "filename": request.filename,
        "filepath": request.filepath,
        "presigned_url": told.presigned_url,
        "content_type": told.content_type,
    }


async def _within(
    limit: float | None, work: Awaitable[Any], kind: str, name: str, details: Mapping[str, Any]
) -> Any:
    """Await a callback. Raise `AgentRuntimeError` if it takes longer than `limit` seconds."""
    clock = asyncio.timeout(limit)
    try:
        async with clock:
            return await work
    except TimeoutError as error:
        if not clock.expired():
            raise
        metadata = {"timeout_type": f"{kind}_callback_timeout", "timeout": limit, **details}
        raise AgentRuntimeError(f"{name} callback timed out", metadata) from error
