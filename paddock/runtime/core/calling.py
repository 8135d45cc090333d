"""Calling what a user passed in, which may be synchronous and may block."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["call", "in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def call(function: Callable[P, Awaitable[T] | T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` and return its result: a coroutine function here, another in a thread.

    What another one returns is awaited here if it can be. Cancelled, this returns at once; a
    thread that blocks is left behind.
    """
    if _is_async(function):
        return await cast("Awaitable[T]", function(*args, **kwargs))
    result = await in_thread(lambda: function(*args, **kwargs))
    if inspect.isawaitable(result):
        return await cast("Awaitable[T]", result)
    return result


async def in_thread(work: Callable[[], T]) -> T:
    """Return the result of `work`, which runs in a thread of its own with the caller's context.

    Unlike those of `asyncio.to_thread`, the thread is a daemon: one that blocks for ever holds
    up neither other work nor the end of the process.
    """
    future: Future[tuple[T | None, BaseException | None]] = Future()
    context = contextvars.copy_context()

    def body() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            outcome = context.run(work), None
        except BaseException as error:  # `StopIteration`, too, which a future refuses
            future.set_result((None, error))
        else:
            future.set_result(outcome)

    threading.Thread(target=body, name="paddock-call", daemon=True).start()
    result, error = await asyncio.wrap_future(future)
    if error is not None:
        raise error
    return cast("T", result)


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object with `async def __call__`
    )
