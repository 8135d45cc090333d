"""The control plane's calls about the deployment itself, and what it has measured of sandboxes.

A real one collects measurements all the time; here each call measures once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona.calls import Answer, Call, Routes
    from paddock.testing.daytona.fleet import Fleet

__all__ = ["Measured", "Telemetry"]

NAMES = {
    "daytona.sandbox.cpu.limit": "cpuCount",
    "daytona.sandbox.cpu.utilization": "cpuUsedPct",
    "daytona.sandbox.memory.limit": "memTotal",
    "daytona.sandbox.memory.usage": "memUsed",
    "daytona.sandbox.memory.cache": "memCache",
    "daytona.sandbox.filesystem.total": "diskTotal",
    "daytona.sandbox.filesystem.usage": "diskUsed",
}
"""What a series is called, and the measurement that it is of."""


@runtime_checkable
class Measured(Protocol):
    """A toolbox that measures its sandbox."""

    async def measure(self) -> dict[str, Any]:
        """As ``/system/metrics`` tells it."""


class Telemetry:
    """Handlers by method and path template."""

    def __init__(self, *, fleet: Fleet, snapshot: str, url: Callable[[], str]) -> None:
        self._fleet = fleet
        self._snapshot = snapshot
        self._url = url

    @property
    def routes(self) -> Routes:
        """What this part of the API answers."""
        return {
            ("GET", "/config"): self._configuration,
            ("GET", "/sandbox/{sandboxId}/telemetry/metrics"): self._metrics,
        }

    async def _configuration(self, call: Call) -> Answer:
        url = self._url()
        return {
            "version": "0.0.0-paddock",
            "oidc": {"issuer": url, "clientId": "paddock", "audience": url, "provider": "oidc"},
            "linkedAccountsEnabled": False,
            "announcements": {},
            "proxyTemplateUrl": f"{url}/preview/{{{{sandboxId}}}}/{{{{PORT}}}}",
            "proxyToolboxUrl": f"{url}/toolbox",
            "defaultSnapshot": self._snapshot,
            "dashboardUrl": url,
            "maxAutoArchiveInterval": 30 * 24 * 60,
            "maintananceMode": False,
            "environment": "test",
        }

    async def _metrics(self, call: Call) -> Answer:
        sandbox = self._fleet.find(call.target)
        toolbox = sandbox.toolbox
        if sandbox.state != "started" or not isinstance(toolbox, Measured):
            return {"series": []}
        told = await toolbox.measure()
        wanted = call.request.query.getall("metricNames", list(NAMES))
        return {
            "series": [
                {
                    "metricName": name,
                    "dataPoints": [{"timestamp": told["timestamp"], "value": told[NAMES[name]]}],
                }
                for name in wanted
                if name in NAMES
            ]
        }
