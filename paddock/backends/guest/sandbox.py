"""A sandbox whose inside is a guest: the contract in terms of its stream."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from paddock._frozen import FrozenMapping
from paddock.backends.guest.answers import PROCESS_ID, process_infos
from paddock.backends.guest.files import GuestFileSystem
from paddock.backends.guest.ports import Gate, Ports
from paddock.errors import ConfigError, Unsupported
from paddock.sandbox import Capability, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePosixPath

    from paddock.backends.guest.client import GuestClient
    from paddock.network import NetworkDecision
    from paddock.process import ProcessInfo
    from paddock.sandbox import Command, Process

__all__ = ["GuestSandbox"]

ID_SHOWN = 100
"""Characters that an error repeats of an id that no process has."""


class GuestSandbox(Sandbox):
    """Subclasses make the guest's process and take it down in `_close`, after ours."""

    unfenced = ""
    one_user = "its commands have one user"
    """What to do for a command that is to run as another user, where none can."""

    def __init__(
        self,
        client: GuestClient,
        *,
        sandbox_id: str,
        backend: str,
        working_dir: PurePosixPath,
        env: Mapping[str, str],
        labels: Mapping[str, str],
        capabilities: frozenset[Capability],
        gate: Gate,
    ) -> None:
        self.id = sandbox_id
        self.backend = backend
        self.working_dir = working_dir
        self.env = FrozenMapping(env)
        self.labels = labels
        self.capabilities = capabilities
        self.fs = GuestFileSystem(self, client)
        self._client = client
        client.link.sandbox_id = sandbox_id
        self._gate = gate
        self._ports = Ports(client, gate)

    @property
    def network_log(self) -> Sequence[NetworkDecision]:
        return tuple(self._gate.log)

    async def _url(self, port: int) -> str:
        return self._ports.url(port)

    async def _limit_time(self, lifetime: float | None, idle_timeout: float | None) -> None:
        await self._client.request("limit_time", lifetime=lifetime, idle_timeout=idle_timeout)

    async def _renew(self, lifetime: float | None) -> None:
        try:
            await self._client.request("renew", lifetime=lifetime)
        except ValueError as error:
            raise ConfigError(f"renew: {error}") from None

    async def _close(self) -> None:
        await self._ports.aclose()

    @property
    def lost(self) -> bool:
        return super().lost or self._client.link.over

    async def _list_processes(self) -> list[ProcessInfo]:
        answer, _ = await self._client.request("processes")
        try:
            return process_infos(answer)
        except (ValueError, KeyError, TypeError) as error:
            self._client.link.fail(f"protocol violation: {error}")
            raise self._client.link.error() from None

    async def _join_process(self, process_id: str, keep: int) -> Process:
        if not PROCESS_ID.fullmatch(process_id):
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), process_id[:ID_SHOWN])
        return await self._client.join(process_id, keep)

    async def _start(self, command: Command) -> Process:
        return self._begin(command)

    def _begin(self, command: Command, source: str | None = None) -> Process:
        """Start `command`; its stdin is the file `source`, which goes with it, if that is given."""
        if command.user is not None and Capability.USER not in self.capabilities:
            what = f"user={command.user!r}"
            raise Unsupported(what, backend=self.backend, hint=self.one_user)
        return self._client.exec(command, source)
