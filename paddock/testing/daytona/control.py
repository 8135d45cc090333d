"""The control plane's calls about sandboxes; knows nothing of connections or checks."""

from __future__ import annotations

import ipaddress
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.catalog import Catalog, Snapshot
from paddock.testing.daytona.envelope import ApiError
from paddock.testing.daytona.fleet import Fleet, copy_tree
from paddock.testing.daytona.listing import matches, read_cursor, sort_key, write_cursor
from paddock.testing.daytona.recipe import base_image, build_lines
from paddock.testing.daytona.sandbox import BuildLog, Sandbox, ToolboxType

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona.calls import Answer, Call, Handler, Routes
    from paddock.testing.daytona.clock import Clock

__all__ = ["Control", "Limits", "build_info", "stream_log"]

_PAGE = 100  # the most that one page lists, as the service has it
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
        api_url: Callable[[], str],
        toolbox_url: Callable[[], str],
    ) -> None:
        self._fleet = fleet
        self._catalog = catalog
        self._clock = clock
        self._limits = limits
        self._toolbox = toolbox
        self._class = sandbox_class
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
            ("POST", f"{one}/start"): self._start,
            ("POST", f"{one}/stop"): self._stop,
            ("POST", f"{one}/archive"): self._archive,
            ("POST", f"{one}/pause"): self._pause,
            ("POST", f"{one}/recover"): self._recover,
            ("POST", f"{one}/resize"): self._resize,
            ("POST", f"{one}/fork"): self._fork,
            ("POST", f"{one}/snapshot"): self._snapshot,
            ("PUT", f"{one}/labels"): self._label,
            ("POST", f"{one}/network-settings"): self._network,
            ("POST", f"{one}/public/{{isPublic}}"): self._publish,
            ("POST", f"{one}/ttl/{{ttlMinutes}}"): self._live,
            ("POST", f"{one}/autostop/{{interval}}"): self._interval("autoStopInterval"),
            ("POST", f"{one}/autopause/{{interval}}"): self._interval("autoPauseInterval"),
            ("POST", f"{one}/autoarchive/{{interval}}"): self._interval("autoArchiveInterval"),
            ("POST", f"{one}/autodelete/{{interval}}"): self._interval("autoDeleteInterval"),
            ("GET", f"{one}/build-logs-url"): self._build_url,
            ("GET", f"{one}/build-logs"): self._build_log,
            ("POST", "/sandbox/{sandboxId}/last-activity"): self._touch,
            ("GET", "/sandbox/{sandboxId}/toolbox-proxy-url"): self._proxy,
        }

    async def _create(self, call: Call) -> Answer:
        wanted: dict[str, Any] = call.body
        self._limits.check(wanted, len(self._fleet.sandboxes))
        _check_network(wanted)
        if name := wanted.get("name"):
            self._fleet.require_free(name)
        for volume in wanted.get("volumes") or ():
            self._catalog.volume(name=volume["volumeId"], identity=volume["volumeId"])
        if (build := wanted.get("buildInfo")) is not None:
            sandbox = self._from_build(wanted, build)
            self._fleet.add(sandbox, "build", call.effects)
            return self._fleet.wire(sandbox)
        if any(wanted.get(each) for each in ("cpu", "memory", "disk", "gpu")):
            raise ApiError(400, "Cannot specify Sandbox resources when using a snapshot")
        snapshot = self._catalog.to_start_from(wanted.get("snapshot"))
        sandbox = self._from_snapshot(wanted, snapshot)
        self._fleet.add(sandbox, "create", call.effects, self._fleet.folder(snapshot.id))
        return self._fleet.wire(sandbox)

    def _from_build(self, wanted: dict[str, Any], build: dict[str, Any]) -> Sandbox:
        dockerfile: str = build["dockerfileContent"]
        settings = {
            "cpu": wanted.get("cpu") or 1,
            "memory": wanted.get("memory") or 1,
            "disk": wanted.get("disk") or 3,
        }
        sandbox = self._make(wanted, settings, base_image(dockerfile))
        sandbox.build = BuildLog(build_lines(dockerfile))
        sandbox.build_info = build_info(build, self._clock, sandbox.id)
        return sandbox

    def _from_snapshot(self, wanted: dict[str, Any], snapshot: Snapshot) -> Sandbox:
        settings = {
            "cpu": snapshot.cpu,
            "memory": snapshot.memory,
            "disk": snapshot.disk,
            "snapshot": snapshot.name,
        }
        return self._make(wanted, settings, snapshot.image)

    def _make(self, wanted: dict[str, Any], settings: dict[str, Any], image: str) -> Sandbox:
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
            labels=dict(wanted.get("labels") or {}),
            settings={**_DEFAULTS, "sandboxClass": self._class, **settings, **taken},
            toolbox=self._toolbox(self._fleet.folder(identity), env=env, image=image),
            created_at=self._clock.now(),
            active_at=self._clock.seconds(),
            ttl_minutes=wanted.get("ttlMinutes") or 0,
        )

    async def _list(self, call: Call) -> Answer:
        query = call.request.query
        order = query.get("order", "desc")
        found = [each for each in self._fleet.live() if matches(each, query)]
        found.sort(key=sort_key(query.get("sort", "createdAt")), reverse=order == "desc")
        start = read_cursor(query.get("cursor"))
        size = min(call.query_number("limit", _PAGE), _PAGE)
        page = found[start : start + size]
        more = start + size < len(found)
        return {
            "items": [self._fleet.item(each) for each in page],
            "nextCursor": write_cursor(start + size) if more else None,
        }

    async def _get(self, call: Call) -> Answer:
        return self._fleet.wire(self._fleet.find(call.target))

    async def _destroy(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        if sandbox.desired != "destroyed":
            self._fleet.destroy(sandbox, call.effects)
        return self._fleet.wire(sandbox)

    async def _start(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        self._fleet.start(sandbox, call.effects)
        return self._fleet.wire(sandbox)

    async def _stop(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        self._fleet.stop(sandbox, call.effects)
        return self._fleet.wire(sandbox)

    async def _archive(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        self._fleet.archive(sandbox, call.effects)
        return self._fleet.wire(sandbox)

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
        child = self._make(wanted, parent.settings, parent.image)
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
        )

        async def take() -> None:
            await copy_tree(self._fleet.folder(sandbox.id), self._fleet.folder(snapshot.id))
            self._catalog.add_snapshot(snapshot)

        self._catalog.require_free(snapshot.name)
        self._fleet.move(sandbox, "snapshot", call.effects, take)
        return self._fleet.wire(sandbox)

    async def _label(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        sandbox.labels = dict(call.body["labels"])
        return {"labels": sandbox.labels}

    async def _network(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        _check_network(call.body)
        sandbox.settings.update(
            {name: value for name, value in call.body.items() if value is not None}
        )
        return self._fleet.wire(sandbox)

    async def _publish(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        sandbox.settings["public"] = call.path("isPublic").lower() == "true"
        return self._fleet.wire(sandbox)

    async def _live(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        sandbox.ttl_minutes = call.number("ttlMinutes")
        return self._fleet.wire(sandbox)

    def _interval(self, name: str) -> Handler:
        async def change(call: Call) -> Answer:
            sandbox = self._fleet.find(call.target)
            sandbox.settings[name] = call.number("interval")
            return self._fleet.wire(sandbox)

        return change

    async def _touch(self, call: Call) -> Answer:
        self._fleet.touch(self._fleet.find(call.target))
        return None

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


def _check_network(wanted: dict[str, Any]) -> None:
    for block in filter(None, (wanted.get("networkAllowList") or "").split(",")):
        try:
            ipaddress.IPv4Network(block.strip(), strict=False)
        except ValueError as error:
            raise ApiError(400, f"Invalid CIDR block in network allow list: {block}") from error
