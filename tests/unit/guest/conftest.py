"""A guest at the end of a socket, and a host that knows nothing but the protocol."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.guest import inside
from paddock.backends.guest.inside import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER = Path(inside.__file__).parent.parent
BOOT = "import sys; sys.path.insert(0, {folder!r}); from inside.loop import main; main()"
DEADLINE = 60.0

Frame = tuple[int, int, bytes]


class RawGuest:
    """One guest, spoken to frame by frame."""

    def __init__(self, folder: Path, *, python: str, prefix: Sequence[str]) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(DEADLINE)
        command = [python, "-I", "-S", "-B", "-X", "utf8", "-c", BOOT.format(folder=str(FOLDER))]
        self.log = folder / "guest.log"
        with theirs, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *command],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=log,
                cwd="/",
                env={},
            )
        self.folder = folder
        self.frames = wire.Frames()
        self.unread: deque[Frame] = deque()
        self.channel = 0
        self.configured = self.request(
            "configure", limits={}, spill_dir=str(folder / "output"), lease=None
        )

    def send(self, kind: int, channel: int, payload: bytes = b"") -> None:
        self.socket.sendall(wire.frame(kind, channel, payload))

    def ask(self, operation: str, blob: bytes = b"", **arguments: Any) -> int:
        self.channel += 1
        body = {"op": operation, **arguments}
        self.send(wire.REQUEST, self.channel, wire.message(body, blob))
        return self.channel

    def request(self, operation: str, blob: bytes = b"", **arguments: Any) -> dict[str, Any]:
        return self.reply(self.ask(operation, blob, **arguments))

    def exec(self, *argv: str, stdin: bool = False, streamed: bool = True, keep: int = 0) -> int:
        return self.ask(
            "exec",
            argv=list(argv),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            cwd=str(self.folder),
            stdin=stdin,
            streamed=streamed,
            keep=keep,
        )

    def job(self, name: str, *, stdin: bool = False, streamed: bool = True, **args: Any) -> int:
        keep = 0 if streamed else wire.MAX_FRAME
        return self.ask(
            "job", job=name, args=args, cwd="/", stdin=stdin, streamed=streamed, keep=keep
        )

    def kill(self, channel: int, grace: float = 0.0) -> None:
        self.send(wire.KILL, channel, wire.message({"grace": grace}))

    def next(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The next frame that is wanted; earlier ones are kept for later."""
        skipped: deque[Frame] = deque()
        try:
            while True:
                while not self.unread:
                    data = self.socket.recv(1024 * 1024)
                    if not data:
                        raise EOFError(self.log.read_text())
                    self.unread.extend(self.frames.feed(data))
                frame = self.unread.popleft()
                if wanted(frame):
                    return frame
                skipped.append(frame)
        finally:
            self.unread.extendleft(reversed(skipped))

    def frame(self, kind: int, channel: int) -> bytes:
        return self.next(lambda frame: frame[:2] == (kind, channel))[2]

    def reply(self, channel: int) -> dict[str, Any]:
        return wire.parse_message(self.frame(wire.REPLY, channel))[0]

    def output(self, channel: int, *, credit: bool = True) -> tuple[bytes, bytes, dict[str, Any]]:
        """stdout, stderr and the reply of a command, all of it read as it comes."""
        streams = {wire.STDOUT: bytearray(), wire.STDERR: bytearray()}
        while True:
            kind, _, data = self.next(lambda frame: frame[1] == channel)
            if kind == wire.REPLY:
                body = wire.parse_message(data)[0]
                return bytes(streams[wire.STDOUT]), bytes(streams[wire.STDERR]), body
            streams[kind] += data
            if credit:
                self.send(wire.CREDIT, channel, wire.LENGTH.pack(len(data)))

    def line(self, channel: int) -> str:
        """What a command that prints one line first has printed."""
        text = b""
        while not text.endswith(b"\n"):
            text += self.frame(wire.STDOUT, channel)
        return text.decode().strip()

    def close(self) -> None:
        self.socket.close()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def gone(self, pid: int) -> None:
        """Wait until a process has ended; nobody tells us when it is not our child."""
        deadline = time.monotonic() + DEADLINE
        while is_alive(pid):
            assert time.monotonic() < deadline, f"process {pid} is alive"
            time.sleep(0.002)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")


@pytest.fixture
def start_guest(tmp_path: Path) -> Iterator[Callable[..., RawGuest]]:
    started: list[RawGuest] = []

    def start(*, python: str = sys.executable, prefix: Sequence[str] = ()) -> RawGuest:
        folder = tmp_path / f"guest{len(started)}"
        folder.mkdir()
        started.append(RawGuest(folder, python=python, prefix=prefix))
        return started[-1]

    yield start
    for guest in started:
        guest.close()


@pytest.fixture
def guest(start_guest: Callable[..., RawGuest]) -> RawGuest:
    return start_guest()
