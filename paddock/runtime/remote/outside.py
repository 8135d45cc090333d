"""From outside: start the runtime in a sandbox, and connect to it."""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
import signal
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from paddock._concurrency import cancel, finish
from paddock._logs import get_logger
from paddock.errors import ExecFailed, SandboxError
from paddock.runtime.remote.carried import SERVICES, carry
from paddock.runtime.remote.client import RuntimeUseClient
from paddock.runtime.remote.workplace import TOKEN_VARIABLE
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from paddock.process import Process
    from paddock.sandbox import Sandbox

__all__ = ["LISTENING", "address", "serve", "websocket_url"]

START_TIMEOUT = 120.0
"""Seconds until the server listens: one in a sandbox that is busy imports for some."""
STOP_TIMEOUT = 40.0
"""Seconds for the server to end its runs, which has 30 for it, before its tree is killed."""
LISTENING = re.compile(r"listening on port (\d+)")
SIGNED_FOR = 24 * 3600
"""Seconds for which a signed URL leads in: longer than any run."""
MAX_SAID = 64 * 1024
"""Bytes of what a server says that are kept for the error."""

_log = get_logger(__name__)


@asynccontextmanager
async def serve(
    sandbox: Sandbox,
    *,
    agent: str | None = None,
    handler: str | None = None,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    command: Sequence[str] | None = None,
) -> AsyncIterator[RuntimeUseClient]:
    """Run ``paddock serve`` in a sandbox; give a client of it.

    `agent` is one of ours, or `handler` a file or module in the sandbox; see ``paddock serve
    --help``, also for `arguments`. `env` is added to the server's environment: a model's key
    reaches an agent only there, or by `agent_env` of a request. Where Paddock is not installed, as
    it is in the image ``paddock:agent``, it is carried into the sandbox, if Python there is the
    same as here. `command` runs it if it is not ``paddock``.

    The server stops at the end of the block. Raises `ConfigError` if the sandbox has no Paddock,
    and `ExecFailed` if the server does not start.
    """
    token = secrets.token_urlsafe(32)
    services = SERVICES if handler is not None else SERVICES & {_provider(agent or "openai")}
    program, path = await _program(sandbox, command, services)
    given = [*program, "serve", "--port", "0"]
    given += ["--handler", handler] if handler is not None else ["--agent", agent or "openai"]
    if Capability.TCP not in sandbox.capabilities:
        given += ["--host", "0.0.0.0"]  # the service's proxy comes from outside
    process = await sandbox.start(
        [*given, *arguments], env={**path, **(env or {}), TOKEN_VARIABLE: token}
    )
    try:
        output = _Output(process)
        port = await output.port(given)
        reading = asyncio.create_task(output.read_on())
        try:
            yield RuntimeUseClient(websocket_url(await address(sandbox, port), token))
        finally:
            await finish(_stop(process))
            await cancel(reading)
    finally:
        await process.aclose()


def _provider(agent: str) -> str:
    return "anthropic" if agent == "claude" else agent


async def _program(
    sandbox: Sandbox, command: Sequence[str] | None, services: Collection[str]
) -> tuple[list[str], dict[str, str]]:
    """Return what runs Paddock in the sandbox: its program there, this one if it is there, or
    one that is carried there; and variables that it needs."""
    if command is not None:
        return list(command), {}
    here = f"{shlex.quote(sys.executable)} -c 'import paddock'"
    found = await sandbox.exec(
        f"command -v paddock || {here} 2>/dev/null && echo here", timeout=START_TIMEOUT
    )
    match found.stdout.split():
        case ["here"]:
            return [sys.executable, "-m", "paddock"], {}
        case [program, *_]:
            return [program], {}
    return ["python3", "-m", "paddock"], {"PYTHONPATH": await carry(sandbox, services)}


async def address(sandbox: Sandbox, port: int) -> str:
    """Return a URL of a port that needs no header, which a WebSocket's client may not have."""
    signed = getattr(sandbox, "signed_url", None)
    if signed is not None:
        return str(await signed(port, seconds=SIGNED_FOR))
    return await sandbox.url(port)


def websocket_url(url: str, token: str | None) -> str:
    """Return where a WebSocket connects to what is reached by HTTP at `url`."""
    parts = urlsplit(url)
    scheme: Literal["ws", "wss"] = "wss" if parts.scheme in ("https", "wss") else "ws"
    query = parts.query
    if token is not None:
        query = f"{query}&token={quote(token)}" if query else f"token={quote(token)}"
    return urlunsplit((scheme, parts.netloc, parts.path or "/", query, ""))


class _Output:
    """What the server says."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._pieces = process.output()
        self._said = b""

    async def port(self, command: Sequence[str]) -> int:
        """Return the port, when the server says that it listens."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                async for _, data in self._pieces:
                    self._said = (self._said + data)[-MAX_SAID:]
                    found = LISTENING.search(self._said.decode(errors="replace"))
                    if found is not None:
                        return int(found[1])
        await self._process.kill()
        raise ExecFailed(shlex.join(command), await self._process.wait())

    async def read_on(self) -> None:
        """Take what it says from then on, or it could say no more."""
        with suppress(SandboxError):
            async for stream, data in self._pieces:
                _log.debug("%s: %s", stream, data.decode(errors="replace").rstrip())


async def _stop(process: Process) -> None:
    with suppress(SandboxError, TimeoutError):
        await process.signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
