"""``paddock shell``: a shell in a sandbox, fresh or one that is there, on this terminal."""

from __future__ import annotations

import contextlib
import dataclasses
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from paddock.cli import options
from paddock.cli.provisioning import provisioned
from paddock.cli.recipes import make_trusted_backend
from paddock.cli.running import run
from paddock.cli.sandbox_options import SandboxOptions
from paddock.cli.sandboxes import ALL, everywhere, find
from paddock.cli.terminals import converse, own_terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from paddock.backends.base import Backend
    from paddock.process import Pty
    from paddock.sandbox import Sandbox

__all__ = ["BEST_SHELL", "attached", "open_shell", "shell"]

BEST_SHELL = ("sh", "-c", 'exec "$(command -v bash || echo sh)"')
"""bash where there is one."""


@options.with_option_groups
def shell(
    sandbox_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="The id of an existing sandbox, or its beginning; see paddock ls.",
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="USER", help="The user of the shell: name, uid or uid:gid."),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- CMD...]", help="With an ID: another program than a shell."),
    ] = None,
    *,
    sandbox: SandboxOptions,
) -> None:
    """Open a shell in a sandbox, on this terminal.

    Without an ID the sandbox is a fresh one, made as for `paddock exec`, and is gone
    afterwards. With one, it is a container or a Daytona sandbox that another process has made
    or kept, of a fleet too; it stays, and so does what its maker runs in it. A local sandbox
    belongs to the process that made it.

    The exit code is that of the shell.

        paddock shell --upload .:.

        paddock shell 3f2a

        paddock shell 3f2a -- python3

    `paddock exec -it` runs another program in a fresh one.
    """
    pty = own_terminal()
    argv = command or BEST_SHELL
    if sandbox_id is not None:
        _refuse_options(sandbox)
        held = _joined(sandbox.backend or ALL, sandbox_id)
    else:
        held = provisioned(make_trusted_backend(sandbox, secrets=sandbox.secrets()))
    raise typer.Exit(run(open_shell(held, argv, user, pty)))


def _refuse_options(sandbox: SandboxOptions) -> None:
    """Options of a sandbox's making are too late for one that is there."""
    made_with = dataclasses.replace(sandbox, backend=None).overridden
    if made_with or sandbox.upload or sandbox.env or sandbox.secret or sandbox.short_secret:
        what = "this sandbox is there already; of its options only --backend has a meaning"
        raise typer.BadParameter(what, param_hint="ID")


async def open_shell(
    held: AbstractAsyncContextManager[Sandbox], argv: Sequence[str], user: str | None, pty: Pty
) -> int:
    """Run a program in the sandbox on this terminal; return its exit code."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(held)
        started = await sandbox.start(argv, user=user, pty=pty, max_output=0)
        process = await stack.enter_async_context(started)
        return await converse(process, sandbox.redactor, interactive=True)


@contextlib.asynccontextmanager
async def _joined(where: str, name: str) -> AsyncIterator[Sandbox]:
    """A sandbox that is there, and stays."""
    from paddock.backends.base import get_backend

    info = find(await everywhere(where, lambda each: each.list()), name)
    async with attached(get_backend(info.backend)(), info.id) as sandbox:
        yield sandbox


@contextlib.asynccontextmanager
async def attached(backend: Backend, sandbox_id: str) -> AsyncIterator[Sandbox]:
    """Hold a sandbox that is there for the block; it stays."""
    sandbox = await backend.attach(sandbox_id)
    try:
        yield sandbox
    finally:
        await sandbox.detach()
