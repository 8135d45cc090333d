"""All supervisors of a guest: those at work, those that wait for it, those that were killed."""

from __future__ import annotations

import os

from .supervisor import Supervisor
from .trees import KILL_ROUND, children_of, stop_and_kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .supervisor import Order

    Callback = Callable[[], None]

KEPT = 8
"""As many stay for the next commands, and of those that more at once needed"""
KEPT_FOR_NOW = 64
"""so many, until"""
LOOK = 1.0
"""seconds have passed in which nobody needed them: making one takes longer than a command."""


class Supervisors:
    """Employs them, keeps some of them, and reaps what the guest has as children."""

    def __init__(self, after: Callable[[float, Callback], None]) -> None:
        self.after = after
        self.limits: dict[int, int] = {}
        self.all: dict[int, Supervisor] = {}
        self.idle: list[Supervisor] = []
        self.unneeded = 0
        self.looking = False
        self.graves: list[tuple[Supervisor, Callback]] = []

    def begin(self, limits: dict[int, int]) -> None:
        """Have one ready; `limits` are for the commands of all."""
        self.limits = limits
        self.idle.append(self.new())

    def new(self) -> Supervisor:
        supervisor = Supervisor(self.limits)
        self.all[supervisor.pid] = supervisor
        return supervisor

    def employ(self, order: Order, streams: Sequence[int]) -> Supervisor:
        """One that has been given `order`."""
        while self.idle:
            supervisor = self.idle.pop()
            self.unneeded = min(self.unneeded, len(self.idle))
            try:
                supervisor.give(order, streams)
            except OSError:  # something in the sandbox killed or stopped it while it waited
                supervisor.close()
            else:
                return supervisor
        supervisor = self.new()
        try:
            supervisor.give(order, streams)
        except OSError:
            supervisor.close()
            raise
        return supervisor

    def release(self, supervisor: Supervisor) -> None:
        if len(self.idle) >= KEPT_FOR_NOW:
            supervisor.close()
            return
        self.idle.append(supervisor)
        self.look_later()

    def look_later(self) -> None:
        if len(self.idle) > KEPT and not self.looking:
            self.looking = True
            self.after(LOOK, self.look)

    def look(self) -> None:
        """End those that nobody needed since the last look."""
        for _ in range(KEPT, self.unneeded):
            self.idle.pop(0).close()
        self.unneeded = len(self.idle)
        self.looking = False
        self.look_later()

    def reap(self) -> None:
        """Reap children: supervisors, and as the first process of a container, anybody's."""
        try:
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                supervisor = self.all.pop(pid, None)
                if supervisor is not None:
                    supervisor.alive = False
        except ChildProcessError:
            return

    def bury(self, supervisor: Supervisor, on_buried: Callback) -> None:
        """One was killed under its command: kill what becomes our child by that."""
        supervisor.close()
        self.graves.append((supervisor, on_buried))
        if len(self.graves) == 1:
            self.dig()

    def dig(self) -> None:
        self.reap()
        stop_and_kill(self.strangers)
        self.reap()
        # Its children become ours at the moment from which it can be reaped.
        if any(supervisor.alive for supervisor, _ in self.graves) or self.strangers():
            self.after(KILL_ROUND, self.dig)
            return
        graves, self.graves = self.graves, []
        for _, on_buried in graves:
            on_buried()

    def strangers(self) -> list[int]:
        return [pid for pid in children_of(os.getpid()) if pid not in self.all]
