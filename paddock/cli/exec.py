"""``paddock exec``: one command in a fresh sandbox, as if it ran here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from paddock.cli import options
from paddock.cli.pipes import read_stdin, write_output
from paddock.cli.provisioning import provisioned
from paddock.cli.recipes import make_trusted_backend
from paddock.cli.running import run
from paddock.cli.sandbox_options import SandboxOptions
from paddock.cli.terminals import converse, own_terminal
from paddock.errors import PaddockError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.base import Backend
    from paddock.process import Pty
    from paddock.redaction import Redactor
    from paddock.redaction import Stream as Redaction
    from paddock.sandbox import Process, Stream

__all__ = ["exec_"]

TIMED_OUT = 124
"""The exit code of coreutils' timeout, which scripts know."""


@options.with_option_groups
def exec_(
    command: Annotated[
        list[str], typer.Argument(metavar="CMD", help="The program and its arguments.")
    ],
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Kill it after this long.")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Also pass on what is typed.")
    ] = False,
    tty: Annotated[
        bool, typer.Option("--tty", "-t", help="Run it in a terminal, shown on this one.")
    ] = False,
    *,
    sandbox: SandboxOptions,
) -> None:
    """Run one command in a fresh sandbox.

    Its output comes as it is printed, stdin is passed on when it is piped, and its
    exit code is the result. Afterwards the sandbox is gone. Secrets are taken out of
    the output. With `-it` it has this terminal, as a shell or an editor needs it.

        paddock exec -- python3 -c 'print(6 * 7)'

        paddock exec --upload .:project -- sh -c 'cd project && make test'

        tar c src | paddock exec -- tar t

        paddock exec -it -- python3
    """
    pty = own_terminal() if tty else None
    recipe = make_trusted_backend(sandbox, secrets=sandbox.secrets())
    raise typer.Exit(run(_exec(recipe, command, timeout, pty, interactive=interactive)))


async def _exec(
    backend: Backend,
    command: Sequence[str],
    limit: float | None,
    pty: Pty | None,
    *,
    interactive: bool,
) -> int:
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(provisioned(backend))
        # The output is passed on, so none of it has to be kept.
        started = await sandbox.start(command, max_output=0, pty=pty)
        process = await stack.enter_async_context(started)
        output = _Output(sandbox.redactor)
        try:
            async with asyncio.timeout(limit):
                if pty is not None:
                    return await converse(process, sandbox.redactor, interactive=interactive)
                return await _converse(process, output, interactive=interactive)
        except TimeoutError:
            await process.kill()
            await output.end()
            typer.echo(f"paddock: killed after {limit:g} s", err=True)
            return TIMED_OUT


class _Output:
    """Passes output on, without what `redactor` knows."""

    def __init__(self, redactor: Redactor) -> None:
        self._streams: dict[Stream, Redaction] = {
            "stdout": redactor.stream(),
            "stderr": redactor.stream(),
        }

    async def write(self, stream: Stream, data: bytes) -> None:
        if told := self._streams[stream].feed(data):
            await write_output(stream, told)

    async def end(self) -> None:
        """Write what might have become a secret, and has not."""
        for stream, held in self._streams.items():
            if told := held.close():
                await write_output(stream, told)


async def _converse(process: Process, output: _Output, *, interactive: bool) -> int:
    feeder = asyncio.create_task(_feed(process, interactive=interactive))
    try:
        async for stream, data in process.output():
            await output.write(stream, data)
        await output.end()
        return (await process.wait()).exit_code
    finally:
        feeder.cancel()
        await asyncio.wait([feeder])


async def _feed(process: Process, *, interactive: bool) -> None:
    try:
        async for data in read_stdin(terminal=interactive):
            await process.send(data)
        await process.send_eof()
    except (BrokenPipeError, PaddockError):
        pass  # it ended without reading everything, as `head` does; a loss is reported by `output`
