"""``paddock mcp``: sandboxes and runtimes as servers of the Model Context Protocol."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paddock.cli import options
from paddock.cli.provisioning import provisioning
from paddock.cli.recipes import make_trusted_backend
from paddock.cli.running import run
from paddock.cli.sandbox_options import SandboxOptions
from paddock.errors import ConfigError, PaddockError
from paddock.mcp import create_mcp_runtime, serve_http, serve_sandbox, serve_stdio
from paddock.runtime.core.calling import call
from paddock.runtime.permissions.profile import load_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.backends.base import Backend
    from paddock.runtime.orchestration.runtime import Runtime
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["ServingOptions", "find_runtime", "mcp", "read_mapping"]

TRANSPORTS = ("stdio", "streamable-http")

mcp = typer.Typer(help="Serve MCP clients: a sandbox, or the tools of a multi-agent runtime.")


@mcp.command()
@options.with_option_groups
def sandbox(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            help="The profile of the tools and of the calls that need an approval: readonly, "
            "developer, developer-bash-only, unrestricted, or a YAML file.",
        ),
    ] = "developer",
    share: Annotated[
        Path | None,
        typer.Option(
            "--share",
            metavar="DIR",
            help="A directory of this machine that upload and download may use. "
            "Default: none; files go through the protocol.",
        ),
    ] = None,
    auto_approve: Annotated[
        bool, typer.Option("--auto-approve", "-y", help="Run all calls without an approval.")
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
    recipe = make_trusted_backend(sandbox, secrets=sandbox.secrets())
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """How the tools of a runtime are served."""

    transport: Annotated[
        str,
        typer.Option(
            "--transport",
            help="stdio, for one client that starts this command, or streamable-http, for any "
            "number of them.",
        ),
    ] = "stdio"
    host: Annotated[str, typer.Option("--host", help="The address to serve HTTP on.")] = "127.0.0.1"
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0 is a free one.")
    ] = 8765
    path: Annotated[str, typer.Option("--path", help="The path of the URL.")] = "/mcp"
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="A web page's origin that may send requests. Repeatable. Default: those of this "
            "machine, on a loopback address.",
        ),
    ] = None
    token_env: Annotated[
        str,
        typer.Option(
            "--token-env",
            metavar="NAME",
            help="The environment variable with the token that clients must send as "
            "'Authorization: Bearer TOKEN'; required unless the address is a loopback one.",
        ),
    ] = "PADDOCK_MCP_TOKEN"
    thread_id: Annotated[
        str | None, typer.Option("--thread-id", help="The thread of all calls. Default: its own.")
    ] = None
    call_timeout: Annotated[
        float,
        typer.Option(
            "--call-timeout", min=0, metavar="SECONDS", help="The time limit of each call."
        ),
    ] = 30.0

    async def serve(self, runtime: Runtime, agent: str) -> None:
        """Serve `agent`, and close `runtime` at the end."""
        if self.transport not in TRANSPORTS:
            raise ConfigError(f"--transport {self.transport}: give {' or '.join(TRANSPORTS)}")
        async with runtime:
            if self.transport == "stdio":
                await serve_stdio(
                    runtime,
                    agent=agent,
                    thread_id=self.thread_id,
                    call_timeout_secs=self.call_timeout,
                )
                return
            await serve_http(
                runtime,
                agent=agent,
                thread_id=self.thread_id,
                call_timeout_secs=self.call_timeout,
                host=self.host,
                port=self.port,
                path=self.path,
                transport=self.transport,
                allowed_origins=self.allow_origin,
                token=os.environ.get(self.token_env) or None,
                on_ready=lambda url: typer.echo(f"paddock: serving MCP at {url}", err=True),
            )


Agent = Annotated[
    str, typer.Option("--agent", metavar="NAME", help="The agent whose tools are served.")
]


@mcp.command()
@options.with_option_groups
def python(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:OBJECT",
            help="A runtime in a Python module, or a function that returns one.",
        ),
    ],
    agent: Agent,
    *,
    serving: ServingOptions,
) -> None:
    """Serve the tools of an agent of a multi-agent runtime.

    The module is imported here, with the current directory on its path: it runs with your rights.

        paddock mcp python shop:runtime --agent assistant

        paddock mcp python shop:make --agent assistant --transport streamable-http --port 0
    """
    run(_serve_python(source, agent, serving))


async def _serve_python(source: str, agent: str, serving: ServingOptions) -> None:
    await serving.serve(await find_runtime(source), agent)


async def find_runtime(source: str) -> Runtime:
    """Return what ``MODULE:OBJECT`` names. Raise `ConfigError` that says what is not there."""
    from paddock.runtime.orchestration.runtime import Runtime

    module_name, colon, name = source.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{source}: give MODULE:OBJECT, such as shop:runtime")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError(f"{source}: {module_name!r} is not the name of a module")
    sys.path.insert(0, os.getcwd())
    with _users_code(source, f"importing {module_name}"):
        found: Any = _imported(source, module_name)
    for part in name.split("."):
        with _users_code(source, f"looking up {part!r}"):
            if not hasattr(found, part):
                raise ConfigError(f"{source}: there is no {part!r} in {module_name}")
            found = getattr(found, part)
    if callable(found) and not isinstance(found, Runtime):
        with _users_code(source, "calling it without arguments"):
            found = await call(found)
    if not isinstance(found, Runtime):
        raise ConfigError(
            f"{source} is a {type(found).__name__}: give a Runtime, as create_runtime(spec) "
            "returns it, or a function that returns one"
        )
    return found


def _imported(source: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"{source}: there is no module {error.name!r}") from None


@contextlib.contextmanager
def _users_code(source: str, doing: str) -> Iterator[None]:
    """Turn what code of the user's raises in the block into a `ConfigError` that says where."""
    try:
        yield
    except PaddockError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {error}"
        if not isinstance(error, SyntaxError):  # which says it
            told += f" ({last.filename}, line {last.lineno})"
        raise ConfigError(f"{source}: {doing} failed: {told}") from error


@mcp.command()
@options.with_option_groups
def toolkit(
    toolkit: Annotated[
        list[str],
        typer.Option("--toolkit", metavar="NAME", help="A built-in toolkit to serve. Repeatable."),
    ],
    data_environment: Annotated[
        Path | None,
        typer.Option(
            "--data-environment",
            metavar="FILE",
            help="The data environment of the toolkits, in a YAML or JSON file.",
        ),
    ] = None,
    agent: Agent = "mcp",
    tenant_id: Annotated[
        str, typer.Option("--tenant-id", metavar="ID", help="The tenant of the data.")
    ] = "paddock-mcp",
    *,
    serving: ServingOptions,
) -> None:
    """Serve built-in toolkits, without a program.

    paddock mcp toolkit --toolkit references --tenant-id acme

    paddock mcp toolkit --toolkit catalog --data-environment data.yaml --tenant-id acme
    """
    from pydantic import ValidationError

    environment = None if data_environment is None else read_mapping(data_environment)
    try:
        runtime = create_mcp_runtime(
            toolkits=toolkit, agent=agent, tenant=tenant_id, data_environment=environment
        )
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error
    run(serving.serve(runtime, agent))


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file. Raise `ConfigError` for anything else."""
    from paddock.runtime.core.yamltext import read_text, read_yaml

    found = read_yaml(read_text(path), source=str(path)).data
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: a data environment is a mapping")
    return found
