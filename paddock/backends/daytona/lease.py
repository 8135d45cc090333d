"""Renews the lease of a sandbox in Daytona, whatever the user's event loop is doing."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.backends.heartbeat import heartbeats
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from paddock.backends.daytona.request_channel import RequestChannel
    from paddock.backends.daytona.service import Service
    from paddock.backends.guest.link import Link

__all__ = ["LeaseRenewal"]

_log = get_logger(__name__)


class LeaseRenewal:
    """Renews every `interval` seconds, until the link is over or it is closed.

    As long as the loop runs, it makes the request. When it did not come to it since the last
    time, a thread makes the request with a client of its own.
    """

    def __init__(
        self, service: Service, native: Any, link: Link, requests: RequestChannel, interval: float
    ) -> None:
        self._service = service
        self._sandbox_id = str(native.id)
        self._link = link
        self._requests = requests
        self._loop = asyncio.get_running_loop()
        self._asked = False
        """Whether the loop was asked to renew and has not come to it."""
        self._renewing: asyncio.Task[None] | None = None
        self._heartbeat = heartbeats.start(self._beat, interval)
        link.when_over(self._heartbeat.stop)

    async def aclose(self) -> None:
        """Renew no more; return when no request of the loop is on its way."""
        self._heartbeat.stop()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    def _beat(self) -> None:
        if self._asked:
            threading.Thread(target=self._renew_elsewhere, daemon=True).start()
        else:
            self._asked = True
            self._loop.call_soon_threadsafe(self._renew_here)

    def _renew_here(self) -> None:
        self._asked = False
        if not self._link.over and (self._renewing is None or self._renewing.done()):
            self._renewing = self._loop.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            await self._requests.renew()
        except SandboxLost as error:
            self._link.fail(error.reason)

    def _renew_elsewhere(self) -> None:
        try:
            asyncio.run(self._service.refresh_elsewhere(self._sandbox_id))
        except Exception as error:  # the next one may succeed; if none does, the lease ends
            _log.warning("the lease of %s was not renewed: %s", self._sandbox_id, error)
