"""One command, run by the engine's exec, its output on a stream of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from paddock._concurrency import acquire
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.hijack import STDERR, STDOUT, HijackedStream, open_hijacked
from paddock.backends.guest.inside.wire import PIECE
from paddock.backends.posix.command import environment, wrapped
from paddock.backends.posix.inside import KEY
from paddock.backends.posix.process import ShellProcess, end_of_file
from paddock.backends.users import UNKNOWN_TO_ENGINE, unknown_user
from paddock.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.fallback.watchdog import Watchdog
    from paddock.backends.posix.inside import Inside
    from paddock.sandbox import Command, Stream

__all__ = ["ExecProcess"]

NAMES: dict[int, Stream] = {STDOUT: "stdout", STDERR: "stderr"}


class _ExecStream(HijackedStream):
    """The stream of one exec; all that it says goes to its process."""

    def __init__(self, what: str, engine: Engine, exec_id: str, process: ExecProcess) -> None:
        terminal = process.has_terminal
        body = json.dumps({"Detach": False, "Tty": terminal}).encode()
        super().__init__(what, engine, f"/exec/{exec_id}/start", body, terminal=terminal)
        self._process = process

    def on_open(self, transport: asyncio.Transport) -> None:
        self._process._transport = transport

    def on_output(self, stream: int, data: bytes) -> None:
        if stream in NAMES:
            self._process._on_output(NAMES[stream], data)

    def on_end(self, error: Exception | None) -> None:
        self._process._on_end()

    def pause_writing(self) -> None:
        self._process._writable.clear()

    def resume_writing(self) -> None:
        self._process._writable.set()


class ExecProcess(ShellProcess):
    """Made at rest; `begin` starts it."""

    def __init__(
        self, engine: Engine, container: str, watchdog: Watchdog, inside: Inside, command: Command
    ) -> None:
        super().__init__(watchdog, command)
        self._engine = engine
        self._container = container
        self._inside = inside
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._exec_id = ""
        self._typed = b""

    @property
    def has_terminal(self) -> bool:
        return self._command.pty is not None

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
                tty=self.has_terminal,
                user=command.user or "",
                environment=environment(command, self._inside) | {KEY: self._key},
            )
            self._exec_id = made["Id"]
            # The engine may start what it was asked to after we have hung up, so we do not.
            await acquire(
                open_hijacked(
                    self._engine, what, lambda: _ExecStream(what, self._engine, made["Id"], self)
                ),
                lambda stream: self._kill(0),
            )
        except BaseException as error:
            self._fail(SandboxError(f"{command.argv[0]!r} was not started: {error}"))
            raise
        if command.pty is not None:
            await self._resize(command.pty.rows, command.pty.cols)

    async def _resize(self, rows: int, cols: int) -> None:
        if not self.has_terminal:
            await super()._resize(rows, cols)
        resize = self._engine.client.exec_resize
        with contextlib.suppress(EngineError):  # it has ended
            await self._engine.call("resizing a terminal", resize, self._exec_id, rows, cols)

    def _read(self, *, more: bool) -> None:
        if self._transport is not None:
            if more:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _hang_up(self) -> None:
        """The engine keeps reading the output, for as long as the wrapper lives."""
        if self._transport is not None:
            self._transport.abort()
        self._writable.set()

    async def _send_signal(self, number: int, pids: Sequence[int]) -> None:
        user = self._command.user
        if user is None or self._inside.root:
            await super()._send_signal(number, pids)
            return
        # The watchdog's user may not signal them. Those that have ended are no error.
        script = f"kill -{number} {' '.join(map(str, pids))} 2>/dev/null"
        argv, client = [self._inside.sh, "-c", script], self._engine.client
        what = f"ending a command of {user}"
        with contextlib.suppress(EngineError):  # the next look finds them again, or no container
            made = await self._engine.call(
                what, client.exec_create, self._container, argv, user=user
            )
            await self._engine.call(what, client.exec_start, made["Id"])

    def _refused(self, answer: str) -> Exception:
        if UNKNOWN_TO_ENGINE.search(answer):
            return unknown_user(self._command.user or "")
        return super()._refused(answer)

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._result.done() or self._transport is None or self._transport.is_closing():
                raise BrokenPipeError("the command does not read its stdin")
            if not self._writable.is_set():
                await self._writable.wait()
                continue
            self._transport.write(view[:PIECE])
            view = view[PIECE:]
        self._typed = data[-1:] or self._typed

    async def send_eof(self) -> None:
        if self.has_terminal:
            with contextlib.suppress(BrokenPipeError):
                await self._send(end_of_file(self._typed))
        elif not self._result.done() and self._transport is not None:
            self._transport.write_eof()
