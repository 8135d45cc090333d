"""The commands of all hosts, by their ids: those that run, and those that ended detached.

An ended command is kept for a host that joins later if it was detached, or if its host had gone.
"""

from __future__ import annotations

import errno
import os
import time
from abc import ABC, abstractmethod

from .light import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .files import Body

LISTED = 1000
"""Commands that a list has, the youngest; as many that have ended are kept,"""
KEPT_BYTES = 16 * 1024 * 1024
"""with so much output of all of them: of older ones only how they ended."""

ARGV_CHARACTERS = 500
"""Of its program and arguments together, that a command is listed with."""
JOINED_MAX = 8
"""Hosts at one command."""


class Entry:
    """What a command can be found by."""

    def __init__(self, body: Body) -> None:
        self.id: str = body["id"]
        self.user: str | None = body.get("user")
        self.argv: list[str] = []
        left = ARGV_CHARACTERS
        for each in body["argv"]:
            self.argv.append(each[:left])
            left -= len(each) + 1
            if left <= 0:
                break


class Listed(ABC):
    """A command, as the roster sees it."""

    entry: Entry | None
    """What it is found by; None for a job of the guest's own."""
    detached: bool
    """Whether a host that joins may ask for it when it has ended."""
    started: float
    status: int | None
    background: bool
    has_terminal: bool

    @property
    @abstractmethod
    def exit_code(self) -> int | None:
        """None while its leading process runs."""

    @property
    @abstractmethod
    def kept_bytes(self) -> int:
        """Of its output, in memory."""

    @abstractmethod
    def forget_output(self) -> None:
        """Keep none of it."""


class Roster:
    """Each command is in it from its start until it is forgotten."""

    def __init__(self) -> None:
        self.commands: set[Listed] = set()
        """Those of which something may be left."""
        self.ended: deque[Listed] = deque()
        self.ended_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether a leading process has not ended."""
        return any(command.status is None for command in self.commands)

    def on_over(self, command: Listed) -> None:
        """Nothing of it is left."""
        self.commands.discard(command)
        if command.entry is None or not command.detached:
            return
        self.ended.append(command)
        self.ended_bytes += command.kept_bytes
        if len(self.ended) > LISTED:
            self.ended_bytes -= self.ended.popleft().kept_bytes
        for old in self.ended:
            if self.ended_bytes <= KEPT_BYTES:
                return
            self.ended_bytes -= old.kept_bytes
            old.forget_output()

    def find(self, wanted: str) -> Listed:
        """Raise `ProcessLookupError` if there is none."""
        for command in (*self.commands, *self.ended):
            if command.entry is not None and command.entry.id == wanted:
                return command
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), wanted)

    def describe(self) -> list[dict[str, Any]]:
        """What hosts are told of those that they can join, oldest first."""
        there = [one for one in (*self.commands, *self.ended) if one.entry is not None]
        there.sort(key=lambda one: one.started)
        return [described(one) for one in there[-LISTED:]]


def described(command: Listed) -> dict[str, Any]:
    entry = command.entry
    assert entry is not None, "a job is described"
    return {
        "id": entry.id,
        "argv": entry.argv,
        "user": entry.user,
        "age": time.monotonic() - command.started,
        "exit_code": command.exit_code,
        "background": command.background,
        "pty": command.has_terminal,
        "detached": command.detached,
    }
