"""A guest at the end of a program's stdin and stdout, whatever that program leads through."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from paddock._concurrency import finish, interruptible
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.link import Liveness
from paddock.backends.guest.monitor import Monitor
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.backends.guest.stderr import GuestStderr, printable
from paddock.errors import SandboxError, SandboxLost, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import PurePosixPath

    from paddock.backends.guest.ports import Gate

__all__ = [
    "WITH_GUEST", "Program", "ProgramSandbox", "StartedGuest", "Streams", "call", "connect", "run",
    "start_guest",
]  # fmt: skip

WITH_GUEST = frozenset(
    {
        Capability.PROCESSES,
        Capability.PTY,
        Capability.TCP,
        Capability.TREE_KILL,
        Capability.URL,
    }
)
"""What a guest gives a sandbox on any Linux."""
STOP_GRACE = 3.0
"""Seconds for a program to end by itself once its stdin has ended; SIGTERM and SIGKILL follow."""
CALL_TIMEOUT = 60.0
"""Seconds for a program that lists or removes something, on a machine that is busy."""


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


async def start_guest(argv: Sequence[str], bundle: bytes) -> StartedGuest:
    """Start a program that leads to a Python which waits for `bundle`; see `guest.bundle`.

    Raise `Unsupported` if it is not installed. If it fails or is cancelled, the program ends by
    itself: its stdin has ended.
    """
    streams = await Streams.open()
    try:
        with _installed(argv[0]):
            process = await run(argv, streams)
        return await connect(process, streams, bundle)
    except BaseException:
        streams.close_ours()
        raise
    finally:
        streams.close_theirs()


async def call(*argv: str, stdin: bytes = b"", timeout: float = CALL_TIMEOUT) -> str:  # noqa: ASYNC109
    """Run a program of this machine to its end and return its stdout.

    Raise `Unsupported` if it is not installed, and `SandboxError` with what it printed if it fails.
    """
    pipe = asyncio.subprocess.PIPE
    with _installed(argv[0]):
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await interruptible(process.communicate(stdin))
    except TimeoutError:
        raise SandboxError(f"{argv[0]} did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await finish(process.communicate())
    if process.returncode:
        said = printable(stderr) or f"exit code {process.returncode}"
        raise SandboxError(f"{argv[0]} failed: {said}")
    return stdout.decode(errors="replace")


@contextlib.contextmanager
def _installed(program: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        hint = f"{program} is not installed, or not on PATH"
        raise Unsupported("this machine", backend=program, hint=hint) from None


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

    async def begin(self, *, make_working_dir: bool = False, **settings: Any) -> Mapping[str, Any]:
        """Configure the guest and return its answer; if that fails, the sandbox is closed."""
        try:
            async with asyncio.timeout(self.start_deadline):
                asked = {"limits": {}, "lease": None, **settings}
                asking = self._client.request("configure", **asked)
                answer, _ = await interruptible(asking)
                if make_working_dir:
                    await self.fs.mkdir(self.working_dir, parents=True, exist_ok=True)
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
