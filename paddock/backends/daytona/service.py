"""Calls of the service, control plane and sandboxes alike: repeated where that is safe, and
with one kind of error.

What the service refused for being asked too often was not done, so it is asked again when it
says. What failed on its way may have been done, so only what may be done twice is asked again.
It does not know what a sandbox is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import os
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay
from tenacity.wait import wait_random_exponential

from paddock._concurrency import Interrupted, cancel, finish, interruptible
from paddock.errors import ConfigError, MissingCredentials, MissingDependency, SandboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from daytona import AsyncDaytona, DaytonaConfig

__all__ = ["REFUSED", "Service", "ServiceError", "sdk"]

T = TypeVar("T")

API_URL = "https://app.daytona.io/api"
"""Where the hosted service is, as the SDK has it."""
TOO_OFTEN = 429
CHANGING = "SANDBOX_STATE_CHANGE_IN_PROGRESS"
"""The code of a refusal by a sandbox that another change is made to."""
PASSING = frozenset({408, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""What a service or a proxy answers that is overloaded, or between two states of a sandbox; the
last are of a proxy that had no answer in its time."""
REFUSED = frozenset({400, 404, 409, 410})
CONNECTING = 1.0
"""Seconds that closing waits for a connection which is just being made."""
REPEATING = 30.0
"""Seconds in which a call is repeated: a rolling update of a service takes less."""
PAUSE_MAX = 60.0
"""Seconds that a service may ask us to wait; the hosted one counts in minutes."""
_pause = wait_random_exponential(multiplier=0.25, max=5.0)


class ServiceError(SandboxError):
    """Daytona refused or did not answer. `status` is its HTTP status, None without one.

    `unanswered` tells that nobody knows whether it was done.
    """

    def __init__(
        self, message: str, *, status: int | None = None, unanswered: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.unanswered = unanswered


def sdk() -> Any:
    """The `daytona` package; `MissingDependency` names the extra without it."""
    try:
        import daytona
    except ImportError as error:
        raise MissingDependency("daytona", "daytona") from error
    return daytona


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
        refused_is_passing: bool = False,
        before_again: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """Do `work`, again if need be; `what` names it in errors.

        `twice` tells whether it may be done a second time when nobody knows whether it was
        done; `refused_is_passing` that a refusal may be the service's own confusion, as while
        a sandbox changes its state. `before_again` may raise to end it. Within `finish` and
        `acquire`, a call that hangs, and a wait to make it again, end soon after a cancellation.
        Raises `ServiceError`, and `ConfigError` for a key that is refused.
        """

        def is_passing(error: BaseException) -> bool:
            return _is_passing(error, twice=twice, refused=refused_is_passing)

        try:
            return await interruptible(_repeat(work, is_passing, before_again))
        except Interrupted as error:
            raise ServiceError(f"{what}: Daytona gave {error}", unanswered=True) from None
        except _failures() as error:
            raise (_refused_key(what, error) or _told(what, error)) from None


async def _repeat(
    work: Callable[[], Awaitable[T]],
    is_passing: Callable[[BaseException], bool],
    before_again: Callable[[], Awaitable[None]] | None,
) -> T:
    async def look(_: RetryCallState) -> None:
        if before_again is not None:
            await before_again()

    async for attempt in AsyncRetrying(
        retry=retry_if_exception(is_passing),
        wait=_wait,
        stop=stop_after_delay(REPEATING),
        before_sleep=look,
        reraise=True,
    ):
        with attempt:
            return await work()
    raise AssertionError("an attempt is made or raises")


def _client(config: DaytonaConfig) -> AsyncDaytona:
    with _only_the_environment():
        return sdk().AsyncDaytona(config)  # type: ignore[no-any-return]


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


def _wait(state: RetryCallState) -> float:
    assert state.outcome is not None, "nothing to wait for"
    error = state.outcome.exception()
    headers = getattr(error, "headers", None) or {}
    for name, value in dict(headers).items():
        if name.lower() == "retry-after":
            with contextlib.suppress(ValueError):
                return min(max(float(value), 0.0), PAUSE_MAX)
    return _pause(state)


def _failures() -> tuple[type[Exception], ...]:
    """What the SDK raises; of streams it tells in the words of what it is made of."""
    import aiohttp

    return sdk().DaytonaError, aiohttp.ClientError


def _is_passing(error: BaseException, *, twice: bool, refused: bool) -> bool:
    """Whether to make a call again; see `Service.call`, `refused` is its `refused_is_passing`."""
    if not isinstance(error, _failures()):
        return False
    status = _status(error)
    if status == TOO_OFTEN or _is_changing(error):
        return True
    if refused and status in REFUSED:
        return True
    return twice and _told("", error).unanswered and not _is_late(error)


def _status(error: Any) -> int | None:
    """The HTTP status that it comes of, None without one."""
    status: int | None = getattr(error, "status_code", getattr(error, "status", None))
    return status


def _is_changing(error: Exception) -> bool:
    """Whether it was refused as the sandbox changes its state."""
    return isinstance(error, sdk().DaytonaError) and error.code == CHANGING


def _is_late(error: Exception) -> bool:
    """Whether the time was up that we gave it; more of it would only be more than that."""
    daytona = sdk()
    late = isinstance(error, daytona.DaytonaTimeoutError) and _status(error) is None
    return late and not isinstance(error, daytona.DaytonaConnectionError)


def _is_broken(error: BaseException | None) -> bool:
    """Whether a connection was: the SDK wraps what it does not know the like of."""
    import aiohttp
    import httpx

    kinds = (sdk().DaytonaConnectionError, aiohttp.ClientError, httpx.TransportError)
    return error is not None and (isinstance(error, kinds) or _is_broken(error.__cause__))


def _refused_key(what: str, error: Exception) -> ConfigError | None:
    if _status(error) != 401:
        return None
    return ConfigError(f"{what}: Daytona does not take this key; look at DAYTONA_API_KEY")


def _told(what: str, error: Exception) -> ServiceError:
    status = _status(error)
    if status == TOO_OFTEN:
        return ServiceError(f"{what}: Daytona is asked too often ({error})", status=TOO_OFTEN)
    unanswered = status in PASSING or (status is None and _is_broken(error)) or _is_late(error)
    stored = "its object store did not take a file: " if _is_of_the_store(error) else ""
    said = str(error).partition("\n\nDebug source:")[0]
    return ServiceError(f"{what}: {stored}{said}", status=status, unanswered=unanswered)


def _is_of_the_store(error: BaseException | None) -> bool:
    """Whether it comes of where the files go that an image copies; its client tries again by
    itself, and then nothing was made yet."""
    if error is None:
        return False
    return type(error).__module__.startswith("obstore") or _is_of_the_store(error.__cause__)
