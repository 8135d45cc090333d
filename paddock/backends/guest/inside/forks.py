"""Forks of a process that others signal as soon as they can see it."""

from __future__ import annotations

import os

from .light import signal


def fork() -> int:
    """Fork; SIGTERM waits for the child until it calls `take_signals`.

    An interpreter forgets the signals that arrive between the fork and the child's first
    instruction, and the guest sends SIGTERM to what it finds below a supervisor.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = -1
    try:
        child = os.fork()
    finally:
        if child:
            take_signals()
    return child


def take_signals() -> None:
    """Let SIGTERM through, also one that waits."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
