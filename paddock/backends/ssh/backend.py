"""Sandboxes on a host that `ssh` reaches: a directory there, and a guest that works in it."""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from paddock._arguments import check_absolute
from paddock._concurrency import acquire
from paddock._frozen import FrozenMapping
from paddock.backends.base import Backend, SandboxInfo
from paddock.backends.egress import gate
from paddock.backends.guest.bundle import boot, sources
from paddock.backends.guest.program import WITH_GUEST, ProgramSandbox, call, start_guest
from paddock.backends.isolation import bubblewrap
from paddock.backends.isolation.levels import CHOOSE_NONE, Enforced, Isolation, checked, requested
from paddock.backends.ssh import commands, keeper
from paddock.errors import ConfigError, IsolationUnavailable, SandboxError, SandboxLost, Unsupported
from paddock.network import Allow, check_network
from paddock.sandbox import Capability, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import ProgressCallback

__all__ = ["SshBackend"]

LEASE = 60.0
"""Seconds without a heartbeat after which a guest ends: nothing else tells it of a cut line."""
FENCED = Enforced(level="bubblewrap").capabilities(WITH_GUEST) - {Capability.LIMIT_PIDS}
NO_FENCE = re.compile(r"\bbwrap\b")
"""What the host says if bubblewrap does not work there, or is not installed."""
ENDS = {127: "its host has no Python of 3.8 or newer", 255: "ssh did not reach or lost its host"}


@dataclass(frozen=True, kw_only=True)
class SshBackend(Backend):
    """Sandboxes on another host of yours, which needs an sshd and a Python of 3.8 or newer.

    - `host`: as ``ssh`` takes it: a name of its configuration, ``user@name``, or
      ``ssh://user@name:port``. Without it, what ``PADDOCK_SSH_HOST`` says.
    - `config`: a file to read instead of ``~/.ssh/config``, or what ``PADDOCK_SSH_CONFIG`` says.
    - `isolation`: `"bubblewrap"`, for which `auto` stands here, shows commands the system's
      directories read-only and their own; `"none"` gives them all rights of the account.
    - `network`: `"none"`, and what `"auto"` means then, and ``Allow(...)`` need bubblewrap.
    - `working_dir`: a directory of the host, used in place, made if missing, and never removed.
      Without it a fresh one is made, and removed at the end.
    """

    name: ClassVar[str] = "ssh"

    host: str | None = None
    config: str | None = None
    isolation: Isolation | None = None
    network: Literal["auto", "none", "full"] | Allow = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("host", "config"):
            given = getattr(self, field) or os.environ.get(f"PADDOCK_SSH_{field.upper()}")
            object.__setattr__(self, field, given)
        if self.host is not None and not commands.HOST.fullmatch(str(self.host)):
            raise ConfigError(f"host={self.host!r}: give a name, user@name or ssh://user@name:port")
        check_network(self.network, "auto", "none", "full")
        if self.isolation is not None:
            checked(self.isolation, "isolation")
        check_absolute("working_dir", self.working_dir)

    async def delete(self, sandbox_id: str) -> bool:
        return bool(await self._ask("delete", name=sandbox_id))

    async def gc(self) -> Sequence[str]:
        return [str(name) for name in await self._ask("sweep")]

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        found = [info for each in await self._ask("list") if (info := _seen(each))]
        wanted = [each for each in found if (labels or {}).items() <= each.labels.items()]
        return sorted(wanted, key=lambda info: info.created)

    async def _ask(self, operation: str, **arguments: Any) -> Any:
        told = await call(*self._command({"op": operation, **arguments}))
        try:
            return json.loads(told.splitlines()[-1])  # a login shell may have printed something
        except (IndexError, ValueError):
            raise SandboxError(f"{self.host} gave no answer, but {told[-200:]!r}") from None

    def _command(self, asked: Mapping[str, Any]) -> Sequence[str]:
        """Return the command line that has the host do what is `asked`."""
        if self.host is None:
            hint = "give host=, or set PADDOCK_SSH_HOST"
            raise Unsupported("sandboxes without a host", backend=self.name, hint=hint)
        return commands.ssh(self.host, self.config, asked)

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        level = requested(self.isolation)
        if level == "landlock":
            raise Unsupported("isolation='landlock'", backend=self.name)
        if level == "none" and self.network not in ("auto", "full"):
            hint = "a command has the host's network; it needs isolation='bubblewrap'"
            raise Unsupported(f"network={self.network!r}", backend=self.name, hint=hint)
        await self._collect_once(str(self.host))
        return await acquire(self._start(fenced=level != "none"), Sandbox.aclose)

    async def _start(self, *, fenced: bool) -> Sandbox:
        name = secrets.token_hex(6)
        folder = f"{keeper.PLACE}{name}"
        working_dir = self.working_dir or (commands.WORKSPACE if fenced else f"{folder}/work")
        command = ["python3", "-I", "-S", "-B", "-X", "utf8", "-c", boot(sources())]
        if fenced:
            network = self.network == "full"
            command = [*commands.bwrap(folder, self.working_dir, network=network), *command]
        asked = {
            "op": "keep",
            "name": name,
            "about": {"labels": {**self.labels}, "working_dir": working_dir},
            "command": command,
            "files": commands.FILES if fenced else {},
            "work": self.working_dir,
        }
        way_out = gate(self.network)
        sandbox = SshSandbox(
            await start_guest(self._command(asked), sources()),
            sandbox_id=name,
            backend=self.name,
            working_dir=PurePosixPath(working_dir),
            env=self.env_vars,
            labels=self.labels,
            capabilities=FENCED if fenced else WITH_GUEST,
            gate=way_out,
        )
        try:
            answer = await sandbox.begin(
                make_working_dir=True,
                user=None,
                image_env=["HOME"],
                spill_dir=bubblewrap.OUTPUT if fenced else f"{folder}/output",
                lease=LEASE,
                listen=way_out.port,
            )
        except SandboxLost as error:
            if not fenced or NO_FENCE.search(error.reason) is None:
                raise
            raise IsolationUnavailable(
                "bubblewrap", error.reason, backend=self.name, hint=CHOOSE_NONE
            ) from None
        sandbox.env = FrozenMapping({**answer["env"], **way_out.variables, **self.env_vars})
        return sandbox


class SshSandbox(ProgramSandbox):
    """Owns the `ssh` that leads to a keeper, which removes the sandbox when this ends."""

    start_deadline = 60.0
    one_user = "the host's account is the only user"

    def _describe_exit(self, status: int) -> str:
        if status in ENDS:
            return ENDS[status]
        cause = f"signal {status - 128}, from outside," if status > 128 else "something"
        return f"{cause} ended its guest ({status})"

    async def _remove(self) -> None:
        """The keeper does, if it has not already."""


def _seen(about: Mapping[str, Any]) -> SandboxInfo | None:
    """Return what a keeper has written; None if it is not as it writes it."""
    try:
        return SandboxInfo(
            id=str(about["name"]),
            backend=SshBackend.name,
            state="running" if about["alive"] else "ended",
            owner="alive" if about["alive"] else "gone",
            created=datetime.fromtimestamp(about["created"], UTC),
            working_dir=str(about["working_dir"]),
            labels=FrozenMapping(about["labels"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
