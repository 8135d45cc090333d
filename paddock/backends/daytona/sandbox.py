"""One sandbox in Daytona, and the guest in it that is spoken with by requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock._concurrency import acquire, finish
from paddock.backends.daytona import deletion, inventory, snapshots
from paddock.backends.daytona.failures import REFUSED, ServiceError, sdk
from paddock.backends.daytona.files import SMALL, DaytonaFileSystem
from paddock.backends.daytona.lease import LeaseRenewal
from paddock.backends.daytona.terms import resource_settings, snapshot_image
from paddock.backends.guest.link import State
from paddock.backends.guest.ports import Gate
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.errors import Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from paddock.backends.daytona.long_poll import LongPollTransport
    from paddock.backends.daytona.plan import Plan
    from paddock.backends.daytona.request_channel import RequestChannel
    from paddock.backends.daytona.service import Service
    from paddock.backends.guest.client import GuestClient
    from paddock.backends.owner import OwnerLock
    from paddock.image import Image
    from paddock.process import Command, Process
    from paddock.sandbox import Resources, Sandbox

    Adopt = Callable[[Service, Plan, Callable[[str], Awaitable[Any]]], Coroutine[Any, Any, Sandbox]]
    """Makes a sandbox of a fork; see `making.adopt`."""

__all__ = ["DaytonaSandbox", "Preview"]

CAPABILITIES = frozenset(
    {
        Capability.ISOLATION,
        Capability.PROCESSES,
        Capability.PTY,
        Capability.TREE_KILL,
        Capability.URL,
        Capability.NETWORK_NONE,
        Capability.NETWORK_ALLOWLIST,
        Capability.LIMIT_CPU,
        Capability.LIMIT_MEMORY,
        Capability.LIMIT_DISK,
        Capability.SNAPSHOT,
        Capability.FORK,
        Capability.PAUSE,
    }
)
NOT_OF_CONTAINERS = frozenset({Capability.FORK, Capability.PAUSE})
CHANGE_DEADLINE = 300.0
"""Seconds for the service to stop, pause, fork or keep a sandbox."""
NOT_HERE = frozenset({404, 405, 422, 501})
"""What a server answers to what it does not have, or not for this kind of sandbox."""
TOKEN_HEADER = "x-daytona-preview-token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Where a port is reached, and the headers that a request has to bring."""

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Preview(url={self.url!r}, headers=...)"


