"""Pipes between the guest and a command, and how much they hold."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

F_SETPIPE_SZ = 1031
"""As Linux has it; the module has the name only since Python 3.10."""


def make_streams(
    stdin: bool, merged: bool, most: int, source: str | None = None
) -> tuple[tuple[int | None, int, int | None], list[int]]:
    """Pipes for a command: our ends of stdin (None without), stdout, stderr; and the far ends.

    `merged` makes one pipe of stdout and stderr; our end of stderr is None then. Without `stdin`
    the command reads the file `source`, which has no name from then on. Raises `OSError` when
    descriptors from `most` on would be needed.
    """
    opened: list[int] = []
    try:
        if stdin:
            opened += os.pipe()
            os.set_blocking(opened[1], False)
        elif source is not None:
            opened.append(os.open(source, os.O_RDONLY | os.O_NOFOLLOW))
            os.unlink(source)
        else:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        opened += os.pipe()
        if not merged:
            opened += os.pipe()
        if max(opened) >= most:
            raise OSError(errno.EMFILE, "Too many commands at once")
    except OSError:
        close_streams(opened)
        raise
    near_stdin = opened[1] if stdin else None
    if merged:
        out, far = opened[-2:]
        return (near_stdin, out, None), [opened[0], far, far]
    out, out_far, err, err_far = opened[-4:]
    return (near_stdin, out, err), [opened[0], out_far, err_far]


def set_pipe_size(fd: int, size: int) -> int:
    """Let a pipe hold `size` bytes; return how many it holds now, or 0 if it stays as it is.

    It stays where its user has too many already, where more is in it, and if it is no pipe.
    """
    import fcntl  # which most guests never need

    try:
        return fcntl.fcntl(fd, F_SETPIPE_SZ, size)
    except OSError:
        return 0


def close_streams(fds: Iterable[int | None]) -> None:
    """Close each once, however often it is named."""
    for fd in set(fds):
        if fd is not None:
            os.close(fd)
