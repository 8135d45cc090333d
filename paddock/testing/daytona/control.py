"""The control plane's calls about sandboxes; knows nothing of connections or checks."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.catalog import Catalog, Snapshot
from paddock.testing.daytona.checks import check_intervals, check_network, check_page
from paddock.testing.daytona.envelope import ApiError
from paddock.testing.daytona.faults import FailWith, RefuseStart
from paddock.testing.daytona.fleet import Fleet, copy_tree
from paddock.testing.daytona.listing import (
    check_query,
    matches,
    read_cursor,
    sort_key,
    write_cursor,
)
from paddock.testing.daytona.recipe import (
    BUILD_ERROR,
    base_image,
    build_lines,
    image_variables,
)
from paddock.testing.daytona.sandbox import BuildLog, Sandbox, ToolboxType
from paddock.testing.daytona.toolbox.shells import SEARCH_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona.calls import Answer, Call, Handler, Routes
    from paddock.testing.daytona.clock import Clock
    from paddock.testing.daytona.faults import FaultKind
    from paddock.testing.daytona.pools import Pools

__all__ = ["Control", "Limits", "build_info", "stream_log"]

_PAGE = 100  # what one page lists unless asked for more or less
_CACHED = 24 * 60 * 60.0  # seconds for which what was built is not built again
_DEFAULTS: dict[str, Any] = {
    "user": "daytona",
    "public": False,
    "networkBlockAll": False,
    "kvm": False,
    "target": "us",
    "gpu": 0,
    "autoStopInterval": 15,
    "autoPauseInterval": 0,
    "autoArchiveInterval": 7 * 24 * 60,
    "autoDeleteInterval": -1,
    "volumes": [],
}
_TAKEN = (
    *_DEFAULTS,
    "networkAllowList",
    "domainAllowList",
    "outboundProxyUrl",
    "otelEndpointOverride",
    "queueTimeout",
    "spot",
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one sandbox may ask for (cores, GiB, GiB), and how many there may be."""

    cpu: int = 4
    memory: int = 8
    disk: int = 10
    sandboxes: int = 1000

    def check(self, wanted: dict[str, Any], have: int) -> None:
        """Raises `ApiError` 400 in the service's words."""
        for name, word, unit in (
            ("cpu", "CPU", ""),
            ("memory", "Memory", "GB"),
            ("disk", "Disk", "GB"),
        ):
            asked, most = wanted.get(name) or 0, getattr(self, name)
            if asked > most:
                raise ApiError(
                    400,
                    f"{word} request {asked}{unit} exceeds maximum allowed per sandbox "
                    f"({most}{unit}).",
                )
        if have >= self.sandboxes:
            raise ApiError(400, f"Total sandbox quota exceeded ({have + 1} > {self.sandboxes})")


def build_info(wanted: dict[str, Any], clock: Clock, identity: str) -> dict[str, Any]:
    """The `BuildInfo` that answers a `CreateBuildInfo`."""
    now = clock.now().isoformat()
    return {
        "dockerfileContent": wanted["dockerfileContent"],
        "contextHashes": wanted.get("contextHashes") or [],
        "createdAt": now,
        "updatedAt": now,
        "snapshotRef": f"build-{identity}",
    }


