"""One sandbox as the control plane keeps it, and how it looks on the wire.

Knows nothing of how states follow each other, nor of what its toolbox does.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from paddock.testing.daytona.recipe import BUILD_ERROR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from aiohttp import web

__all__ = ["ORGANIZATION", "BuildLog", "Sandbox", "ToolboxLike", "ToolboxType"]

ORGANIZATION = "00000000-0000-4000-8000-000000000001"
_NOT_LISTED = frozenset(
    {"env", "kvm", "volumes", "buildInfo", "outboundProxyUrl", "otelEndpointOverride"}
    | {"linkedSandboxId"}
)


class ToolboxLike(Protocol):
    """What runs inside a sandbox; `Toolbox` of this package is one."""

    async def start(self) -> None:
        """Begin to serve."""

    async def stop(self) -> None:
        """Kill every process of the sandbox; its files stay."""

    async def remove(self) -> None:
        """Stop, and delete the files; nothing to do the second time."""

    async def handle(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer `request`, whose path begins with `path` once the sandbox's id is gone."""


class ToolboxType(Protocol):
    """Makes the toolbox of a sandbox whose files are in `root`."""

    def __call__(self, root: Path, *, env: Mapping[str, str], image: str) -> ToolboxLike:
        """Nothing is started yet."""


class BuildLog:
    """The lines of a build, for readers that come late and for those that wait."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self._shown = 0
        self._done = False
        self._changed = asyncio.Event()

    async def play(self, delay: float) -> str | None:
        """Let readers have a line each `delay` seconds; return why the build failed, if it did."""
        failure = None
        for line in self.lines:
            await asyncio.sleep(delay)
            self._shown += 1
            self._wake()
            if line.startswith(BUILD_ERROR):
                failure = line.removeprefix(BUILD_ERROR).strip()
                break
        self.finish()
        return failure

    def finish(self) -> None:
        """No more lines will come."""
        self._done = True
        self._wake()

    async def read(self, *, follow: bool) -> AsyncIterator[str]:
        """The lines so far, and with `follow` those to come until the end."""
        given = 0
        while True:
            changed = self._changed
            while given < self._shown:
                given += 1
                yield self.lines[given - 1]
            if self._done or not follow:
                return
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(kw_only=True, eq=False)
class Sandbox:
    """A live sandbox. `settings` are the fields that it took over from requests as they are."""

    name: str
    image: str
    toolbox: ToolboxLike
    created_at: dt.datetime
    active_at: float
    settings: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    labels: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    image_env: dict[str, str] = field(default_factory=dict)
    state: str = "unknown"
    desired: str = "started"
    error_reason: str | None = None
    recoverable: bool = False
    updated_at: dt.datetime | None = None
    halted_at: float | None = None
    ttl_minutes: int = 0
    parent: str | None = None
    build: BuildLog | None = None
    build_info: dict[str, Any] | None = None
    moving: asyncio.Task[None] | None = None
    stuck: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Set to let it continue where it is stuck."""
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    signing_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    signed: dict[str, tuple[int, float]] = field(default_factory=dict, repr=False)
    ssh: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def busy(self) -> bool:
        """Whether it is on its way from one state to another."""
        return self.moving is not None and not self.moving.done()

    @property
    def ephemeral(self) -> bool:
        """Whether stopping it deletes it."""
        return self.settings.get("autoDeleteInterval") == 0

    def to_wire(self, toolbox_url: str, last_activity: dt.datetime) -> dict[str, Any]:
        """The `Sandbox` of the API."""
        optional = {
            "errorReason": self.error_reason,
            "buildInfo": self.build_info,
            "autoDestroyAt": (
                (self.created_at + dt.timedelta(minutes=self.ttl_minutes)).isoformat()
                if self.ttl_minutes
                else None
            ),
        }
        return {
            **self.settings,
            "id": self.id,
            "organizationId": ORGANIZATION,
            "name": self.name,
            "env": self.env,
            "labels": self.labels,
            "state": self.state,
            "desiredState": self.desired,
            "recoverable": self.recoverable,
            "backupState": "None",
            "createdAt": self.created_at.isoformat(),
            "updatedAt": (self.updated_at or self.created_at).isoformat(),
            "lastActivityAt": last_activity.isoformat(),
            "daemonVersion": "0.226.1",
            "runnerId": "runner-1",
            "toolboxProxyUrl": toolbox_url,
            **{name: value for name, value in optional.items() if value is not None},
        }

    def to_item(self, toolbox_url: str, last_activity: dt.datetime) -> dict[str, Any]:
        """The `SandboxListItem` of the API, which tells less."""
        whole = self.to_wire(toolbox_url, last_activity)
        return {name: value for name, value in whole.items() if name not in _NOT_LISTED}
