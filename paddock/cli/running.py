"""Running a command's coroutine, and stopping it by signals.

The first Ctrl-C, SIGTERM or SIGHUP cancels the coroutine, whose clean-up then runs to
its end. The second one ends this process at once, whatever it is doing; its sandboxes
end by themselves, because their guests see the host go.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

__all__ = ["run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = "\x1b[?25h"


def run(work: Coroutine[Any, Any, T], *, on_interrupt: Callable[[], bool] | None = None) -> T:
    """Run `work` to its end and return its result; exits with 128 + n if signal n stopped it.

    `on_interrupt` is called on the event loop for Ctrl-C, before anything else; True means
    that it has dealt with it.
    """
    received: list[signal.Signals] = []

    async def main() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        for number in _SIGNALS:
            loop.add_signal_handler(number, heard, task, number)
        return await task

    def heard(task: asyncio.Task[Any], number: signal.Signals) -> None:
        if number != signal.SIGINT or on_interrupt is None or not on_interrupt():
            _stop(task, number, received)

    try:
        with asyncio.Runner() as runner:
            result = runner.run(main())
    except asyncio.CancelledError:
        if not received:
            raise
        raise typer.Exit(128 + received[0]) from None
    if received:
        raise typer.Exit(128 + received[0])
    return result


def _stop(task: asyncio.Task[Any], number: signal.Signals, received: list[signal.Signals]) -> None:
    received.append(number)
    loop = asyncio.get_running_loop()
    for each in _SIGNALS:
        # Not our handler: the kernel's own, which works even if the loop is stuck.
        loop.remove_signal_handler(each)
        signal.signal(each, signal.SIG_DFL)
    task.cancel()
    with contextlib.suppress(OSError):  # the terminal may be what has gone
        _tell(f"paddock: {number.name}; cleaning up (again to leave at once)")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    # A status hides the cursor, and a second signal leaves it no time to show it. It also
    # takes the place of sys.stderr, for text alone.
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        sys.__stderr__.write(_SHOW_CURSOR)
        sys.__stderr__.flush()