class Control:
    """Handlers by method and path template, for what is under `/sandbox`."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        catalog: Catalog,
        clock: Clock,
        limits: Limits,
        toolbox: ToolboxType,
        sandbox_class: str,
        pools: Pools,
        api_url: Callable[[], str],
        toolbox_url: Callable[[], str],
    ) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._clock = clock
        self._limits = limits
        self._toolbox = toolbox
        self._class = sandbox_class
        self._pools = pools
        self._built: dict[str, float] = {}
        """What was built, and when."""
        self._api_url = api_url
        self._toolbox_url = toolbox_url

    @property
    def routes(self) -> Routes:
        """What this part of the API answers."""
        one = "/sandbox/{sandboxIdOrName}"
        return {
            ("POST", "/sandbox"): self._create,
            ("GET", "/sandbox"): self._list,
            ("GET", one): self._get,
            ("DELETE", one): self._destroy,
            ("POST", f"{one}/start"): self._moving(self._fleet.start),
            ("POST", f"{one}/stop"): self._moving(self._fleet.stop),
            ("POST", f"{one}/archive"): self._moving(self._fleet.archive),
            ("POST", f"{one}/pause"): self._pause,
            ("POST", f"{one}/recover"): self._recover,
            ("POST", f"{one}/resize"): self._resize,
            ("POST", f"{one}/fork"): self._fork,
            ("POST", f"{one}/snapshot"): self._snapshot,
            ("GET", f"{one}/build-logs-url"): self._build_url,
            ("GET", f"{one}/build-logs"): self._build_log,
            ("GET", "/sandbox/{sandboxId}/toolbox-proxy-url"): self._proxy,
        }

    async def _create(self, call: Call) -> Answer:
        wanted: dict[str, Any] = call.body
        wanted["target"] = self._pools.region(wanted.get("target"))
        self._limits.check(wanted, len(self._fleet.sandboxes))
        check_network(wanted)
        check_intervals(wanted)
        if name := wanted.get("name"):
            self._fleet.require_free(name)
        for volume in wanted.get("volumes") or ():
            self._catalog.volume(name=volume["volumeId"], identity=volume["volumeId"])
        refusal = next((each for each in call.effects if isinstance(each, RefuseStart)), None)
        effects = call.effects
        if refusal is not None:
            effects = (FailWith(state="error", reason=refusal.reason),)
        if (build := wanted.get("buildInfo")) is not None:
            sandbox = self._begin_build(wanted, build, effects)
        else:
            sandbox = await self._begin_snapshot(wanted, effects)
        if refusal is not None:
            raise ApiError(400, f"Sandbox failed to start: {refusal.reason}")
        return self._fleet.wire(sandbox)

    async def _begin_snapshot(
        self, wanted: dict[str, Any], effects: tuple[FaultKind, ...]
    ) -> Sandbox:
        if any(wanted.get(each) for each in ("cpu", "memory", "disk", "gpu")):
            raise ApiError(400, "Cannot specify Sandbox resources when using a snapshot")
        snapshot = self._catalog.to_start_from(wanted.get("snapshot"))
        sandbox = self._from_snapshot(wanted, snapshot)
        is_warm = self._pools.is_warm(wanted, snapshot)
        files = self._fleet.folder(snapshot.id)
        self._fleet.add(sandbox, "take" if is_warm else "create", effects, files)
        if is_warm and sandbox.moving is not None:
            await asyncio.wait([sandbox.moving])  # it runs when the answer comes
        return sandbox

    def _begin_build(
        self, wanted: dict[str, Any], build: dict[str, Any], effects: tuple[FaultKind, ...]
    ) -> Sandbox:
        """Make one of an image, which is built unless it was a short while ago."""
        dockerfile: str = build["dockerfileContent"]
        recipe = json.dumps([dockerfile, sorted(build.get("contextHashes") or [])])
        now = self._clock.seconds()
        cached = now - self._built.get(recipe, -math.inf) < _CACHED
        settings = {
            "cpu": wanted.get("cpu") or 1,
            "memory": wanted.get("memory") or 1,
            "disk": wanted.get("disk") or 3,
        }
        variables = image_variables(dockerfile, {"PATH": SEARCH_PATH})
        sandbox = self._make(wanted, settings, base_image(dockerfile), variables)
        lines = build_lines(dockerfile)
        fails = lines[-1].startswith(BUILD_ERROR) or any(isinstance(e, FailWith) for e in effects)
        if not cached:
            sandbox.build = BuildLog(lines)
        if not fails:
            self._built[recipe] = now
        sandbox.build_info = build_info(build, self._clock, sandbox.id)
        self._fleet.add(sandbox, "create" if cached else "build", effects)
        return sandbox

    def _from_snapshot(self, wanted: dict[str, Any], snapshot: Snapshot) -> Sandbox:
        settings = {
            "cpu": snapshot.cpu,
            "memory": snapshot.memory,
            "disk": snapshot.disk,
            "snapshot": snapshot.name,
        }
        return self._make(wanted, settings, snapshot.image, snapshot.env)

    def _make(
        self,
        wanted: dict[str, Any],
        settings: dict[str, Any],
        image: str,
        image_env: dict[str, str],
    ) -> Sandbox:
        identity = str(uuid.uuid4())
        taken = {name: wanted[name] for name in _TAKEN if wanted.get(name) is not None}
        if linked := wanted.get("linkedSandbox"):
            taken["linkedSandboxId"] = self._fleet.find(linked).id
        env = dict(wanted.get("env") or {})
        return Sandbox(
            id=identity,
            name=wanted.get("name") or identity,
            image=image,
            env=env,
            image_env=image_env,
            labels=dict(wanted.get("labels") or {}),
            settings={**_DEFAULTS, "sandboxClass": self._class, **settings, **taken},
            toolbox=self._toolbox(
                self._fleet.folder(identity), env={**image_env, **env}, image=image
            ),
            created_at=self._clock.now(),
            active_at=self._clock.seconds(),
            ttl_minutes=wanted.get("ttlMinutes") or 0,
        )

    async def _list(self, call: Call) -> Answer:
        query = call.request.query
        order = query.get("order", "desc")
        size = check_page(call.query_number("limit", _PAGE))
        check_query(query)
        found = [each for each in self._fleet.index.listed() if matches(each, query)]
        found.sort(key=sort_key(query.get("sort", "createdAt")), reverse=order == "desc")
        start = read_cursor(query.get("cursor"))
        page = found[start : start + size]
        more = start + size < len(found)
        return {
            "items": [{**each.item, "toolboxProxyUrl": self._toolbox_url()} for each in page],
            "nextCursor": write_cursor(start + size) if more else None,
        }

    async def _get(self, call: Call) -> Answer:
        return self._fleet.wire(self._fleet.find(call.target))

    async def _destroy(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        if sandbox.desired != "destroyed":
            self._fleet.destroy(sandbox, call.effects)
        return self._fleet.wire(sandbox)

    def _moving(self, move: Callable[[Sandbox, tuple[FaultKind, ...]], None]) -> Handler:
        """The handler of a call that only moves a sandbox to another state."""

        async def handle(call: Call) -> Answer:
            sandbox = self._fleet.find(call.target)
            move(sandbox, call.effects)
            return self._fleet.wire(sandbox)

        return handle

    async def _pause(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        self._require_machine("Pausing")
        self._fleet.pause(sandbox, call.effects)
        return self._fleet.wire(sandbox)

    async def _recover(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        if not sandbox.recoverable:
            raise ApiError(400, "Sandbox is not in a recoverable state")
        self._fleet.move(sandbox, "recover", call.effects, sandbox.toolbox.start)
        return self._fleet.wire(sandbox)

    async def _resize(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        wanted = {name: value for name, value in call.body.items() if value is not None}
        self._limits.check(wanted, 0)
        if wanted.get("disk", sandbox.settings["disk"]) < sandbox.settings["disk"]:
            raise ApiError(400, "Disk size cannot be decreased")

        async def change() -> None:
            sandbox.settings.update(wanted)
            self._fleet.index.note(sandbox)

        self._fleet.move(sandbox, "resize", call.effects, change)
        return self._fleet.wire(sandbox)

    async def _fork(self, call: Call) -> Answer:
        parent = self._fleet.find(call.target)
        self._require_machine("Forking")
        wanted = {
            **parent.settings,
            "env": parent.env,
            "labels": parent.labels,
            "name": call.body.get("name"),
        }
        if wanted["name"]:
            self._fleet.require_free(wanted["name"])
        self._fleet.move(parent, "fork")
        child = self._make(wanted, parent.settings, parent.image, parent.image_env)
        child.parent = parent.id
        self._fleet.add(child, "create", call.effects, self._fleet.folder(parent.id))
        return self._fleet.wire(child)

    async def _snapshot(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        snapshot = Snapshot(
            name=call.body["name"],
            image=sandbox.image,
            created_at=self._clock.now(),
            cpu=sandbox.settings["cpu"],
            memory=sandbox.settings["memory"],
            disk=sandbox.settings["disk"],
            source=sandbox.id,
            env={**sandbox.image_env, **sandbox.env},
        )
        fails = any(isinstance(each, FailWith) for each in call.effects)

        async def take() -> None:
            """Take it in the background; errors are not reported."""
            if not fails and not self._catalog.is_taken(snapshot.name):
                await copy_tree(self._fleet.folder(sandbox.id), self._fleet.folder(snapshot.id))
                self._catalog.add_snapshot(snapshot)

        effects = tuple(each for each in call.effects if not isinstance(each, FailWith))
        self._fleet.move(sandbox, "snapshot", effects, take)
        return self._fleet.wire(sandbox)

    async def _proxy(self, call: Call) -> Answer:
        self._fleet.find(call.target)
        return {"url": self._toolbox_url()}

    async def _build_url(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        if sandbox.build is None:
            raise ApiError(404, f"Sandbox with ID {sandbox.id} has no build info")
        return {"url": f"{self._api_url()}/sandbox/{sandbox.id}/build-logs"}

    async def _build_log(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        return await stream_log(call, sandbox.build)

    def _require_machine(self, what: str) -> None:
        if self._class == "container":
            raise ApiError(422, f"{what} is not supported for this sandbox")


async def stream_log(call: Call, log: BuildLog | None) -> web.StreamResponse:
    """Answer with the lines of a build, as they come if the query says so."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await response.prepare(call.request)
    if log is not None:
        async for line in log.read(follow=call.request.query.get("follow") == "true"):
            await response.write(line.encode())
    await response.write_eof()
    return response
