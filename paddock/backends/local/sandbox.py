"""One sandbox on this machine: a guest's process and its directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock.backends.guest.program import ProgramSandbox, StartedGuest
from paddock.backends.isolation import cgroups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends import lease
    from paddock.backends.guest.ports import Gate
    from paddock.sandbox import Capability

__all__ = ["BACKEND", "LocalSandbox"]

BACKEND = "local"
"""The backend's name."""
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a process ends that is killed, and how bubblewrap tells it of the one inside."""


class LocalSandbox(ProgramSandbox):
    """Owns a directory, a guest's process and the stream to it."""

    one_user = "a local sandbox has one user; DockerBackend runs commands as others"
    no_terminals = (
        "under Landlock a sandbox of your own user could write to your other terminals; "
        "install bubblewrap"
    )

    def __init__(
        self,
        guest: StartedGuest,
        *,
        directory: lease.OwnedDirectory,
        working_dir: str,
        env: Mapping[str, str],
        labels: Mapping[str, str],
        capabilities: frozenset[Capability],
        gate: Gate,
        groups: tuple[cgroups.Group, ...],
    ) -> None:
        super().__init__(
            guest,
            sandbox_id=directory.path.name,
            backend=BACKEND,
            working_dir=PurePosixPath(working_dir),
            env=env,
            labels=labels,
            capabilities=capabilities,
            gate=gate,
        )
        self._directory = directory
        self._groups = groups

    def _describe_exit(self, status: int) -> str:
        cause = super()._describe_exit(status)
        if status in KILLED and (oom_kills := cgroups.oom_kills(self._groups)):
            cause += f"; out of memory: the OOM killer ended {oom_kills} of its processes"
        return cause

    def kill(self) -> None:
        """End all that runs here, for an event loop that is blocked; `aclose` removes the rest.

        May be called from any thread.
        """
        if self._process.returncode is None and self._process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)  # as at `aclose`

    async def _remove(self) -> None:
        await asyncio.to_thread(self._directory.remove)
