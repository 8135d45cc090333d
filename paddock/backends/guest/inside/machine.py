"""What all commands of a guest share, whichever host started them."""

from __future__ import annotations

import contextlib

from .poller import Poller
from .spills import Spills
from .supervisor import descriptor_limit
from .supervisors import Supervisors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shield import OomScore

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
        self.oom_kills = oom_kills()

    def memory_ran_out(self) -> bool:
        """Whether the kernel has ended something for lack of memory since this was last asked."""
        before, self.oom_kills = self.oom_kills, oom_kills()
        return self.oom_kills > before


def oom_kills() -> int:
    """How often the kernel has done that, where the control group can be seen."""
    for path in OOM_COUNTS:
        with contextlib.suppress(OSError), open(path) as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0
