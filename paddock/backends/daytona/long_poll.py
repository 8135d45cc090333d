"""A guest's stream carried by requests: the transport of a sandbox that has no other wire.

What is to be said goes in the next request, and the same request waits for the answer; so a
call of a sandbox is one request. While answers are outstanding one request waits for them,
and a new one sets it free. A request that is said again, because its answer was lost, is
taken once. It knows neither how a request is made nor what it carries.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import secrets
import shlex
import zlib
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from paddock.backends.daytona.relay_buffer import ANSWER, ANSWER_MAX, CALL, TAG_BYTES, sign
from paddock.backends.guest.bundle import boot, sources
from paddock.backends.guest.stderr import TAIL_BYTES, printable
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.backends.guest.channels import Channels

__all__ = ["PATIENCE", "LongPollTransport", "parse_answer"]

PATIENCE = 20.0
"""Seconds that a request waits inside, unless something on its way gives it up sooner: below the
30 s after which proxies often do."""
AT_ONCE = 4
"""Requests on their way, so that a long upload does not wait for each answer."""
WORDS_MAX = 512 * 1024
"""Bytes in one request: in base64 they are below the 1 MB that a command is known to take."""
ARGUMENT_MAX = 96 * 1024
"""Bytes of one argument of a program; Linux takes 128 KiB."""
TOO_OLD = "python3: not found: this one is older than 3.8"
PYTHON = f"sys.version_info >= (3, 8) or sys.exit('{TOO_OLD}')"
CALLER = """\
import base64, socket, sys, zlib
name, head = sys.argv[1:3]
words = zlib.decompress(base64.b64decode("".join(sys.argv[3:])))
with socket.socket(socket.AF_UNIX) as buffer:
    buffer.connect("\\0" + name)
    buffer.sendall(bytes.fromhex(head) + words)
    buffer.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: buffer.recv(65536), b""))
print(base64.b64encode(zlib.compress(answer, 1)).decode())
"""


class Answer(NamedTuple):
    """`data` is what the guest said from place `start` on; if `ended`, why it ended."""

    start: int
    ended: bool
    data: bytes


class LongPollTransport(asyncio.Transport):
    """The stream of one guest, made with its first words.

    `run` runs a shell command in the sandbox and gives what it printed. It is given what makes
    the command for so many seconds that it may wait inside, and how many are wanted. It does so
    again if the answer was lost, and raises `SandboxLost` when that is hopeless.
    """

    def __init__(
        self,
        run: Callable[[Callable[[float], str], float], Awaitable[str]],
        channels: Channels,
    ) -> None:
        super().__init__()
        self._run = run
        self._channels = channels
        self._connection = channels.connect()
        self._name = secrets.token_hex(16)
        self._key = secrets.token_bytes(32)
        self._opened = False
        self._unsent = bytearray()
        self._sent = 0
        self._heard = 0
        self._on_the_way: set[asyncio.Task[None]] = set()
        self._closing = False
        self._connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._unsent:
            # After what else is begun now: it goes along.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._go_on)
        self._unsent += data

    def _go_on(self) -> None:
        """Send what there is to send, and see that somebody waits for what is awaited."""
        while self._unsent and self._has_room():
            self._ask()
        if not self._on_the_way and self._channels.waiting:
            self._ask()

    def _has_room(self) -> bool:
        # Nothing overtakes the request that opens the relay buffer.
        return not self._closing and len(self._on_the_way) < (AT_ONCE if self._opened else 1)

    def _ask(self) -> None:
        if self._closing:
            return
        words = bytes(self._unsent[:WORDS_MAX])
        del self._unsent[:WORDS_MAX]
        patience = 0.0 if self._unsent or not self._channels.waiting else PATIENCE
        command = self._command(self._sent, words)
        self._sent += len(words)
        task = asyncio.ensure_future(self._exchange(command, patience))
        self._on_the_way.add(task)
        task.add_done_callback(self._arrived)

    def _command(self, offset: int, words: bytes) -> Callable[[float], str]:
        """The shell command of one request, made of the seconds that it waits inside. It reads
        nothing of the shell's own stdin."""
        program = CALLER
        if not self._opened:
            buffer = files(__package__).joinpath("relay_buffer.py").read_text()
            opening = f"open_relay_buffer(sys.argv[1], {boot(sources())!r}, {self._key.hex()!r})"
            program = f"{buffer}\n{opening}\n{CALLER}"
        packed = _packed(program)
        read = "exec(zlib.decompress(base64.b64decode(sys.argv.pop(1))))"
        loader = f"import base64, sys, zlib; {PYTHON}; {read}"
        text = base64.b64encode(zlib.compress(words)).decode()
        pieces = [text[at : at + ARGUMENT_MAX] for at in range(0, len(text), ARGUMENT_MAX)]
        before = ["python3", "-I", "-S", "-c", loader, packed, self._name]
        heard, eager = self._heard, int(self._channels.streaming)

        def command(patience: float) -> str:
            call = CALL.pack(offset, heard, patience, eager)
            head = sign(self._key, b"call", call + words) + call
            argv = [*before, head.hex(), *pieces]
            return f"exec {shlex.join(argv)} </dev/null 2>&1"

        return command

    async def _exchange(self, command: Callable[[float], str], patience: float) -> None:
        try:
            answer = parse_answer(await self._run(command, patience), self._key)
        except SandboxLost as error:
            self._channels.link.fail(error.reason)
        except Exception as error:  # whatever it is, the callers that wait get it
            self._channels.link.fail(str(error))
        else:
            self._opened = True
            self._hear(answer)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        # Told of every task, one that was cancelled before its first step included.
        self._on_the_way.discard(task)
        if not self._closing:
            self._go_on()

    def _hear(self, answer: Answer) -> None:
        if answer.ended:
            said = printable(answer.data[-TAIL_BYTES:])
            reason = f"its guest has ended: {said}" if said else "its guest has ended"
            self._channels.link.fail(reason)
            return
        new = answer.data[self._heard - answer.start :]
        if answer.start <= self._heard and new:
            self._heard += len(new)
            self._connection.data_received(new)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Stop asking. What the sandbox does continues."""
        self.abort()

    def abort(self) -> None:
        if self._closing:
            return
        self._closing = True
        for task in self._on_the_way:
            if task is not asyncio.current_task():
                task.cancel()
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    async def wait_closed(self) -> None:
        """Wait until no request of ours is on its way."""
        while self._on_the_way:
            await asyncio.wait(self._on_the_way)


@functools.lru_cache(maxsize=2)
def _packed(program: str) -> str:
    """A program as an argument: the same one for every request but the first."""
    return base64.b64encode(zlib.compress(program.encode())).decode()


def parse_answer(printed: str, key: bytes) -> Answer:
    """Parse what `CALLER` printed. Raise `ValueError` for what the relay buffer did not sign."""
    inflating = zlib.decompressobj()
    try:
        data = inflating.decompress(
            base64.b64decode(printed.strip(), validate=True), TAG_BYTES + ANSWER.size + ANSWER_MAX
        )
    except (ValueError, zlib.error) as error:
        raise ValueError(f"no answer of a relay buffer: {error}") from None
    tag, data = data[:TAG_BYTES], data[TAG_BYTES:]
    if len(data) < ANSWER.size or not inflating.eof:
        raise ValueError("no answer of a relay buffer: it is too short, or too long")
    if not secrets.compare_digest(sign(key, b"answer", data), tag):
        raise ValueError("no answer of a relay buffer: something in the sandbox forged it")
    start, ended = ANSWER.unpack_from(data)
    return Answer(start, bool(ended), data[ANSWER.size :])
