"""A command below the wrapper of `inside`, whatever carries its streams.

The wrapper prints on both of them how the command has ended, so that it does not matter what the
command's children hold open. A control shell ends its tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import signal
from abc import abstractmethod
from typing import TYPE_CHECKING

from paddock.backends.guest.inside.wire import WINDOW, Capture
from paddock.backends.guest.link import State
from paddock.backends.guest.monitor import until_gone
from paddock.backends.posix.inside import KEY_LENGTH
from paddock.backends.posix.marks import Mark, Marks
from paddock.backends.posix.table import members, targets
from paddock.buffered import BufferedProcess, captured
from paddock.errors import CommandLost, SandboxClosed, SandboxError, SandboxLost
from paddock.process import ExecResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.posix.control import ControlShell
    from paddock.process import Command, SignalTarget, Stream

__all__ = ["ShellProcess", "end_of_file"]

KILL_TIMEOUT = 20.0
"""Seconds, beyond the grace, after which a sandbox whose processes do not end is given up:
SIGKILL takes effect at once, but what is under load starts a command late."""
KILL_ROUND = 0.02
"""Seconds between two looks at a tree that is being ended; a look takes as long."""
REFUSAL_MAX = 4096
EXIT_CODE_MAX = 255
STREAMS: tuple[Stream, ...] = ("stdout", "stderr")
TERMINAL: tuple[Stream, ...] = ("stdout",)
"""The streams of a command that has a terminal."""
END_OF_FILE = b"\x04"
"""What ends the input of a terminal, unless a program has chosen another character."""


class ShellProcess(BufferedProcess):
    """Made at rest. Subclasses start it, and pass what arrives to `_on_output` and `_on_end`.

    The keys of all commands of a sandbox may begin with a `prefix`.
    """

    def __init__(self, control: ControlShell, command: Command, *, prefix: str = "") -> None:
        super().__init__(streamed=command.streamed)
        loop = asyncio.get_running_loop()
        self._control = control
        self._command = command
        self._key = prefix + secrets.token_hex((KEY_LENGTH - len(prefix)) // 2)
        self._streams = STREAMS if command.pty is None else TERMINAL
        self._marks = {stream: Marks(self._key) for stream in self._streams}
        self._captures = {stream: Capture(command.keep) for stream in STREAMS}
        self._ended: dict[Stream, int] = {}
        """The exit code, from the streams that reported the command's end."""
        self._left = False
        self._refusal = bytearray()
        self._unread_bytes = 0
        self._began = loop.time()
        self.begun: asyncio.Future[tuple[int, int] | None] = loop.create_future()
        """The numbers of the wrapper and of the command; None if it never ran. Always done in
        the end."""
        self._killing: asyncio.Task[None] | None = None
        self._look_up: asyncio.Task[None] | None = None

    # what subclasses do

    @abstractmethod
    def _read(self, *, more: bool) -> None:
        """Go on reading output, or stop until told again."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Nothing that arrives from now on matters, and nothing more is written."""

    async def _send_signal(self, number: int, pids: Sequence[int]) -> None:
        """Send a signal to processes, or to groups by their negative numbers."""
        await self._control.signal(number, pids)

    def _refused(self, answer: str) -> Exception:
        """Return why the command was not started, of which `answer` was said."""
        what = self._command.argv[0]
        if "argument list too long" in answer.lower():
            return OSError(errno.E2BIG, os.strerror(errno.E2BIG), what)
        return SandboxError(f"{what!r} was not started: {answer or 'no reason given'}")

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
        """Whether it has to be told when its sandbox is gone, and waited for."""
        return not self._result.done() or any(not task.done() for task in self._tasks())

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._killing, self._look_up) if task is not None]

    # from the streams

    def _on_output(self, stream: Stream, data: bytes) -> None:
        if self._result.done():
            return
        for piece in self._marks[stream].feed(data):
            if isinstance(piece, tuple):
                self._on_mark(stream, piece)
            else:
                self._take(stream, piece)
        self._changed.set()

    def _take(self, stream: Stream, data: bytes) -> None:
        if not self.begun.done():  # it is said why the command does not start
            self._refusal += data[: REFUSAL_MAX - len(self._refusal)]
            if stream == "stdout":
                return  # on this one nothing of the command comes before its beginning
        if stream not in self._ended and data:
            self._captures[stream].feed(data)
            self._unread_bytes += len(data)
            self._buffer(stream, data)
            if self._unread_bytes > WINDOW:
                self._read(more=False)

    def _on_mark(self, stream: Stream, mark: Mark) -> None:
        match mark:
            case ("begin", root, leader) if _is_number(root) and _is_number(leader):
                if not self.begun.done():
                    self.begun.set_result((int(root), int(leader)))
                    self._began = asyncio.get_running_loop().time()
            case ("cwd", name) if not self.begun.done():
                number = getattr(errno, name, errno.EIO)
                self._fail(OSError(number, os.strerror(number), str(self._command.cwd)))
            case ("end", _) if self._streams is TERMINAL:
                pass  # this one is for stderr, and the other one says more
            case ("end", code, *left) if _is_number(code) and stream not in self._ended:
                self._ended[stream] = min(int(code), EXIT_CODE_MAX)
                self._left = self._left or left == ["0"]
                if len(self._ended) == len(self._streams):
                    self._finish(self._ended[stream], background=self._left)
            case _:
                pass  # the command's own idea of a mark

    def _finish(self, code: int, *, background: bool) -> None:
        if self._result.done():
            return
        self._result.set_result(
            ExecResult(
                exit_code=code,
                out=captured(self._captures["stdout"]),
                err=captured(self._captures["stderr"]),
                duration=asyncio.get_running_loop().time() - self._began,
                background=background,
            )
        )
        self._conclude()

    def _fail(self, error: Exception) -> None:
        if not self._result.done():
            self._result.set_exception(error)
        self._conclude()

    def _conclude(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)
        self._hang_up()
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
        """The streams were cut: because the sandbox has ended, which is reported elsewhere; because
        the command was not started; or by the end of the wrapper, without which nothing of the
        command may stay."""
        error: Exception = CommandLost(
            "the command's supervisor was killed, or the stream to it was cut"
        )
        if not self.begun.done():
            error = self._refused(self._refusal.decode(errors="replace").strip())
            self.begun.set_result(None)
        with contextlib.suppress(SandboxLost, SandboxClosed):
            ending = asyncio.create_task(self.end_tree(0))
            while not await self._until_gone(ending, 0):
                await self._control.link.changed_from(State.PAUSED)
            await ending
        self._fail(error)

    def lose(self, error: SandboxLost | SandboxClosed) -> None:
        """The sandbox is gone, or closed."""
        self._fail(error)

    async def settle(self) -> None:
        """Wait for what this process still does by itself, once its sandbox is gone."""
        if tasks := self._tasks():
            await asyncio.wait(tasks)

    # for the owner

    def _taken(self, size: int) -> None:
        self._unread_bytes -= size
        if self._unread_bytes <= WINDOW:
            self._read(more=True)

    async def _signal(self, number: int, to: SignalTarget) -> None:
        await asyncio.wait([self.begun])
        begun = self.begun.result()
        if begun is None or (self._result.done() and to != "tree"):
            return
        root, leader = begun
        if to == "command" and self._command.pty is None:
            await self._send_signal(number, [leader])
            return
        table = await self._control.scan()
        if pids := targets(table, to, key=self._key, root=root, leader=leader):
            await self._send_signal(number, pids)

    async def _kill(self, grace: float) -> None:
        if self.gone:
            return
        if self._killing is None:
            self._killing = asyncio.create_task(self._end(grace))
        if not await self._until_gone(self._killing, grace) and not self._result.done():
            # The sandbox is paused: what is left of the tree is killed when it is resumed.
            self._finish(128 + signal.SIGKILL, background=False)

    async def _until_gone(self, ending: asyncio.Future[None], grace: float) -> bool:
        return await until_gone(self._control.link, ending, grace=grace, kill_timeout=KILL_TIMEOUT)

    async def _end(self, grace: float) -> None:
        try:
            await asyncio.wait([self.begun])
            await self.end_tree(grace)
            await asyncio.wait([self._result])
        except (SandboxLost, SandboxClosed) as error:
            self._fail(error)

    async def end_tree(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL, until nothing is left."""
        begun = self.begun.result()
        root = begun[0] if begun is not None else None
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace
        known: set[tuple[int, int]] = set()
        going = await self._signal_tree(root, known, killing=grace <= 0)
        # Not before: a command that was held up by its reader would print a lot more. Not later:
        # the wrapper may be held up, which has to say how it ends.
        self._discard()
        # Nothing tells when a process that is not ours to wait for has ended.
        while going:
            await asyncio.sleep(KILL_ROUND)
            going = await self._signal_tree(root, known, killing=clock() >= deadline)

    async def _signal_tree(
        self, root: int | None, known: set[tuple[int, int]], *, killing: bool
    ) -> bool:
        """Signal the processes of the tree that were not signalled yet; False if it is empty.

        The group is stopped while it is looked at: it may fork faster than it can be listed,
        and a process that has left it is found by its parents, as long as they live.
        """
        group = [-root] if root is not None and (killing or not known) else []
        if group:
            await self._send_signal(signal.SIGSTOP, group)
        table = await self._control.scan()
        found = members(table, key=self._key, root=root, known=known)
        pids = [one.pid for one in found if killing or (one.pid, one.started) not in known]
        known |= {(one.pid, one.started) for one in found}
        if pids:
            await self._send_signal(signal.SIGKILL if killing else signal.SIGTERM, pids)
        if group:
            await self._send_signal(signal.SIGCONT, group)
        return bool(found)


def end_of_file(last: bytes) -> bytes:
    """What to type to end a terminal's input after `last`.

    In the middle of a line the first only hands on what was typed, and a second is the end.
    """
    in_line = last[-1:] not in (b"", b"\n", b"\r", END_OF_FILE)
    return END_OF_FILE * (2 if in_line else 1)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()
