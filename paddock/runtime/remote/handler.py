"""What does the work of an invocation, in an event loop and a thread of its own.

A handler that blocks blocks only itself. One that was cancelled and does not end is left
behind, and its later output is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from paddock._logs import get_logger
from paddock.backends.local.sandbox import LocalSandbox
from paddock.runtime.remote.failures import RequestFailed
from paddock.runtime.remote.messages import StructuredOutputResult, TextResult
from paddock.runtime.remote.workplace import recipe

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from paddock.sandbox import Sandbox

__all__ = [
    "AgentInvocation",
    "HandlerFunction",
    "HandlerObject",
    "HandlerThread",
    "Outcome",
    "Posted",
    "Sender",
    "as_handler",
    "outcome_of",
]

MAX_WAITING = 1000
"""Messages that a handler may be ahead of the client before awaiting one makes it wait."""
POLL = 0.01
"""Seconds between two looks whether the client has caught up."""

_log = get_logger(__name__)


class Cancellation(asyncio.Event):
    """Set when an invocation is cancelled. `is_set` says so at once and in any thread: a handler
    that blocks its event loop can ask."""

    def __init__(self) -> None:
        super().__init__()
        self._is_announced = False

    def announce(self) -> None:
        """Cancel, from any thread; `set` wakes the waiters, in their event loop."""
        self._is_announced = True

    def is_set(self) -> bool:
        return self._is_announced or super().is_set()


@dataclass(kw_only=True)
class AgentInvocation:
    """What a handler is asked for.

    `output_format` is ``{"type": "json_schema", "schema": {...}}`` or None. `env` is the server's
    environment and, in preference to it, the request's. `cancelled` is set when the request is
    cancelled; a coroutine gets `CancelledError` too. `sandbox` is the container that the server is
    in: commands there die with the invocation. It belongs to the handler's event loop.
    """

    system_prompt: str
    user_prompt: str
    model: str
    output_format: Mapping[str, Any] | None = None
    secrets: Sequence[str] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    source_id: str | None = None
    logger: logging.Logger = _log
    cancelled: Cancellation = field(default_factory=Cancellation)
    working_dir: str = "."
    agent_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    _sandbox: LocalSandbox | None = field(default=None, repr=False)

    @property
    def sandbox(self) -> Sandbox:
        """The container that the server is in."""
        if self._sandbox is None:
            raise RuntimeError("this handler said that it uses no sandbox")
        return self._sandbox


class Sender:
    """Shows the client what a handler says. May be used from any thread.

    Its methods return at once. What they return may be awaited, which makes a handler wait that
    is far ahead of its client.
    """

    def __init__(self, post: Callable[[str, Any, Any], None], waiting: Callable[[], int]) -> None:
        self._post = post
        self._waiting = waiting

    def send_assistant_message(self, blocks: Sequence[str] | str) -> Awaitable[None]:
        """Show what the agent says: a list of texts."""
        texts = [blocks] if isinstance(blocks, str) else list(blocks)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("send_assistant_message takes a list of texts")
        self._post("assistant", texts, None)
        return _CaughtUp(self._waiting)

    def send_error_message(
        self, error: str, metadata: Mapping[str, Any] | None = None
    ) -> Awaitable[None]:
        """Report an error. It ends the request only if the handler fails then."""
        self._post("error", str(error), dict(metadata or {}))
        return _CaughtUp(self._waiting)


class Posted:
    """What a thread hands to the loop, in order, with one wake-up for many."""

    def __init__(self, take: Callable[[str, Any, Any], None]) -> None:
        self._take = take
        self._items: list[tuple[str, Any, Any]] = []
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        return len(self._items)

    def add(self, loop: asyncio.AbstractEventLoop, item: tuple[str, Any, Any]) -> None:
        with self._lock:
            self._items.append(item)
            is_first = len(self._items) == 1
        if is_first:
            with contextlib.suppress(RuntimeError):  # the server's loop has ended
                loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            items, self._items = self._items, []
        for item in items:
            self._take(*item)


class _CaughtUp:
    """Awaited, it returns when the client is not far behind."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        while self._waiting() > MAX_WAITING:  # noqa: ASYNC110 - it is in another event loop
            await asyncio.sleep(POLL)


HandlerFunction = Callable[[AgentInvocation, Sender], Any]


class HandlerObject(Protocol):
    """A handler with a method; `uses_sandbox` may be False for one that needs none."""

    def run(self, invocation: AgentInvocation, sender: Sender, /) -> Any: ...


