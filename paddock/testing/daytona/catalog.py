"""Snapshots and volumes, and how the API shows them; independent of sandboxes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.testing.daytona.envelope import ApiError
from paddock.testing.daytona.sandbox import ORGANIZATION, BuildLog

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["Catalog", "Snapshot", "Volume"]


@dataclass(kw_only=True, eq=False)
class Snapshot:
    """A snapshot; its files, if it has any, are kept under its id."""

    name: str
    image: str
    created_at: dt.datetime
    cpu: int = 1
    memory: int = 1
    disk: int = 3
    general: bool = False
    state: str = "active"
    error_reason: str | None = None
    source: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] | None = None
    build: BuildLog | None = None
    build_info: dict[str, Any] | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def to_wire(self) -> dict[str, Any]:
        """The `SnapshotDto` of the API."""
        body: dict[str, Any] = {
            "id": self.id,
            "organizationId": ORGANIZATION,
            "general": self.general,
            "name": self.name,
            "imageName": self.image,
            "state": self.state,
            "size": 0.1,
            "entrypoint": self.entrypoint,
            "cpu": self.cpu,
            "gpu": 0,
            "mem": self.memory,
            "disk": self.disk,
            "errorReason": self.error_reason,
            "createdAt": self.created_at.isoformat(),
            "updatedAt": self.created_at.isoformat(),
            "lastUsedAt": None,
            "sourceSandboxId": self.source,
        }
        return body if self.build_info is None else {**body, "buildInfo": self.build_info}


@dataclass(kw_only=True, eq=False)
class Volume:
    """A volume; nothing is mounted anywhere."""

    name: str
    created_at: dt.datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def to_wire(self) -> dict[str, Any]:
        """The `VolumeDto` of the API."""
        return {
            "id": self.id,
            "name": self.name,
            "organizationId": ORGANIZATION,
            "state": "ready",
            "createdAt": self.created_at.isoformat(),
            "updatedAt": self.created_at.isoformat(),
            "errorReason": None,
        }


class Catalog:
    """The snapshots and volumes of one server, by id."""

    def __init__(self, default: Snapshot) -> None:
        self.default = default
        self.snapshots = {default.id: default}
        self.volumes: dict[str, Volume] = {}

    def snapshot(self, id_or_name: str) -> Snapshot:
        """Raises `ApiError` 404."""
        for snapshot in self.snapshots.values():
            if id_or_name in {snapshot.id, snapshot.name}:
                return snapshot
        raise ApiError(404, f"Snapshot with ID or name {id_or_name} not found")

    def to_start_from(self, id_or_name: str | None) -> Snapshot:
        """What a sandbox is made of; raises `ApiError` 400."""
        if id_or_name is None:
            return self.default
        try:
            snapshot = self.snapshot(id_or_name)
        except ApiError as error:
            raise ApiError(
                400,
                f"Snapshot {id_or_name} not found. Did you add it through the Daytona Dashboard?",
            ) from error
        if snapshot.state != "active":
            raise ApiError(400, f"Snapshot {id_or_name} is {snapshot.state}")
        return snapshot

    def add_snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Raises `ApiError` 409 if the name is taken."""
        self.require_free(snapshot.name)
        self.snapshots[snapshot.id] = snapshot
        return snapshot

    def is_taken(self, name: str) -> bool:
        """Whether a snapshot has this name."""
        return any(each.name == name for each in self.snapshots.values())

    def require_free(self, name: str) -> None:
        """Raise `ApiError` 409 if a snapshot has this name."""
        if self.is_taken(name):
            raise ApiError(409, f'Snapshot with name "{name}" already exists for this organization')

    def volume(self, *, name: str | None = None, identity: str | None = None) -> Volume:
        """Raises `ApiError` 404."""
        for volume in self.volumes.values():
            if name == volume.name or identity == volume.id:
                return volume
        which = f"name {name}" if identity is None else f"ID {identity}"
        raise ApiError(404, f"Volume with {which} not found")

    def add_volume(self, volume: Volume) -> Volume:
        """Raises `ApiError` 400 if the name is taken."""
        if any(each.name == volume.name for each in self.volumes.values()):
            raise ApiError(400, f"Volume with name {volume.name} already exists")
        self.volumes[volume.id] = volume
        return volume
