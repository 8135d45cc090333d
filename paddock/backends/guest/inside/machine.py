"""What all commands of a guest share, whichever host started them."""

from __future__ import annotations

import os

from .light import suppress
from .poller import Poller
from .roster import Roster
from .spills import Spills
from .supervisor import descriptor_limit
from .supervisors import Supervisors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from .accounts import Account
    from .shield import OomScore

LOGIN = ("HOME", "USER", "LOGNAME")
"""What a login sets."""
SPARE_DESCRIPTORS = 16
"""Kept from commands: without any the guest could neither look at processes nor kill them."""
OOM_COUNTS = ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events")
"""Where a container sees its own control group: version 1 and version 2."""


class Machine:
    """Events, supervisors and limits."""

    def __init__(self, oom_score: OomScore) -> None:
        self.poller = Poller()
        self.supervisors = Supervisors(self.poller.after, oom_score)
        self.descriptors = descriptor_limit() - SPARE_DESCRIPTORS
        """The first descriptor that neither a command nor a connection may take."""
        self.spills = Spills()
        self.roster = Roster()
        self.oom_kills = oom_kills()
        self.account: Account | None = None
        """The user whose rights commands and file operations have, where the guest is root."""
        self.login: Sequence[str] = LOGIN
        """The variables of a login that the image does not set itself."""

    def log_in(self, user: str | None, image_env: Sequence[str]) -> bool:
        """Have commands run as `user`, or else as the guest's own; return whether they may
        run as others, too. Raise `UnknownUser`.

        A guest stays root only where `user` cannot replace what it is made of. Otherwise it
        becomes that user itself.
        """
        from .accounts import UnknownUser, find_account, foundations  # only containers have users

        self.login = [name for name in LOGIN if name not in image_env]
        if user is None:
            with suppress(UnknownUser):
                find_account(str(os.geteuid())).log_in(os.environ, self.login)
            return os.geteuid() == 0
        account = find_account(user)
        account.log_in(os.environ, self.login)
        os.setgroups(account.groups)
        os.setegid(account.gid)
        with account.acting():
            replaceable = any(map(account.can_replace, foundations()))
        if replaceable:
            account.become()
            return False
        self.account = self.supervisors.account = account
        return True

    def acting(self) -> AbstractContextManager[None]:
        """Touch files as commands would; for a block that waits for nothing."""
        return suppress() if self.account is None else self.account.acting()

    def memory_ran_out(self) -> bool:
        """Whether the kernel has ended something for lack of memory since this was last asked."""
        before, self.oom_kills = self.oom_kills, oom_kills()
        return self.oom_kills > before


def oom_kills() -> int:
    """How often the kernel has done that, where the control group can be seen."""
    for path in OOM_COUNTS:
        with suppress(OSError), open(path) as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0
