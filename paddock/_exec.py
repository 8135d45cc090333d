"""How `Sandbox.exec` treats a command, whatever backend starts it: its
input is fed, its deadline kills its whole tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from paddock._concurrency import cancel
from paddock.errors import ExecTimeout, SandboxError
from paddock.process import ExecResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from paddock.process import OutputCallback, Process
    from paddock.redaction import Redactor

NOT_STARTED = ExecResult(exit_code=128 + signal.SIGKILL)
"""The result of a command whose time was over before it could begin."""


async def run_to_end(
    start: Callable[[], Awaitable[Process]],
    command: str | Sequence[str],
    *,
    stdin: bytes | None,
    timeout: float | None,  # noqa: ASYNC109 - the deadline kills the process tree too
    on_output: OutputCallback | None,
    redactor: Redactor,
) -> ExecResult:
    """Start a process and return its result. The time that starting takes counts.

    A timeout (`ExecTimeout`, which shows `command` as `redactor` does) and a cancellation
    return only when the process's whole tree is dead. A timeout of 0 starts nothing.
    """
    if timeout == 0:
        raise ExecTimeout(command, NOT_STARTED, timeout=timeout, redactor=redactor)
    process: Process | None = None
    clock = asyncio.timeout(timeout)
    try:
        async with clock:
            process = await start()
            return await _run(process, stdin, on_output)
    except BaseException as error:
        if process is not None:
            await process.aclose()
        if timeout is None or not (isinstance(error, TimeoutError) and clock.expired()):
            raise
        result = NOT_STARTED if process is None else await process.wait()
        raise ExecTimeout(command, result, timeout=timeout, redactor=redactor) from error


async def _run(
    process: Process, stdin: bytes | None, on_output: OutputCallback | None
) -> ExecResult:
    feeder = None if stdin is None else asyncio.create_task(_feed(process, stdin))
    try:
        if on_output is not None:
            async for stream, data in process.output():
                waiting = on_output(stream, data)
                if waiting is not None:
                    await waiting
        return await process.wait()
    finally:
        if feeder is not None:
            await cancel(feeder)


async def send_first(process: Process, data: bytes) -> None:
    """Send what a command reads before anything else; end its tree if that fails."""
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended: `wait` says how
            await process.send(data)
    except BaseException:
        await process.aclose()
        raise


async def _feed(process: Process, stdin: bytes) -> None:
    # A command that ends without reading it all, as `head` does, is fine; what else keeps
    # input from arriving is raised by `wait`, too.
    with contextlib.suppress(BrokenPipeError, SandboxError):
        await process.send(stdin)
        await process.send_eof()
