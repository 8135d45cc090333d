"""Find out by trying which isolation works on this machine.

A settled finding is kept for the life of the process: it works, or the kernel refuses it.
A passing failure (no descriptors, no memory, a probe that is too slow) says nothing about
the machine: it is the error of the call that met it, and the next call tries again.
Whether a program is installed is looked up at every call.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from paddock.backends.guest.inside import landlock
from paddock.backends.isolation import bubblewrap, cgroups, seccomp
from paddock.backends.isolation.levels import CHOOSE_NONE, LIMITS_BY, Enforced
from paddock.errors import IsolationUnavailable, SandboxLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.backends.isolation.levels import Isolation

__all__ = ["Prober", "is_settled"]

SETTLED = re.compile(
    r"""
    (\buid_?\ ?map|\bgid_?\ ?map|setgroups|namespace|unshare|RTM_NEW\w+|mount\ proc|pivot_root
     |/\ slave|prctl|seccomp|landlock|mount_setattr|another\ owner|/cgroup)
    .*(not\ permitted|Permission\ denied|Invalid\ argument|not\ implemented|not\ supported
       |Read-only\ file\ system)
    |cannot\ be\ run.*(No\ such\ file|Permission\ denied|Exec\ format)
    |No\ permissions\ to\ creat|does\ not\ support|Unknown\ option|not\ available
    |no\ spare\ user\ ids|max_user_namespaces|cannot\ reach
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What bubblewrap, the launchers and the kernel say where a machine refuses isolation for good."""
INSTALL = "install your system's package 'bubblewrap' (the program bwrap)"
ALLOW_NAMESPACES = "unprivileged user namespaces have to be allowed (in a container, too)"


def is_settled(failure: str) -> bool:
    """Return whether a failure to start a sandbox will be the same next time."""
    return SETTLED.search(failure) is not None


class Prober:
    """Finds what works, with `start`: make a sandbox of that level, and end it again.

    Safe to use concurrently; two calls that come first may both try.
    """

    def __init__(self, start: Callable[[Enforced], Awaitable[None]]) -> None:
        self._start = start
        self._settled: dict[str, Enforced] = {}
        """By the program that was tried; Landlock needs none."""

    async def find(self, isolation: Isolation) -> Enforced:
        """Return what holds for a sandbox that asks for `isolation`.

        Raise `IsolationUnavailable` if the machine cannot give it, and for a passing failure
        what that is: an `OSError` or a `SandboxError`.
        """
        if isolation == "none":
            return Enforced(level="none")
        if isolation == "bubblewrap":
            found = await self._bubblewrap()
        elif isolation == "landlock":
            found = await self._landlock()
        else:
            found = await self.strongest()
        if found.level == "none":
            hint = "; ".join(filter(None, (found.hint, CHOOSE_NONE)))
            raise IsolationUnavailable(isolation, found.reason, backend="local", hint=hint)
        return found

    async def strongest(self) -> Enforced:
        """Return the highest level that works; `none`, with the reasons, if none does."""
        fenced = await self._bubblewrap()
        if fenced.level != "none":
            return fenced
        found = await self._landlock()
        if found.level != "none":
            return replace(found, reason=fenced.reason, hint=fenced.hint)
        reasons = dict.fromkeys((fenced.reason, found.reason))
        return replace(fenced, reason="; ".join(reasons))

    async def _bubblewrap(self) -> Enforced:
        if refused := _unsupported("bubblewrap"):
            return refused
        program = bubblewrap.program()
        if program is None:
            return _refused("bubblewrap (bwrap) is not installed", INSTALL)
        if program not in self._settled:
            self._settled[program] = await self._tried(
                Enforced(level="bubblewrap"), "bubblewrap does not work here", ALLOW_NAMESPACES
            )
        return self._settled[program]

    async def _landlock(self) -> Enforced:
        if refused := _unsupported("Landlock"):
            return refused
        abi = landlock.abi()
        if not abi:
            return _refused("this kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK)")
        if "landlock" not in self._settled:
            wanted = Enforced(level="landlock", abi=abi)
            self._settled["landlock"] = await self._tried(wanted, "Landlock does not work here", "")
        return self._settled["landlock"]

    async def _tried(self, wanted: Enforced, failing: str, hint: str) -> Enforced:
        looked = [cgroups.place(controller) for controller in LIMITS_BY]
        found = replace(
            wanted,
            places=tuple(place for place in looked if isinstance(place, cgroups.Place)),
            unlimited="; ".join(dict.fromkeys(why for why in looked if isinstance(why, str))),
        )
        failure = await self._failure(found)
        if failure and found.places:
            found = replace(wanted, unlimited=f"control groups do not work: {failure}")
            failure = await self._failure(found)
        return _refused(f"{failing}: {failure}", hint) if failure else found

    async def _failure(self, found: Enforced) -> str:
        """Try it; return why it is refused for good, or nothing. A passing failure is raised."""
        try:
            await self._start(found)
        except IsolationUnavailable as error:
            return error.reason
        except SandboxLost as error:
            if not is_settled(str(error)):
                raise
            return str(error)
        except OSError as error:
            reason = f"{error.filename or 'starting'}: {error.strerror or error}"
            if not is_settled(reason):
                raise
            return reason
        return ""


def _unsupported(name: str) -> Enforced | None:
    if sys.platform != "linux":
        return _refused(f"{name} needs Linux")
    if not seccomp.supported():
        return _refused("there is no system call table for this machine's processor")
    return None


def _refused(reason: str, hint: str = "") -> Enforced:
    return Enforced(level="none", reason=reason, hint=hint)
