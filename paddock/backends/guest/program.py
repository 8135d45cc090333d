"""A guest at the end of a program's stdin and stdout, whatever that program leads through."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.link import Liveness
from paddock.backends.guest.monitor import Monitor
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.backends.guest.stderr import GuestStderr
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePosixPath

    from paddock.backends.guest.ports import Gate
    from paddock.sandbox import Capability

__all__ = ["Program", "ProgramSandbox", "StartedGuest", "Streams", "connect", "run"]

STOP_GRACE = 3.0
"""Seconds for a program to end by itself once its stdin has ended; SIGTERM and SIGKILL follow."""


class Program(Protocol):
    """A process of this machine; `asyncio.subprocess.Process` is one."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Both ends of a socket for a program's stdin and stdout, and a pipe for its stderr."""

    ours: socket.socket
    theirs: socket.socket
    stderr: GuestStderr
    writer: int

    @classmethod
    async def open(cls) -> Streams:
        ours, theirs = socket.socketpair()
        try:
            stderr, writer = await GuestStderr.open()
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return cls(ours=ours, theirs=theirs, stderr=stderr, writer=writer)

    def close_theirs(self) -> None:
        """Close what the program has inherited."""
        self.theirs.close()
        os.close(self.writer)

    def close_ours(self) -> None:
        self.ours.close()
        self.stderr.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedGuest:
    """A program, and the client of the guest that it leads to."""

    client: GuestClient
    process: Program
    stderr: GuestStderr


async def run(
    argv: Sequence[str],
    streams: Streams,
    *,
    env: Mapping[str, str] | None = None,
    passed: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start a program of this machine with these streams; it inherits the descriptors `passed`."""
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=streams.theirs.fileno(),
        stdout=streams.theirs.fileno(),
        stderr=streams.writer,
        env=env,
        cwd="/",
        pass_fds=passed,
        start_new_session=True,  # a terminal's Ctrl-C is for the host to act on
    )


async def connect(process: Program, streams: Streams, bundle: bytes = b"") -> StartedGuest:
    """Connect to the guest behind `process`, whose program is sent first if it is a `bundle`."""
    client = GuestClient()
    connection = client.connect()
    await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=streams.ours)
    if bundle:
        connection.write(bundle)
    return StartedGuest(client=client, process=process, stderr=streams.stderr)


class ProgramSandbox(GuestSandbox):
    """Owns a program that leads to a guest. Its end is the end of the sandbox."""

    heartbeat_interval: ClassVar[float] = 10.0
    """Seconds between two looks whether the guest still answers: a command may have stopped it."""
    start_deadline: ClassVar[float] = 20.0
    """Seconds until a guest has to answer: it takes some 50 ms, on a machine under load a few s."""

    def __init__(
        self,
        guest: StartedGuest,
        *,
        sandbox_id: str,
        backend: str,
        working_dir: PurePosixPath,
        env: Mapping[str, str],
        labels: Mapping[str, str],
        capabilities: frozenset[Capability],
        gate: Gate,
    ) -> None:
        super().__init__(
            guest.client,
            sandbox_id=sandbox_id,
            backend=backend,
            working_dir=working_dir,
            env=env,
            labels=labels,
            capabilities=capabilities,
            gate=gate,
        )
        self._process = guest.process
        self._stderr = guest.stderr
        guest.client.link.probe = self._probe
        self._monitor = Monitor(
            guest.client.link,
            guest.client.channels,
            interval=self.heartbeat_interval,
            exit_reason=self._exit_reason,
        )

    @abstractmethod
    async def _remove(self) -> None:
        """Remove what is left of the sandbox; its program has ended. Called again if it raised."""

    def _describe_exit(self, status: int) -> str:
        """Say how the program has ended, whose `returncode` is `status`."""
        return f"signal {-status} ended its guest" if status < 0 else f"its guest ended ({status})"

    async def begin(self, **settings: Any) -> Mapping[str, Any]:
        """Configure the guest and return its answer; if that fails, the sandbox is closed."""
        try:
            async with asyncio.timeout(self.start_deadline):
                answer, _ = await self._client.request("configure", **settings)
        except TimeoutError:
            await self.aclose()
            reason = f"its guest did not answer within {self.start_deadline:g} s"
            raise SandboxLost(reason, sandbox_id=self.id) from None
        except BaseException:
            await self.aclose()
            raise
        return answer

    async def _probe(self) -> Liveness:
        return Liveness.RUNNING if self._process.returncode is None else Liveness.ENDED

    async def _exit_reason(self) -> str:
        """Why the guest's stream ended; a program that only closed it is ended here."""
        ended = asyncio.ensure_future(self._process.wait())
        await asyncio.wait([ended], timeout=STOP_GRACE)
        if not ended.done():
            await _stop(self._process)
            return "its guest closed its stream"
        complaint = await self._stderr.last_words()
        cause = self._describe_exit(ended.result())
        return f"{cause}: {complaint}" if complaint else cause

    async def _close(self) -> None:
        self._client.link.close()
        await super()._close()
        await self._monitor.aclose()
        await _stop(self._process)
        self._stderr.close()
        await self._remove()


async def _stop(process: Program) -> None:
    """Wait for a program whose stream has ended; end it if it does not go by itself.

    SIGTERM comes first: at it a warden, or a guest without one, ends the whole tree below it.
    """
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.wait([waiting], timeout=STOP_GRACE)
    for end in (process.terminate, process.kill):
        if not waiting.done():
            with contextlib.suppress(ProcessLookupError):
                end()
            await asyncio.wait([waiting], timeout=STOP_GRACE)
    await waiting
