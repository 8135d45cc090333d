"""A guest as its host uses it: requests, commands, jobs and connections over its channels."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.channels import Channels
from paddock.backends.guest.inside import wire
from paddock.backends.guest.joined import JoinedProcess
from paddock.backends.guest.process import GuestProcess
from paddock.backends.guest.request import Request
from paddock.backends.guest.tunnel import Tunnels
from paddock.sandbox import KILL_GRACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.guest.connection import Connection
    from paddock.process import Command

__all__ = ["GuestClient"]

KILL_TIMEOUT = 30.0
"""Seconds, beyond the grace, after which a guest that runs and does not end a tree is given up:
SIGKILL takes effect at once unless the kernel holds a process in a disk wait."""
ID_BYTES = 6
"""Random bytes of a command's id, so that no two are the same."""
JOB_GRACE = 10.0
"""Seconds for one of the guest's own jobs to remove what it has half made."""


class GuestClient:
    """One guest. All methods may be called by many tasks at once.

    They raise `SandboxLost` and `SandboxClosed` when the sandbox is over.
    """

    def __init__(self, *, kill_timeout: float = KILL_TIMEOUT) -> None:
        self.channels: Channels = Channels()
        self.link = self.channels.link
        self.tunnels: Tunnels = Tunnels(self.channels)
        self._kill_timeout = kill_timeout

    def connect(self) -> Connection:
        """The protocol for the transport of the first stream."""
        return self.channels.connect()

    async def reconnect(self, connection: Connection, host: str) -> None:
        """Continue over another stream, as the guest's host that was called `host`.

        If this is cancelled or fails, the link stays `RECONNECTING`, and it may be called again.
        """

        async def succeed(pending: list[int]) -> int:
            arguments = {"host": host, "pending": pending}
            answer, _ = await self._request("succeed", b"", 0, arguments, first=True)
            return int(answer["last"])

        await self.channels.reconnect(connection, succeed)

    async def request(
        self, operation: str, blob: bytes = b"", /, *, reply_bytes: int = 0, **arguments: Any
    ) -> tuple[dict[str, Any], bytes]:
        """Ask one question; return the answer and at most `reply_bytes` of raw bytes.

        Raises the guest's error, and `CommandLost` if the stream broke and whether the request
        took effect is not known. If cancelled, the answer is dropped when it comes.
        """
        return await self._request(operation, blob, reply_bytes, arguments)

    async def _request(
        self,
        operation: str,
        blob: bytes,
        reply_bytes: int,
        arguments: Mapping[str, Any],
        *,
        first: bool = False,
    ) -> tuple[dict[str, Any], bytes]:
        payload = wire.message({"op": operation, **arguments}, blob)
        return await Request(self.channels, operation, payload, reply_bytes).answer(first=first)

    def exec(self, command: Command, source: str | None = None) -> GuestProcess:
        """Start a command; does not wait for the guest.

        It reads the file `source` inside, which is removed, instead of its stdin if that is given.
        """
        order: dict[str, Any] = {"op": "exec", "argv": list(command.argv), "env": dict(command.env)}
        order |= {"cwd": str(command.cwd), "user": command.user, "id": secrets.token_hex(ID_BYTES)}
        if command.detached:
            order["detached"] = True
        if source is not None:
            order["source"] = source
        if command.merge_output:
            order["merge_output"] = True
        if command.pty is not None:
            order["pty"] = {"rows": command.pty.rows, "cols": command.pty.cols}
        if (
            command.fence is not None
        ):  # an operation of its own: a guest that knows no fence runs nothing
            order |= {"op": "fenced", "fence": {"network": command.fence.network}}
        return self._start(
            order,
            KILL_GRACE,
            stdin=command.stdin and source is None,
            streamed=command.streamed,
            keep=command.keep,
        )

    async def join(self, process_id: str, keep: int) -> GuestProcess:
        """Join a command by its id. `ProcessLookupError` if there is none."""
        process = JoinedProcess(
            self.channels, process_id, keep, grace=KILL_GRACE, kill_timeout=self._kill_timeout
        )
        try:
            await process.joined()
        except BaseException:
            await process.aclose()
            raise
        return process

    def job(
        self,
        name: str,
        /,
        *,
        user: str | None,
        stdin: bool = False,
        streamed: bool = True,
        **arguments: Any,
    ) -> GuestProcess:
        """Start one of the guest's own jobs; its output is the job's answer.

        It has the rights of `user`, or else those of commands.
        """
        order = {"op": "job", "job": name, "args": arguments, "cwd": "/", "user": user}
        keep = 0 if streamed else wire.MAX_FRAME
        return self._start(order, JOB_GRACE, stdin=stdin, streamed=streamed, keep=keep)

    def _start(
        self, order: dict[str, Any], grace: float, *, stdin: bool, streamed: bool, keep: int
    ) -> GuestProcess:
        return GuestProcess(
            self.channels,
            {**order, "stdin": stdin, "streamed": streamed, "keep": keep},
            streamed=streamed,
            keep=keep,
            stdin=stdin,
            grace=grace,
            kill_timeout=self._kill_timeout,
        )
