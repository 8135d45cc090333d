"""Faults to order: what a service does now and then, and what a faulty backend does always."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from paddock._arguments import check_seconds, check_text, check_whole
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence
    from pathlib import PurePosixPath

__all__ = ["Fault", "FaultOrder", "Faults", "order_of"]


class Fault(enum.StrEnum):
    """What goes wrong. The first ones are a service's; those after `DIES` are a backend's bugs."""

    CREATE_FAILS = "create_fails"
    CREATE_SLOW = "create_slow"
    """Making a sandbox takes `seconds` more."""
    SLOW = "slow"
    """A command takes `seconds` more."""
    STREAM_BROKEN = "stream_broken"
    """The stream of a command breaks after its first output: `SandboxLost`."""
    COMMAND_LOST = "command_lost"
    """A command ends, and its exit code is lost: `CommandLost`."""
    DISK_FULL = "disk_full"
    """Writing a file by `fs` fails with `errno.ENOSPC`."""
    CLOSE_FAILS = "close_fails"
    DIES = "dies"
    """The sandbox dies as the command starts: `SandboxLost`, now and from then on."""

    EXIT_CODE_LOST = "exit_code_lost"
    """Every command ends with 0."""
    OUTPUT_CUT = "output_cut"
    """The last bytes of stdout are missing."""
    STREAMS_SWAPPED = "streams_swapped"
    STREAMS_MERGED = "streams_merged"
    STDIN_LOST = "stdin_lost"
    ARGV_JOINED = "argv_joined"
    """The words of a command meet a shell."""
    ENV_LEAKS = "env_leaks"
    """Commands see the variables of the sandboxes that were made before."""
    CWD_IGNORED = "cwd_ignored"
    LIMIT_IGNORED = "limit_ignored"
    """`max_output` does not matter."""
    TIMEOUT_LEAVES_CHILD = "timeout_leaves_child"
    CANCEL_IGNORED = "cancel_ignored"
    """A kill ends nothing."""
    OUTLIVES_CLOSE = "outlives_close"
    """A closed sandbox is still there."""
    MODE_LOST = "mode_lost"
    WRITE_TORN = "write_torn"
    """The end of a file is missing, and a write by pieces is seen before its end."""
    PATH_ESCAPES = "path_escapes"
    """A download writes beside its destination."""
    WRONG_ERROR = "wrong_error"
    """A missing file is a `RuntimeError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOrder:
    """A fault on the commands or paths that match the pattern `on`, at most `times` times.

    The pattern of a path is absolute, or relative to the working directory.
    """

    fault: Fault
    on: str = "*"
    times: int | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fault", _fault(self.fault))
        check_text("on", self.on)
        if self.times is not None:
            check_whole("times", self.times)
        check_seconds("seconds", self.seconds)


class Faults:
    """The orders of a recipe; `served` counts how often each has happened."""

    def __init__(
        self,
        orders: Sequence[FaultOrder],
        served: Counter[tuple[FaultOrder, int]],
        working_dir: PurePosixPath,
    ) -> None:
        # Equal orders are served one after the other.
        self._orders = [(each, orders[:at].count(each)) for at, each in enumerate(orders)]
        self._served = served
        self._working_dir = working_dir

    def strikes(self, fault: Fault, *names: str) -> FaultOrder | None:
        """Serve the first order of `fault` that is due for one of `names`, None without one."""
        for order, nth in self._orders:
            due = order.times is None or self._served[order, nth] < order.times
            matches = any(fnmatchcase(each, order.on) for each in names or ("",))
            if order.fault is fault and due and matches:
                self._served[order, nth] += 1
                return order
        return None

    def strikes_file(self, fault: Fault, path: PurePosixPath) -> FaultOrder | None:
        """As `strikes`, for the file at an absolute path."""
        names = [str(path)]
        if path.is_relative_to(self._working_dir):
            names.append(str(path.relative_to(self._working_dir)))
        return self.strikes(fault, *names)


def order_of(given: Fault | FaultOrder) -> FaultOrder:
    """Return the order of a fault that always happens, or the order itself."""
    return given if isinstance(given, FaultOrder) else FaultOrder(fault=given)


def _fault(given: str) -> Fault:
    try:
        return Fault(given)
    except ValueError:
        known = ", ".join(Fault)
        raise ConfigError(f"faults: {given!r}: give one of {known}") from None
