"""The control plane's calls about snapshots, volumes and the storage for build contexts."""

from __future__ import annotations

import asyncio
import math
import shutil
from typing import TYPE_CHECKING, Any

from paddock.testing.daytona.catalog import Catalog, Snapshot, Volume
from paddock.testing.daytona.checks import check_image, check_page
from paddock.testing.daytona.control import build_info, stream_log
from paddock.testing.daytona.envelope import ApiError
from paddock.testing.daytona.faults import FailWith
from paddock.testing.daytona.recipe import base_image, build_lines, image_variables
from paddock.testing.daytona.sandbox import ORGANIZATION, BuildLog
from paddock.testing.daytona.toolbox.shells import SEARCH_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona.calls import Answer, Call, Routes
    from paddock.testing.daytona.clock import Clock
    from paddock.testing.daytona.fleet import Fleet
    from paddock.testing.daytona.storage import Storage

__all__ = ["Extras"]


class Extras:
    """Handlers by method and path template."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        clock: Clock,
        storage: Storage,
        fleet: Fleet,
        api_url: Callable[[], str],
        delay: float,
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._storage = storage
        self._fleet = fleet
        self._api_url = api_url
        self._delay = delay
        self._builds: set[asyncio.Task[None]] = set()

    @property
    def routes(self) -> Routes:
        """What this part of the API answers."""
        return {
            ("POST", "/snapshots"): self._create_snapshot,
            ("GET", "/snapshots"): self._list_snapshots,
            ("GET", "/snapshots/{id}"): self._get_snapshot,
            ("DELETE", "/snapshots/{id}"): self._delete_snapshot,
            ("POST", "/snapshots/{id}/activate"): self._activate,
            ("GET", "/snapshots/{id}/build-logs-url"): self._build_url,
            ("GET", "/snapshots/{id}/build-logs"): self._build_log,
            ("POST", "/volumes"): self._create_volume,
            ("GET", "/volumes"): self._list_volumes,
            ("GET", "/volumes/by-name/{name}"): self._volume_by_name,
            ("GET", "/volumes/{volumeId}"): self._get_volume,
            ("DELETE", "/volumes/{volumeId}"): self._delete_volume,
            ("GET", "/object-storage/push-access"): self._push_access,
        }

    async def aclose(self) -> None:
        """End the builds that are under way, and the reading of their logs."""
        for task in self._builds:
            task.cancel()
        if self._builds:
            await asyncio.wait(self._builds)
        for snapshot in self._catalog.snapshots.values():
            if snapshot.build is not None:
                snapshot.build.finish()

    async def _create_snapshot(self, call: Call) -> Answer:
        wanted: dict[str, Any] = call.body
        build = wanted.get("buildInfo")
        if not build:
            check_image(wanted.get("imageName") or "")
        dockerfile = build["dockerfileContent"] if build else f"FROM {wanted['imageName']}\n"
        snapshot = Snapshot(
            name=wanted["name"],
            image=base_image(dockerfile),
            created_at=self._clock.now(),
            cpu=wanted.get("cpu") or 1,
            memory=wanted.get("memory") or 1,
            disk=wanted.get("disk") or 3,
            env=image_variables(dockerfile, {"PATH": SEARCH_PATH}),
            entrypoint=wanted.get("entrypoint"),
            state="building" if build else "pulling",
            build=BuildLog(build_lines(dockerfile)),
        )
        if build is not None:
            snapshot.build_info = build_info(build, self._clock, snapshot.id)
        self._catalog.add_snapshot(snapshot)
        failure = next((each for each in call.effects if isinstance(each, FailWith)), None)
        task = asyncio.create_task(self._build(snapshot, snapshot.build, failure))
        self._builds.add(task)
        task.add_done_callback(self._builds.discard)
        return snapshot.to_wire()

    async def _build(
        self, snapshot: Snapshot, log: BuildLog | None, failure: FailWith | None
    ) -> None:
        state, reason = ("active", None) if failure is None else (failure.state, failure.reason)
        if log is not None and (failed := await log.play(self._delay)) is not None:
            state, reason = "build_failed", failed
        snapshot.state, snapshot.error_reason = state, reason

    async def _list_snapshots(self, call: Call) -> Answer:
        page, size = call.query_number("page", 1), check_page(call.query_number("limit", 100))
        if page < 1:
            raise ApiError(400, "page must not be less than 1")
        source = call.request.query.get("sourceSandboxId")
        part = call.request.query.get("name", "").lower()
        found = [
            each
            for each in self._catalog.snapshots.values()
            if source in {None, each.source} and part in each.name.lower()
        ]
        return {
            "items": [each.to_wire() for each in found[(page - 1) * size : page * size]],
            "total": len(found),
            "page": page,
            "totalPages": math.ceil(len(found) / size),
        }

    async def _get_snapshot(self, call: Call) -> Answer:
        return self._catalog.snapshot(call.target).to_wire()

    async def _delete_snapshot(self, call: Call) -> Answer:
        snapshot = self._catalog.snapshot(call.target)
        if snapshot.general:
            raise ApiError(403, "General snapshots cannot be deleted")
        del self._catalog.snapshots[snapshot.id]
        await asyncio.to_thread(shutil.rmtree, self._fleet.folder(snapshot.id), ignore_errors=True)
        return None

    async def _activate(self, call: Call) -> Answer:
        snapshot = self._catalog.snapshot(call.target)
        if snapshot.state != "inactive":
            raise ApiError(400, f"Snapshot {snapshot.name} is already {snapshot.state}")
        snapshot.state = "active"
        return snapshot.to_wire()

    async def _build_url(self, call: Call) -> Answer:
        snapshot = self._catalog.snapshot(call.target)
        return {"url": f"{self._api_url()}/snapshots/{snapshot.id}/build-logs"}

    async def _build_log(self, call: Call) -> Answer:
        return await stream_log(call, self._catalog.snapshot(call.target).build)

    async def _create_volume(self, call: Call) -> Answer:
        volume = Volume(name=call.body["name"], created_at=self._clock.now())
        return self._catalog.add_volume(volume).to_wire()

    async def _list_volumes(self, call: Call) -> Answer:
        return [each.to_wire() for each in self._catalog.volumes.values()]

    async def _volume_by_name(self, call: Call) -> Answer:
        return self._catalog.volume(name=call.target).to_wire()

    async def _get_volume(self, call: Call) -> Answer:
        return self._catalog.volume(identity=call.target).to_wire()

    async def _delete_volume(self, call: Call) -> Answer:
        volume = self._catalog.volume(identity=call.target)
        for sandbox in self._fleet.live():
            mounted = {each["volumeId"] for each in sandbox.settings["volumes"]}
            if mounted & {volume.id, volume.name} and sandbox.desired != "destroyed":
                raise ApiError(
                    409,
                    "Volume cannot be deleted because it is in use by one or more sandboxes "
                    f"(e.g. {sandbox.name})",
                )
        del self._catalog.volumes[volume.id]
        return None

    async def _push_access(self, call: Call) -> Answer:
        return {**self._storage.credentials(), "organizationId": ORGANIZATION}
