"""One command, run by the engine's exec, its output on a stream of its own.

How it ends is told by its wrapper on that stream, so that what its children hold open does
not matter; its tree is ended by the watchdog.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import signal
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock.backends.docker.engine.hijack import STDERR, STDOUT, HijackedStream, open_hijacked
from paddock.backends.guest.inside.wire import PIECE, WINDOW, Capture
from paddock.backends.guest.link import State
from paddock.backends.guest.monitor import until_gone
from paddock.backends.posix.command import environment, wrapped
from paddock.backends.posix.inside import KEY, KEY_LENGTH
from paddock.backends.posix.marks import Mark, Marks
from paddock.backends.posix.table import members
from paddock.buffered import BufferedProcess, captured
from paddock.errors import CommandLost, SandboxClosed, SandboxError, SandboxLost
from paddock.sandbox import KILL_GRACE, ExecResult

if TYPE_CHECKING:
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.fallback.watchdog import Watchdog
    from paddock.backends.posix.inside import Inside
    from paddock.sandbox import Command, Stream

__all__ = ["ExecProcess"]

KILL_TIMEOUT = 20.0
"""Seconds, beyond the grace, after which a container whose processes do not end is given up:
SIGKILL takes effect at once, but an engine under load starts a command late."""
KILL_ROUND = 0.02
"""Seconds between two looks at a tree that is being ended; a look takes as long."""
REFUSAL_MAX = 4096
NAMES: dict[int, Stream] = {STDOUT: "stdout", STDERR: "stderr"}


class _ExecStream(HijackedStream):
    """The stream of one exec; all that it says goes to its process."""

    def __init__(self, what: str, engine: Engine, exec_id: str, process: ExecProcess) -> None:
        super().__init__(what, engine, f"/exec/{exec_id}/start", b'{"Detach":false,"Tty":false}')
        self._process = process

    def on_open(self, transport: asyncio.Transport) -> None:
        self._process._on_open(transport)

    def on_output(self, stream: int, data: bytes) -> None:
        self._process._on_output(stream, data)

    def on_end(self, error: Exception | None) -> None:
        self._process._on_end()

    def pause_writing(self) -> None:
        self._process._writable.clear()

    def resume_writing(self) -> None:
        self._process._writable.set()


class ExecProcess(BufferedProcess):
    """Made at rest; `begin` starts it."""

    def __init__(
        self, engine: Engine, container: str, watchdog: Watchdog, inside: Inside, command: Command
    ) -> None:
        super().__init__(streamed=command.streamed)
        loop = asyncio.get_running_loop()
        self._engine = engine
        self._container = container
        self._watchdog = watchdog
        self._inside = inside
        self._command = command
        self._key = secrets.token_hex(KEY_LENGTH // 2)
        self._marks = {stream: Marks(self._key) for stream in NAMES}
        self._captures = {stream: Capture(command.keep) for stream in NAMES}
        self._ended: dict[int, int] = {}
        """The exit code, by the streams on which the command's end was told."""
        self._left = False
        self._refusal = bytearray()
        self._transport: asyncio.Transport | None = None
        self._unread_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._began = loop.time()
        self.begun: asyncio.Future[tuple[int, int] | None] = loop.create_future()
        """The numbers of the wrapper and of the command; None if it never ran. Always done in
        the end."""
        self._killing: asyncio.Task[None] | None = None
        self._look_up: asyncio.Task[None] | None = None

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left to end."""
        if self._killing is not None:
            return self._killing.done()
        if self.busy:
            return False
        return self._result.exception() is not None or not self._result.result().background

    @property
    def busy(self) -> bool:
        """Whether it has to be told when its container is gone, and waited for."""
        return not self._result.done() or any(not task.done() for task in self._tasks())

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._killing, self._look_up) if task is not None]

    async def begin(self) -> None:
        """Start the command. If cancelled, nothing of it is left."""
        command = self._command
        what = f"starting {command.argv[0]!r}"
        try:
            made = await self._engine.call(
                what,
                self._engine.client.exec_create,
                self._container,
                wrapped(command, self._inside),
                stdin=command.stdin,
                user=command.user or "",
                environment=environment(command, self._inside) | {KEY: self._key},
            )
            # The engine may start what it was asked to after we have hung up, so we do not.
            await acquire(
                open_hijacked(
                    self._engine, what, lambda: _ExecStream(what, self._engine, made["Id"], self)
                ),
                lambda stream: self._kill(0),
            )
        except BaseException:
            if not self.begun.done():
                self.begun.set_result(None)
            raise

    # from the stream

    def _on_open(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def _on_output(self, stream: int, data: bytes) -> None:
        if stream not in NAMES or self._result.done():
            return
        for piece in self._marks[stream].feed(data):
            if isinstance(piece, tuple):
                self._on_mark(stream, piece)
            else:
                self._take(stream, piece)
        self._changed.set()

    def _take(self, stream: int, data: bytes) -> None:
        if not self.begun.done():  # the engine says why it does not start the command
            self._refusal += data[: REFUSAL_MAX - len(self._refusal)]
            if stream == STDOUT:
                return  # on this one nothing of the command comes before its beginning
        if stream not in self._ended and data:
            self._captures[stream].feed(data)
            self._unread_bytes += len(data)
            self._buffer(NAMES[stream], data)
            if self._unread_bytes > WINDOW and self._transport is not None:
                self._transport.pause_reading()

    def _on_mark(self, stream: int, mark: Mark) -> None:
        match mark:
            case ("begin", root, leader) if root.isdigit() and leader.isdigit():
                if not self.begun.done():
                    self.begun.set_result((int(root), int(leader)))
                    self._began = asyncio.get_running_loop().time()
            case ("cwd", name) if not self.begun.done():
                number = getattr(errno, name, errno.EIO)
                self._fail(OSError(number, os.strerror(number), str(self._command.cwd)))
            case ("end", code, *left) if code.isdigit() and stream not in self._ended:
                self._ended[stream] = int(code)
                self._left = self._left or left == ["0"]
                if len(self._ended) == len(NAMES):
                    self._finish(int(code), background=self._left)
            case _:
                pass  # the command's own idea of a mark

    def _finish(self, code: int, *, background: bool) -> None:
        if self._result.done():
            return
        self._result.set_result(
            ExecResult(
                exit_code=code,
                out=captured(self._captures[STDOUT]),
                err=captured(self._captures[STDERR]),
                duration=asyncio.get_running_loop().time() - self._began,
                background=background,
            )
        )
        self._hang_up()

    def _fail(self, error: Exception) -> None:
        if not self._result.done():
            self._result.set_exception(error)
        self._hang_up()

    def _hang_up(self) -> None:
        """The engine goes on reading what is printed, for as long as the wrapper is there."""
        if not self.begun.done():
            self.begun.set_result(None)
        if self._transport is not None:
            self._transport.abort()
        self._writable.set()
        self._changed.set()

    def _on_end(self) -> None:
        for stream, marks in self._marks.items():
            self._take(stream, marks.rest())
        if self._result.done():
            return
        if self._ended:  # the wrapper could not say more: it may start no process
            self._finish(next(iter(self._ended.values())), background=True)
        elif self._killing is not None:
            self._finish(128 + signal.SIGKILL, background=False)
        else:
            self._look_up = asyncio.create_task(self._find_out())

    async def _find_out(self) -> None:
        """The stream was cut: because its container has ended, which is told elsewhere; because
        the command was not started; or by the end of the wrapper, without which nothing of the
        command may stay."""
        error: Exception = CommandLost(
            "the command's supervisor was killed, or the engine cut the stream to it"
        )
        if not self.begun.done():
            error = _refused(self._refusal.decode(errors="replace").strip(), self._command)
            self.begun.set_result(None)
        with contextlib.suppress(SandboxLost, SandboxClosed):
            ending = asyncio.create_task(self._end_tree(0))
            while not await self._until_gone(ending, 0):
                await self._watchdog.link.changed_from(State.PAUSED)
            await ending
        self._fail(error)

    def lose(self, error: SandboxLost | SandboxClosed) -> None:
        """The container is gone, or closed."""
        self._fail(error)

    async def settle(self) -> None:
        """Wait for what this process still does by itself, once its container is gone."""
        if tasks := self._tasks():
            await asyncio.wait(tasks)

    # for the owner

    def _taken(self, size: int) -> None:
        self._unread_bytes -= size
        if self._unread_bytes <= WINDOW and self._transport is not None:
            self._transport.resume_reading()

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._result.done() or self._transport is None or self._transport.is_closing():
                raise BrokenPipeError("the command does not read its stdin")
            if not self._writable.is_set():
                await self._writable.wait()
                continue
            self._transport.write(view[:PIECE])
            view = view[PIECE:]

    async def send_eof(self) -> None:
        if not self._result.done() and self._transport is not None:
            self._transport.write_eof()

    async def signal(self, number: int) -> None:
        await asyncio.wait([self.begun])
        begun = self.begun.result()
        if begun is not None and not self._result.done():
            await self._watchdog.signal(number, [begun[1]])

    async def kill(self, *, grace: float = KILL_GRACE) -> None:
        await finish(self._kill(grace))

    async def _kill(self, grace: float) -> None:
        if self.gone:
            return
        if self._killing is None:
            self._killing = asyncio.create_task(self._end(grace))
        if not await self._until_gone(self._killing, grace) and not self._result.done():
            # The container is paused: what is left of the tree is killed when it is resumed.
            self._finish(128 + signal.SIGKILL, background=False)

    async def _until_gone(self, ending: asyncio.Future[None], grace: float) -> bool:
        return await until_gone(self._watchdog.link, ending, grace=grace, kill_timeout=KILL_TIMEOUT)

    async def _end(self, grace: float) -> None:
        self._discard()
        try:
            await asyncio.wait([self.begun])
            await self._end_tree(grace)
            await asyncio.wait([self._result])
        except (SandboxLost, SandboxClosed) as error:
            self._fail(error)

    async def _end_tree(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL, until nothing is left."""
        begun = self.begun.result()
        root = begun[0] if begun is not None else None
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace
        known: set[tuple[int, int]] = set()
        # Nothing tells when a process that is not ours to wait for has ended.
        while await self._signal_tree(root, known, killing=clock() >= deadline):  # noqa: ASYNC110
            await asyncio.sleep(KILL_ROUND)

    async def _signal_tree(
        self, root: int | None, known: set[tuple[int, int]], *, killing: bool
    ) -> bool:
        """Look at the tree and signal those in it who have not been; False if it is empty.

        The group is stopped while it is looked at: it may fork faster than it can be listed,
        and whoever has left it is known by its parents, as long as they live.
        """
        group = [-root] if root is not None and (killing or not known) else []
        if group:
            await self._watchdog.signal(signal.SIGSTOP, group)
        table = await self._watchdog.scan()
        found = members(table, key=self._key, root=root, known=known)
        pids = [one.pid for one in found if killing or (one.pid, one.started) not in known]
        known |= {(one.pid, one.started) for one in found}
        if pids:
            await self._watchdog.signal(signal.SIGKILL if killing else signal.SIGTERM, pids)
        if group:
            await self._watchdog.signal(signal.SIGCONT, group)
        return bool(found)


def _refused(answer: str, command: Command) -> Exception:
    """Why the engine did not start a command."""
    if "argument list too long" in answer.lower():
        return OSError(errno.E2BIG, os.strerror(errno.E2BIG), command.argv[0])
    if "unable to find user" in answer or "unable to find group" in answer:
        return ValueError(f"there is no user called {command.user}")
    return SandboxError(
        f"the engine did not start {command.argv[0]!r}: {answer or 'no reason given'}"
    )
