"""Calling what a user passed in, which may be synchronous and may block."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from paddock.runtime.core.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["call", "is_async"]

P = ParamSpec("P")
T = TypeVar("T")

_threads = Threads()
"""Not those of tools: a callback may wait for a person, and tools not for that."""


async def call(function: Callable[P, Awaitable[T] | T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` and return its result: a coroutine function here, another in a thread.

    What another one returns is awaited here if it can be. Cancelled, this returns at once; a
    function that blocks is left behind in its thread.
    """
    if is_async(function):
        return await cast("Awaitable[T]", function(*args, **kwargs))
    name = getattr(function, "__qualname__", type(function).__qualname__)
    result = await _threads.run(lambda: function(*args, **kwargs), name=name)
    if inspect.isawaitable(result):
        return await cast("Awaitable[T]", result)
    return result


def is_async(function: Callable[..., object]) -> bool:
    """Return whether `function` is a coroutine function, or an object that is called like one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an object with `async def __call__`
    )
