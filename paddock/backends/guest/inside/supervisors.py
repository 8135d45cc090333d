"""All supervisors of a guest: those at work, those that wait for it, those that were killed."""

from __future__ import annotations

import os

from .light import suppress
from .supervisor import Supervisor
from .trees import KILL_ROUND, children_of, stop_and_kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .accounts import Account
    from .shield import OomScore
    from .supervisor import Order

    Callback = Callable[[], None]

FIRST_TO_GO = 500
"""Thousandths of all memory, added to the badness of commands: when it runs out the kernel ends
one of them, and not the guest."""
KEPT = 8
"""As many stay for the next commands, and of those that more at once needed"""
KEPT_FOR_NOW = 64
"""so many, until"""
LOOK = 1.0
"""seconds have passed in which they were not needed: making one takes longer than a command."""


class Supervisors:
    """Employs them, keeps some of them, and reaps what the guest has as children."""

    def __init__(self, after: Callable[[float, Callback], None], oom_score: OomScore) -> None:
        self.after = after
        self.oom_score = oom_score
        self.limits: dict[int, int] = {}
        self.account: Account | None = None
        """Whose rights commands have that name no user; None for the guest's own."""
        self.all: dict[int, Supervisor] = {}
        self.idle: list[Supervisor] = []
        self.unneeded = 0
        self.looking = False
        self.killed: list[tuple[Supervisor, Callback]] = []

    def begin(self, limits: dict[int, int]) -> None:
        """Have one ready soon; `limits` are for the commands of all."""
        self.limits = limits
        self.after(0, self.have_one)

    def have_one(self) -> None:
        if not self.all:
            with suppress(OSError):  # the first command will say why
                self.idle.append(self.new(self.account))

    def new(self, account: Account | None) -> Supervisor:
        self.oom_score.raise_to(FIRST_TO_GO)
        try:
            supervisor = Supervisor(self.limits, account)
        finally:
            self.oom_score.restore()
        self.all[supervisor.pid] = supervisor
        return supervisor

    def employ(self, order: Order, streams: Sequence[int]) -> Supervisor:
        """One that has been given `order`; one with the guest's rights to become another user."""
        account = self.account_for(order)
        while supervisor := self.take_idle(account):
            self.unneeded = min(self.unneeded, len(self.idle))
            try:
                supervisor.give(order, streams)
            except OSError:  # something in the sandbox killed or stopped it while it waited
                supervisor.close()
            else:
                return supervisor
        supervisor = self.new(account)
        try:
            supervisor.give(order, streams)
        except OSError:
            supervisor.close()
            raise
        return supervisor

    def account_for(self, order: Order) -> Account | None:
        """Whose rights its supervisor has; None for the guest's, to become another user."""
        return self.account if order.get("user") is None else None

    def take_idle(self, account: Account | None) -> Supervisor | None:
        """The one that came last of those with these rights."""
        for index in reversed(range(len(self.idle))):
            if self.idle[index].account is account:
                return self.idle.pop(index)
        return None

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
        """End those that were not needed since the last look."""
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

    def end_tree(self, supervisor: Supervisor, on_ended: Callback) -> None:
        """Kill the tree of a supervisor that was killed: the guest inherits it."""
        supervisor.close()
        self.killed.append((supervisor, on_ended))
        if len(self.killed) == 1:
            self.end_foreign()

    def end_foreign(self) -> None:
        """Kill children that are no supervisors, round after round, until none is left."""
        self.reap()
        stop_and_kill(self.foreign)
        self.reap()
        # Its children become ours at the moment from which it can be reaped.
        if any(supervisor.alive for supervisor, _ in self.killed) or self.foreign():
            self.after(KILL_ROUND, self.end_foreign)
            return
        killed, self.killed = self.killed, []
        for _, on_ended in killed:
            on_ended()

    def foreign(self) -> list[int]:
        return [pid for pid in children_of(os.getpid()) if pid not in self.all]
