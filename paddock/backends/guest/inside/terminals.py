"""Terminals of commands: pairs of descriptors, of which a command has the far one three times."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios

from .light import suppress
from .pipes import close_streams
from .streams import Inlet, Peer, Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .accounts import Account

SIZE = struct.Struct("HHHH")
"""Rows, columns, and pixels (unknown, 0)."""
NOT_SET = b"\0"
"""A control character that the terminal does not have."""


def make_terminal(
    rows: int, cols: int, account: Account | None, most: int
) -> tuple[tuple[int, int, None], list[int]]:
    """A terminal for a command that runs as `account`: our two ends, and the far one thrice.

    Raise `OSError` when descriptors from `most` on would be needed.
    """
    opened: list[int] = []
    try:
        opened += os.openpty()
        opened.append(os.dup(opened[0]))  # each way is watched by itself
        near, far, again = opened
        if max(opened) >= most:
            raise OSError(errno.EMFILE, "Too many commands at once")
        set_size(near, rows, cols)
        if account is not None:
            with suppress(PermissionError):  # it has the descriptors; others may not open the name
                os.fchown(far, account.uid, -1)
    except OSError:
        close_streams(opened)
        raise
    os.set_blocking(again, False)
    return (again, near, None), [far, far, far]


def set_size(fd: int, rows: int, cols: int) -> None:
    """The kernel tells the foreground group by SIGWINCH."""
    with suppress(OSError):  # its last process has ended
        fcntl.ioctl(fd, termios.TIOCSWINSZ, SIZE.pack(rows, cols, 0, 0))


def take_terminal() -> None:
    """Make stdin the controlling terminal of this process, which leads a session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def signal_foreground(fd: int, number: int) -> bool:
    """Signal the foreground group of a terminal; False if it has none."""
    try:
        group = os.tcgetpgrp(fd)
    except OSError:
        return False
    if group <= 1 or group == os.getpgrp():
        return False
    with suppress(OSError):  # it has ended meanwhile
        os.killpg(group, number)
    return True


class TerminalInlet(Inlet):
    """What is typed into a terminal. Its end is a character like others, and more may follow."""

    def __init__(self, sink: Sink, fd: int) -> None:
        super().__init__(sink, fd)
        self.last = b""

    def feed(self, data: bytes, sender: Peer | None) -> None:
        self.last = data[-1:] or self.last
        super().feed(data, sender)

    def end(self) -> None:
        """Type the terminal's end-of-file character, where it has one.

        In the middle of a line the first only hands on what was typed, and a second is the end.
        """
        if self.fd is None:
            return
        try:
            *_, local, _, _, characters = termios.tcgetattr(self.fd)
        except termios.error:
            return  # its last process has ended
        end = characters[termios.VEOF]
        if end == NOT_SET:
            return
        in_line = local & termios.ICANON and self.last not in (b"", b"\n", b"\r", end)
        self.feed(end + end if in_line else end, None)