def as_handler(given: object) -> HandlerFunction:
    """Return the function of a handler. Raise `TypeError` for anything else."""
    run = getattr(given, "run", None)
    if callable(run):
        return run  # type: ignore[no-any-return]
    if callable(given):
        return given
    raise TypeError(
        f"a handler has a method run(invocation, sender), or is such a function: {given!r}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a handler returned: `data` as the wire has it."""

    data: Mapping[str, Any]
    metadata: Mapping[str, Any]


def outcome_of(returned: object) -> Outcome:
    """Return what `returned` means. Raise `RequestFailed` for what is no result."""
    match returned:
        case str():
            return Outcome(data={"type": "text", "text": returned}, metadata={})
        case TextResult() | StructuredOutputResult():
            return Outcome(data=returned.model_dump(), metadata={})
        case BaseModel():
            return _structured(returned.model_dump(mode="json"), {})
        case {"type": "text", "text": str(text)}:
            return Outcome(data={"type": "text", "text": text}, metadata=_metadata(returned))
        case {"type": "structured_output", "structured_output": Mapping() as found}:
            return _structured(found, _metadata(returned))
        case {"type": "text" | "structured_output"}:
            raise RequestFailed("the handler's result has a type, and not what belongs to it")
        case Mapping():
            return _structured(returned, {})
    raise RequestFailed(f"the handler returned {type(returned).__name__}, which is no result")


def _structured(found: Mapping[str, Any], metadata: Mapping[str, Any]) -> Outcome:
    data = {"type": "structured_output", "structured_output": dict(found)}
    return Outcome(data=data, metadata=metadata)


def _metadata(returned: Any) -> Mapping[str, Any]:
    found = returned.get("metadata")
    return found if isinstance(found, Mapping) else {}


class HandlerThread:
    """One invocation of a handler, in a thread with an event loop of its own."""

    def __init__(
        self,
        handler: HandlerFunction,
        invocation: AgentInvocation,
        sender: Sender,
        *,
        uses_sandbox: bool,
    ) -> None:
        self._handler = handler
        self._invocation = invocation
        self._sender = sender
        self._uses_sandbox = uses_sandbox
        self._home = asyncio.get_running_loop()
        self._ended: asyncio.Future[Any] = self._home.create_future()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    async def run(self, grace: float) -> Any:
        """Return what the handler returns, or raise what it raises.

        If cancelled, the handler is cancelled. If it has not ended after `grace` seconds, then it
        is left behind, and all that runs in its sandbox is killed.
        """
        threading.Thread(target=self._run, name="paddock-handler", daemon=True).start()
        try:
            return await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            self._cancel()
            # It was cancelled: its result, now or after it was left behind, is dropped.
            self._ended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            await asyncio.wait([self._ended], timeout=grace)
            if not self._ended.done() and self._invocation._sandbox is not None:
                self._invocation._sandbox.kill()
            raise

    def _cancel(self) -> None:
        self._invocation.cancelled.announce()
        with self._lock:
            self._is_cancelled = True
            loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended meanwhile
                loop.call_soon_threadsafe(self._cancel_task, task)

    def _cancel_task(self, task: asyncio.Task[Any]) -> None:
        self._invocation.cancelled.set()
        task.cancel()

    def _run(self) -> None:
        """The thread."""
        with asyncio.Runner() as runner:
            try:
                result = runner.run(self._main())
            except BaseException as error:
                self._tell(self._ended.set_exception, _as_exception(error))
            else:
                self._tell(self._ended.set_result, result)

    def _tell(self, tell: Callable[[Any], None], what: Any) -> None:
        def once() -> None:
            if not self._ended.done():
                tell(what)

        with contextlib.suppress(RuntimeError):  # the server's loop has ended
            self._home.call_soon_threadsafe(once)

    async def _main(self) -> Any:
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._is_cancelled:
                raise asyncio.CancelledError
        if not self._uses_sandbox:
            return await self._call()
        async with await recipe(
            self._invocation.working_dir, self._invocation.agent_env
        ).create() as sandbox:
            assert isinstance(sandbox, LocalSandbox), "the recipe is a LocalBackend"
            self._invocation._sandbox = sandbox
            return await self._call()

    async def _call(self) -> Any:
        returned = self._handler(self._invocation, self._sender)
        return await returned if inspect.isawaitable(returned) else returned


def _as_exception(error: BaseException) -> BaseException:
    """A future takes no `StopIteration`, and a handler must not end the server's loop."""
    if isinstance(error, asyncio.CancelledError):
        return RequestFailed("the handler cancelled itself")
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RequestFailed(f"the handler ended with {type(error).__name__}: {error}")