class DaytonaSandbox(GuestSandbox):
    """Owns a sandbox of Daytona's, a lock of it, and a share of the account's client."""

    one_user = (
        "only root can start them: choose it with DaytonaBackend(user='root'), or another user "
        "for all commands"
    )

    def __init__(
        self,
        plan: Plan,
        *,
        service: Service,
        native: Any,
        client: GuestClient,
        transport: LongPollTransport,
        requests: RequestChannel,
        lock: OwnerLock,
        env: Mapping[str, str],
        working_dir: str,
        folder: str,
        switches: bool,
        adopt: Adopt,
    ) -> None:
        super().__init__(
            client,
            sandbox_id=native.id,
            backend=inventory.BACKEND,
            working_dir=PurePosixPath(working_dir),
            env=env,
            labels=plan.labels,
            capabilities=(CAPABILITIES | ({Capability.USER} if switches else set()))
            - (NOT_OF_CONTAINERS if is_container(native) else set()),
            gate=Gate(),
        )
        self.fs: DaytonaFileSystem = DaytonaFileSystem(
            self, client, service=service, requests=requests, native=native, folder=folder
        )
        self.native = native
        """The SDK's own object; it dies with this one."""
        self._plan = plan
        self._adopt = adopt
        self._service = service
        self._transport = transport
        self._requests = requests
        self._lock = lock
        self._released = False
        client.link.probe = requests.probe
        self._lease: LeaseRenewal | None = None
        if plan.lease is not None and plan.silence is not None:
            interval = min(plan.lease, plan.silence * 60) / 3
            self._lease = LeaseRenewal(service, native, client.link, requests, interval)

    @property
    def lost(self) -> bool:
        return super().lost or self._requests.ended is not None

    async def _start(self, command: Command) -> Process:
        if command.input is None or len(command.input) <= SMALL:
            return await super()._start(command)
        source = await self.fs.place(command.input, "stdin")
        try:
            return self._begin(command, source)
        except BaseException:
            await finish(self.fs.discard(source))
            raise

    # ports

    async def _url(self, port: int) -> str:
        return (await self.preview(port)).url

    async def preview(self, port: int) -> Preview:
        """The address of `port`, for as long as the sandbox runs, and the headers it takes."""
        link = await self._call("asking for an address", lambda: self.native.get_preview_link(port))
        return Preview(url=str(link.url), headers={TOKEN_HEADER: str(link.token)})

    async def signed_url(self, port: int, *, seconds: int = 3600) -> str:
        """An address of `port` that takes no header, good for so many seconds."""
        signed = await self._call(
            "asking for a signed address",
            lambda: self.native.create_signed_preview_url(port, seconds),
        )
        return str(signed.url)

    # what the service does with it

    async def snapshot(self, name: str) -> Image:
        self.raise_if_closed()
        await snapshots.require_free(self._service, name)
        await self._change("snapshot()", lambda: self.native.create_snapshot(name, CHANGE_DEADLINE))
        await snapshots.wait_for(self._service, name, self.id)
        return snapshot_image(name)

    async def _fork(self, count: int) -> list[Sandbox]:
        made: list[Sandbox] = []
        try:
            while len(made) < count:  # at once they would only wait for each other
                made.append(await self._fork_once())
        except BaseException:
            await finish(_close_all(made))
            raise
        return made

    async def _fork_once(self) -> Sandbox:
        service, plan = self._service.share(), self._plan

        async def fork(name: str) -> Any:
            native = await self._change("fork()", lambda: self.native.fork(name, CHANGE_DEADLINE))
            labels = inventory.labels(plan, name)
            await inventory.claim_fork(service, native, labels, parent=self.id)
            return native

        try:
            return await self._adopt(service, plan, fork)
        except BaseException:
            await finish(service.aclose())
            raise

    async def pause(self) -> None:
        if self._client.link.state is not State.PAUSED:
            await acquire(self._pause(), self._resume)

    async def _pause(self) -> None:
        self._client.link.pause()  # a request that is refused as it pauses would be a loss
        try:
            await self._change("pause()", lambda: self.native.pause(CHANGE_DEADLINE))
        except BaseException:
            self._client.link.resume()
            raise

    async def resume(self) -> None:
        await self._resume()

    async def _resume(self, _: object = None) -> None:
        await self._change("resume()", lambda: self.native.start(CHANGE_DEADLINE))
        self._client.link.resume()

    async def resize(self, resources: Resources) -> None:
        """Give it other bounds; what is None stays as it is."""
        told = sdk().Resources(**resource_settings(resources))
        await self._change("resize()", lambda: self.native.resize(told, CHANGE_DEADLINE))

    async def archive(self) -> None:
        """Stop it and put its files where they cost least; `DaytonaBackend.attach` gets it back.

        What runs in it ends, and so does this object.
        """
        self._refuse_with_lease("archive()")
        if self.native.auto_delete_interval == 0:
            raise Unsupported(
                "archive() of a sandbox that is deleted when it is stopped", backend=self.backend
            )
        await self._change("archive()", lambda: self.native.stop(CHANGE_DEADLINE))
        await self._change("archive()", self.native.archive)
        await self._end_with(self._let_go)

    async def detach(self) -> None:
        self._refuse_with_lease("detach()")
        await self._end_with(self._let_go)

    def _refuse_with_lease(self, what: str) -> None:
        if self._lock.is_makers and self._plan.lease is not None:
            raise Unsupported(
                f"{what} of a sandbox that has a lease",
                backend=self.backend,
                hint="make it with lease=None",
            )

    async def _change(self, what: str, work: Any) -> Any:
        """A change that may not be made twice without asking; `Unsupported` if there is none."""
        try:
            return await self._call(what, work, twice=False)
        except ServiceError as error:
            if error.status in NOT_HERE:
                raise Unsupported(what, backend=self.backend, hint=str(error)) from None
            raise

    async def _call(self, what: str, work: Any, *, twice: bool = True) -> Any:
        self.raise_if_closed()
        self._client.link.raise_if_over()
        try:
            return await self._service.call(
                what, work, twice=twice, before_again=self._requests.raise_if_gone
            )
        except ServiceError as error:
            if error.status in REFUSED:
                await self._requests.raise_if_gone()
            raise

    # the end

    async def _close(self) -> None:
        try:
            await self.stop_asking()
        finally:
            await self._take_down()

    async def _take_down(self) -> None:
        if self._released:  # by a call that failed
            service = await self._service.reopen()
            try:
                await deletion.delete_again(service, self.native)
            finally:
                await finish(service.aclose())
            return
        try:
            await deletion.delete(self._service, self.native)
        finally:
            await self._release()

    async def _let_go(self) -> None:
        try:
            await self.stop_asking()
        finally:
            await self._release()

    async def stop_asking(self) -> None:
        """End its guest's stream and its lease; it is deleted, or let go, by other means."""
        self._client.link.close()
        await super()._close()
        await self._transport.wait_closed()
        if self._lease is not None:
            await self._lease.aclose()

    async def _release(self) -> None:
        if not self._released:
            self._released = True
            self._lock.release()
            await self._service.aclose()


async def _close_all(made: Sequence[Sandbox]) -> None:
    await asyncio.gather(*(sandbox.aclose() for sandbox in made), return_exceptions=True)


def is_container(native: Any) -> bool:
    """Whether it is of the kind that is neither forked nor paused."""
    return str(getattr(native, "sandbox_class", "")) == "container"
