"""The reaper: a process that removes what a killed maker leaves on an engine.

A container that was created and never started has no guest that could end it; one that is paused
has a guest that stands still. So a process starts a reaper before its first container: a shell that
waits at a pipe whose other end only the maker has. When the maker has ended, however it ended, and
left lock files, the shell becomes this module and removes those containers. It leaves running
containers alone: their guests end them when the lease runs out. It also removes the images that
forks were made from.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time

from paddock.backends import owner
from paddock.backends.docker.containers import inventory
from paddock.backends.docker.engine.client import DEADLINE, Engine, EngineError

__all__ = ["start"]

WAITING = """\
exec 3<&0
(
    read -r _ <&3
    for lock in "$0"/*; do
        [ -e "$lock" ] && exec "$@"
    done
) &
"""
INTERVAL = 1.0
"""Seconds between two looks for what the engine was still creating when its maker was killed."""

_starting = threading.Lock()
_started: set[str | None] = set()


def start(host: str | None) -> None:
    """Start the reaper of this process for the engine at `host`, once; blocks for milliseconds.

    It has a session of its own and is no child of ours, so that what ends us does not end it.
    """
    with _starting:
        if host in _started:
            return
        reader, writer = os.pipe()
        try:
            subprocess.run(
                ["/bin/sh", "-c", WAITING, owner.folder(), *_program(host)],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": tempfile.gettempdir()},
                start_new_session=True,
                check=True,
            )
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        _started.add(host)  # and the pipe stays open for as long as this process lives


def _program(host: str | None) -> list[str]:
    return [sys.executable, "-P", "-m", __name__, *([] if host is None else [host])]


async def inherit(host: str | None) -> None:
    """Remove what dead makers of this host had created and not started, or paused, and what
    an engine creates late: it continues with a request after the client has gone."""
    dead = owner.forget_dead()  # or the reaper of another engine has forgotten them already
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        # An engine that does not answer now may do so in a second.
        with contextlib.suppress(EngineError):
            engine = await Engine.connect(host)
            found = await inventory.collect(engine, status=["created", "paused"])
            if not (dead or found):
                return
            dead = True
        await asyncio.sleep(INTERVAL)


if __name__ == "__main__":
    asyncio.run(inherit(sys.argv[1] if sys.argv[1:] else None))
