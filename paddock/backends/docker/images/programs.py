"""Programs of this machine: small ones are asked one question, builders are ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from paddock._concurrency import finish

__all__ = ["ask", "end_group"]

MOST = 1 << 20
"""Bytes of an answer: logins have some hundred. A program that fails may never stop."""


async def ask(
    *argv: str,
    question: str = "",
    timeout: float,  # noqa: ASYNC109 - it is the program's: it is killed then
) -> tuple[int, str]:
    """Return the exit code and the output of a program that reads `question` on stdin.

    Raise TimeoutError for one that has not closed its output after `timeout` seconds, and OSError
    if it cannot be started or prints more than `MOST`. It is killed then, with its children, as on
    cancellation.
    """
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=MOST, loop=loop),
        *argv,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    process = asyncio.subprocess.Process(transport, protocol, loop)
    try:
        async with asyncio.timeout(timeout):
            output = await _answer(process, question)
            return await process.wait(), output.decode(errors="replace")
    except BaseException:
        # The group is there as long as any of its processes is, which may hold the output open.
        _signal(process, signal.SIGKILL)
        raise
    finally:
        transport.close()  # a process that left the group may hold it open for ever
        await finish(process.wait())


async def end_group(process: asyncio.subprocess.Process, grace: float) -> None:
    """End a program that leads its session, and its children with it: by SIGTERM, and by SIGKILL
    after `grace` seconds. What it still prints is dropped."""
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(OSError):  # TimeoutError, and what its output could not be read for
        await asyncio.wait_for(process.communicate(), grace)
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _answer(process: asyncio.subprocess.Process, question: str) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question.encode())
    process.stdin.close()
    output = b""
    while piece := await process.stdout.read(MOST):
        output += piece
        if len(output) > MOST:
            raise OSError(f"it printed more than {MOST} bytes")
    return output
