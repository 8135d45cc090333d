"""Calls of the service, control plane and sandboxes alike: repeated where that is safe, and
with one kind of error.

It does not know what a sandbox is, nor what a failure means, see `failures`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib
import os
import urllib.request
import weakref
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_random_exponential

from paddock._concurrency import Interrupted, cancel, finish, interruptible
from paddock.backends.daytona.failures import (
    ServiceError,
    ServiceUnreachable,
    asked_to_wait,
    explained,
    is_answer,
    is_failure,
    is_passing,
    is_throttled,
    sdk,
    unreachable,
)
from paddock.errors import MissingCredentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from daytona import AsyncDaytona, DaytonaConfig

__all__ = ["Service"]

T = TypeVar("T")

API_URL = "https://app.daytona.io/api"
"""Where the hosted service is, as the SDK has it."""
CONNECTING = 1.0
"""Seconds that closing waits for a connection which is just being made."""
REPEATING = 30.0
"""Seconds in which a call is repeated that failed on its way: a rolling update of a service takes
less."""
WINDOW = 60.0
"""Seconds after which the hosted service begins to count anew how often it is asked."""
THROTTLED = 5 * WINDOW
"""Seconds in which a call that has no timeout of its own is repeated when it is refused for being
asked too often."""
REACHING = 5.0
"""Seconds until a service that has never answered counts as one that cannot be reached: a
connection round the world takes less than one."""
AGAIN = 1.0
"""Seconds between two tries of a connection: a service that restarts may be back."""
ANSWERING = 15.0
"""Seconds in which a service that has never answered has to give its first answer, to a question
that changes nothing."""
_pause = wait_random_exponential(multiplier=0.25, max=5.0)


_services: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Service]] = (
    weakref.WeakKeyDictionary()
)
"""A client belongs to the loop in which it was made."""


@dataclass(eq=False)
class Service:
    """One account, as all sandboxes of this loop that use it share it."""

    key: str = field(repr=False)
    client: AsyncDaytona = field(repr=False)
    config: DaytonaConfig = field(repr=False)
    _users: int = field(default=0, init=False)
    _answered: bool = field(default=False, init=False)
    """Whether it has ever answered, so that a failure is likely to pass."""

    @classmethod
    async def open(cls, config: DaytonaConfig | None, target: str | None) -> Service:
        """The account of `config`, or of the environment; release it by `aclose`.

        Raises `MissingCredentials` without a key.
        """
        await asyncio.to_thread(sdk)  # what it imports takes a while
        config = _complete(config, target)
        services = _services.setdefault(asyncio.get_running_loop(), {})
        key = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
        if key not in services:
            services[key] = cls(key, _client(config), config)
        return services[key].share()

    async def refresh_elsewhere(self, sandbox_id: str) -> None:
        """Tell the service that a sandbox is in use, in another event loop than this one's."""
        async with _client(self.config) as client:
            await (await client.get(sandbox_id)).refresh_activity()

    async def reopen(self) -> Service:
        """Return the same account again, after its connections were closed, perhaps."""
        return await self.open(self.config, None)

    def share(self) -> Service:
        """Another hold of it, to be released by its own `aclose`."""
        self._users += 1
        return self

    async def aclose(self) -> None:
        """Let go of it; the last one closes its connections."""
        self._users -= 1
        if not self._users:
            del _services[asyncio.get_running_loop()][self.key]
            await finish(self._close())

    async def _close(self) -> None:
        # The SDK hears of events by a connection of its own, which it makes by the way. Closed
        # while that fails, it would leave the failure to the loop, to be printed there.
        connecting: asyncio.Task[None] | None = getattr(
            self.client._event_dispatcher, "_connect_task", None
        )
        if connecting is not None:
            await asyncio.wait([connecting], timeout=CONNECTING)
        # Where that connection broke and is being made again, closing forgets it as it is.
        events = getattr(self.client._event_dispatcher, "_sio", None)
        await self.client.close()  # type: ignore[no-untyped-call]
        if events is not None:
            stopping = asyncio.create_task(events.shutdown())
            await asyncio.wait([stopping], timeout=CONNECTING)
            await cancel(stopping)
            if events.eio.http is not None:
                await events.eio.http.close()

    async def call(
        self,
        what: str,
        work: Callable[[], Awaitable[T]],
        *,
        twice: bool = True,
        refused_is_passing: bool | None = None,
        before_again: Callable[[], Awaitable[None]] | None = None,
        within: float = THROTTLED,
    ) -> T:
        """Do `work`, again if need be; `what` names it in errors.

        `twice` allows a second attempt when it is unknown whether the first was done;
        `refused_is_passing` whether a refusal may be the service's own confusion, as while
        a sandbox changes its state (None: if it says that it does). `before_again` may raise to
        end it. What is refused for being asked too often waits as long as the service says, for
        `within` seconds in all. Within `finish` and `acquire`, a call that hangs, and a wait to
        make it again, end soon after a cancellation.
        Raises `ServiceError`, and `ConfigError` for a key that is refused.
        """

        def is_again(error: BaseException) -> bool:
            self._answered = self._answered or is_answer(error)
            return is_passing(error, twice=twice, refused=refused_is_passing)

        def failing() -> float:
            return REPEATING if self._answered else REACHING

        try:
            stop = _Stop(within, failing)
            result = await interruptible(_repeat(work, is_again, before_again, stop))
        except Interrupted as error:
            raise ServiceError(f"{what}: Daytona gave {error}", unanswered=True) from None
        except Exception as error:
            if is_failure(error):
                raise explained(what, error, self.url) from None
            raise
        self._answered = True
        return result

    async def look(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """As `call`, for a question: a service that has never answered has to do so soon."""
        if self._answered:
            return await self.call(what, work)
        await self._reach(what)
        try:
            async with asyncio.timeout(ANSWERING):
                return await self.call(what, work)
        except TimeoutError:
            why = unreachable(self.url, f"no answer within {ANSWERING:g} s")
            raise ServiceUnreachable(f"{what}: {why}") from None

    @property
    def url(self) -> str:
        return str(self.config.api_url)

    async def _reach(self, what: str) -> None:
        """Raise `ServiceUnreachable` if it takes no connection; the SDK would try for minutes."""
        loop = asyncio.get_running_loop()
        end = loop.time() + REACHING
        while True:
            try:
                async with asyncio.timeout_at(end):
                    _, writer = await asyncio.open_connection(*_first_hop(self.url))
                writer.close()
                return
            except (OSError, ValueError) as error:
                late = isinstance(error, TimeoutError)
                if late or isinstance(error, ValueError) or loop.time() + AGAIN > end:
                    why = f"no connection within {REACHING:g} s" if late else str(error)
                    raise ServiceUnreachable(f"{what}: {unreachable(self.url, why)}") from None
            await asyncio.sleep(AGAIN)


class _Stop:
    """Says when to make a call no more: a new one for each call."""

    def __init__(self, throttled: float, failing: Callable[[], float]) -> None:
        self._throttled = throttled
        self._failing = failing
        self._failed_at: float | None = None
        """When it failed first, since it was last refused for being asked too often."""

    def __call__(self, state: RetryCallState) -> bool:
        now = state.seconds_since_start or 0.0
        assert state.outcome is not None, "nothing has failed"
        if is_throttled(state.outcome.exception() or Exception()):
            self._failed_at = None
            return now + state.upcoming_sleep > self._throttled
        if self._failed_at is None:
            self._failed_at = now
        return now - self._failed_at >= self._failing()


async def _repeat(
    work: Callable[[], Awaitable[T]],
    is_again: Callable[[BaseException], bool],
    before_again: Callable[[], Awaitable[None]] | None,
    stop: _Stop,
) -> T:
    async def look(_: RetryCallState) -> None:
        if before_again is not None:
            await before_again()

    async for attempt in AsyncRetrying(
        retry=retry_if_exception(is_again), wait=_wait, stop=stop, before_sleep=look, reraise=True
    ):
        with attempt:
            return await work()
    raise AssertionError("an attempt is made or raises")


def _wait(state: RetryCallState) -> float:
    assert state.outcome is not None, "nothing to wait for"
    error = state.outcome.exception()
    asked = asked_to_wait(error) if error is not None and is_throttled(error) else None
    return asked or _pause(state)


def _first_hop(url: str) -> tuple[str, int]:
    """Where a connection to `url` leads: to its host, or to the proxy of the environment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _client(config: DaytonaConfig) -> AsyncDaytona:
    _leave_signals_alone()
    with _only_the_environment():
        return sdk().AsyncDaytona(config)  # type: ignore[no-any-return]


def _leave_signals_alone() -> None:
    """Have the SDK's connection for events leave Ctrl-C to the program.

    By itself it takes the signal from the event loop, cancels every task of the program, those that
    clean up among them, and stops the loop.
    """
    module: Any = importlib.import_module("daytona.internal.event_dispatcher")
    if isinstance(module.socketio, ModuleType):
        known = vars(module.socketio)
        client = functools.partial(module.socketio.AsyncClient, handle_sigint=False)
        module.socketio = SimpleNamespace(**{**known, "AsyncClient": client})


@contextlib.contextmanager
def _only_the_environment() -> Iterator[None]:
    """A block in which the SDK reads no file of the working directory, which may be anybody's:
    it would take a region and the wish to be traced from it."""
    module: Any = importlib.import_module("daytona._async.daytona")
    reader = module.DaytonaEnvReader

    class FromTheProcess(reader):  # type: ignore[misc, valid-type]
        @staticmethod
        def _load(path: str) -> dict[str, str]:
            return {}

    module.DaytonaEnvReader = FromTheProcess
    try:
        yield
    finally:
        module.DaytonaEnvReader = reader


def _complete(config: DaytonaConfig | None, target: str | None) -> DaytonaConfig:
    """A configuration with what the environment says where `config` says nothing."""
    # As many connections as there are calls, unless somebody says otherwise.
    known: dict[str, Any] = {"connection_pool_maxsize": None}
    if config is not None:
        known |= config.model_dump(exclude_unset=True)
    for name in ("api_key", "jwt_token", "organization_id", "api_url", "target"):
        if value := os.environ.get(f"DAYTONA_{name.upper()}"):
            known[name] = known.get(name) or value
    if target is not None:
        known["target"] = target
    known["api_url"] = known.get("api_url") or API_URL
    if not known.get("api_key") and not (known.get("jwt_token") and known.get("organization_id")):
        raise MissingCredentials(
            "no key for Daytona: set DAYTONA_API_KEY (or DAYTONA_JWT_TOKEN and "
            "DAYTONA_ORGANIZATION_ID), or give config=DaytonaConfig(api_key=...)"
        )
    return sdk().DaytonaConfig(**known)  # type: ignore[no-any-return]
