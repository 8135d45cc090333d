"""The control plane's calls that change a sandbox's settings, and not its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.testing.daytona.checks import check_interval, check_network

if TYPE_CHECKING:
    from paddock.testing.daytona.calls import Answer, Call, Handler, Routes
    from paddock.testing.daytona.fleet import Fleet

__all__ = ["Settings"]


class Settings:
    """Handlers by method and path template."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @property
    def routes(self) -> Routes:
        """What this part of the API answers."""
        one = "/sandbox/{sandboxIdOrName}"
        return {
            ("PUT", f"{one}/labels"): self._label,
            ("POST", f"{one}/network-settings"): self._network,
            ("POST", f"{one}/public/{{isPublic}}"): self._publish,
            ("POST", f"{one}/ttl/{{ttlMinutes}}"): self._live,
            ("POST", f"{one}/autostop/{{interval}}"): self._interval("autoStopInterval"),
            ("POST", f"{one}/autopause/{{interval}}"): self._interval("autoPauseInterval"),
            ("POST", f"{one}/autoarchive/{{interval}}"): self._interval("autoArchiveInterval"),
            ("POST", f"{one}/autodelete/{{interval}}"): self._interval("autoDeleteInterval"),
            ("POST", "/sandbox/{sandboxId}/last-activity"): self._touch,
        }

    async def _label(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        sandbox.labels = dict(call.body["labels"])
        self._fleet.index.note(sandbox)
        return {"labels": sandbox.labels}

    async def _network(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        check_network(call.body)
        sandbox.settings.update(
            {name: value for name, value in call.body.items() if value is not None}
        )
        return self._fleet.changed(sandbox)

    async def _publish(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        sandbox.settings["public"] = call.path("isPublic").lower() == "true"
        return self._fleet.changed(sandbox)

    async def _live(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        minutes = call.number("ttlMinutes")
        check_interval("ttlMinutes", minutes)
        sandbox.ttl_minutes = minutes
        return self._fleet.changed(sandbox)

    def _interval(self, name: str) -> Handler:
        async def change(call: Call) -> Answer:
            sandbox = self._fleet.find(call.target)
            minutes = call.number("interval")
            check_interval(name, minutes)
            sandbox.settings[name] = minutes
            return self._fleet.changed(sandbox)

        return change

    async def _touch(self, call: Call) -> Answer:
        self._fleet.touch(self._fleet.find(call.target))
        return None
