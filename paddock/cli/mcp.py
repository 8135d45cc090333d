"""``paddock mcp``: sandboxes and runtimes as servers of the Model Context Protocol."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paddock.cli import options
from paddock.cli.provisioning import provisioning
from paddock.cli.recipes import make_backend
from paddock.cli.running import run
from paddock.cli.sandbox_options import SandboxOptions
from paddock.cli.trusting import require_trusted_setup
from paddock.errors import ConfigError
from paddock.mcp import serve_sandbox
from paddock.runtime.permissions.profile import load_profile

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["mcp"]

mcp = typer.Typer(help="Serve MCP clients: a sandbox, or the tools of a multi-agent runtime.")


@mcp.command()
@options.with_option_groups
def sandbox(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            help="Which tools there are, and which calls need an approval: readonly, developer, "
            "developer-bash-only, unrestricted, or a YAML file.",
        ),
    ] = "developer",
    share: Annotated[
        Path | None,
        typer.Option(
            "--share",
            metavar="DIR",
            help="A directory of this machine that upload and download may copy from and to. "
            "Default: none; files go through the protocol.",
        ),
    ] = None,
    auto_approve: Annotated[
        bool, typer.Option("--auto-approve", "-y", help="Let all calls run without an approval.")
    ] = False,
    *,
    sandbox: SandboxOptions,
) -> None:
    """Serve one MCP client a sandbox, over stdin and stdout.

    The client gets bash, files, search, upload, download and the URLs of ports. The sandbox is
    made at its first call, and is gone when the client is. Calls that the profile gates are
    asked of the client's user, where the client can ask; elsewhere they are errors at once.

        paddock mcp sandbox --backend docker --image paddock:base

        claude mcp add box -- paddock mcp sandbox --upload .:project
    """
    project = options.project_file(sandbox.project)
    recipe = make_backend(sandbox, project=project, secrets=sandbox.secrets())
    require_trusted_setup(project, recipe, trust=sandbox.trust or sandbox.no_setup)
    if sandbox.no_setup:
        recipe = dataclasses.replace(recipe, setup=())
    if share is not None and not share.is_dir():
        raise ConfigError(f"--share {share}: there is no such directory")
    run(_serve_sandbox(recipe, load_profile(profile), share, auto_approve=auto_approve))


async def _serve_sandbox(
    recipe: Backend, profile: PermissionProfile, share: Path | None, *, auto_approve: bool
) -> None:
    with provisioning() as tell:
        await serve_sandbox(
            recipe, profile=profile, shared=share, auto_approve=auto_approve, on_progress=tell
        )
