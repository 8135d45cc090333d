"""What failed calls of the service mean: whether to make one again, when, and what to say of it.

What the service refused for being asked too often was not done, so it is asked again when it
says. What failed on its way may have been done, so only what may be done twice is asked again.
No I/O.
"""

from __future__ import annotations

import contextlib
import math
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, MissingDependency, SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "REFUSED",
    "ServiceError",
    "ServiceUnreachable",
    "asked_to_wait",
    "explained",
    "is_answer",
    "is_failure",
    "is_passing",
    "is_throttled",
    "is_unconnected",
    "sdk",
    "unreachable",
]

TOO_OFTEN = 429
CHANGING = "SANDBOX_STATE_CHANGE_IN_PROGRESS"
"""The code of a refusal by a sandbox that another change is made to."""
PASSING = frozenset({408, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""What a service or a proxy answers that is overloaded, or between two states of a sandbox; the
last are of a proxy that had no answer in its time."""
REFUSED = frozenset({400, 404, 409, 410})
EPOCH = 1e9
"""Seconds from which on a number is a time since 1970: no service asks for thirty years."""


class ServiceError(SandboxError):
    """Daytona refused or did not answer. `status` is its HTTP status, None without one.

    With `unanswered` it is unknown whether it was done.
    """

    def __init__(
        self, message: str, *, status: int | None = None, unanswered: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.unanswered = unanswered

    def about(self, path: str, shown: str) -> ServiceError:
        """Return the same, with `shown` where it names `path`, which the user did not give."""
        text = str(self).replace(path, shown)
        return ServiceError(text, status=self.status, unanswered=self.unanswered)


class ServiceUnreachable(ServiceError):
    """No connection to Daytona can be made; nothing was done."""


def sdk() -> Any:
    """The `daytona` package; `MissingDependency` names the extra without it."""
    try:
        import daytona
    except ImportError as error:
        raise MissingDependency("daytona", "daytona") from error
    return daytona


def is_failure(error: BaseException) -> bool:
    """Whether a call of the SDK failed; of streams it tells in the words of what it is made of."""
    import aiohttp

    return isinstance(error, (sdk().DaytonaError, aiohttp.ClientError, ServiceError, TimeoutError))


def is_answer(error: BaseException) -> bool:
    """Whether the service answered, if with a refusal."""
    return _status(error) is not None


def is_throttled(error: BaseException) -> bool:
    return _status(error) == TOO_OFTEN


def is_passing(error: BaseException, *, twice: bool, refused: bool | None) -> bool:
    """Whether to make a call again.

    `twice` allows a second attempt when it is unknown whether the first was done;
    `refused`, whether a refusal may be the service's own confusion: None, if it says so itself.
    """
    if not is_failure(error) or isinstance(error, ServiceError):
        return False
    status = _status(error)
    if status == TOO_OFTEN or is_unconnected(error):
        return True
    if refused is not False and _is_changing(error):
        return True
    if refused and status in REFUSED:
        return True
    return twice and _is_unanswered(error) and not _is_late(error)


def asked_to_wait(error: BaseException) -> float | None:
    """Return the seconds that a refusal asks for; None if it does not say.

    The service names each of its limits in a header of its own: ``Retry-After-<limit>``. Without
    one the time counts when the limits that are used up begin again. Only the limit on wrong keys
    sends a plain ``Retry-After``.
    """
    headers = _lower(getattr(error, "headers", None) or {})
    left = {_limit(name): value.strip() for name, value in _begin(headers, "x-ratelimit-remaining")}
    resets = [
        (name, value)
        for name, value in _begin(headers, "x-ratelimit-reset")
        if left.get(_limit(name), "0") == "0"
    ]
    for values in (
        [value for _, value in _begin(headers, "retry-after-")],
        [value for _, value in resets],
        [headers[name] for name in ("retry-after",) if name in headers],
    ):
        if found := list(_seconds(values)):
            return max(found)
    return None


def explained(what: str, error: BaseException, url: str) -> Exception:
    """Return the error that says what failed, and why, for the service at `url`."""
    if isinstance(error, ServiceError):
        return error
    status = _status(error)
    if status == 401:
        return ConfigError(f"{what}: Daytona does not take this key; look at DAYTONA_API_KEY")
    if status == TOO_OFTEN:
        wait = asked_to_wait(error)
        until = "" if wait is None else f", the next answer in {math.ceil(wait)} s"
        return ServiceError(
            f"{what}: Daytona is asked too often{until} ({_said(error)})", status=TOO_OFTEN
        )
    if is_unconnected(error):
        return ServiceUnreachable(f"{what}: {unreachable(url, _said(error))}")
    stored = "its object store did not take a file: " if _is_of_the_store(error) else ""
    if status is not None and _is_bare(error):
        return ServiceError(
            f"{what}: {url} answers {status} without a reason; is that Daytona's API?",
            status=status,
            unanswered=_is_unanswered(error),
        )
    return ServiceError(
        f"{what}: {stored}{_said(error)}", status=status, unanswered=_is_unanswered(error)
    )


def unreachable(url: str, why: str) -> str:
    """Say in one line that no connection to the service at `url` can be made."""
    return f"Daytona cannot be reached at {url} ({why}); look at DAYTONA_API_URL and the network"


def _is_bare(error: BaseException) -> bool:
    """Whether an answer had no text: the SDK's own words end with a colon then."""
    return str(error).rstrip().endswith(":")


def _said(error: BaseException) -> str:
    """In one line; some say nothing but what they are."""
    text = str(error).partition("\n\nDebug source:")[0]
    return " ".join(text.split()).rstrip(": ") or type(error).__name__


def _status(error: Any) -> int | None:
    """The HTTP status that it comes of, None without one."""
    status: int | None = getattr(error, "status_code", getattr(error, "status", None))
    return status


def _is_changing(error: BaseException) -> bool:
    """Whether it was refused as the sandbox changes its state."""
    return isinstance(error, sdk().DaytonaError) and error.code == CHANGING


def _is_late(error: BaseException) -> bool:
    """Whether the time was up that we gave it; more of it would only be more than that."""
    daytona = sdk()
    if isinstance(error, TimeoutError):
        return True
    late = isinstance(error, daytona.DaytonaTimeoutError) and _status(error) is None
    return late and not isinstance(error, daytona.DaytonaConnectionError)


def _is_unanswered(error: BaseException) -> bool:
    status = _status(error)
    return status in PASSING or (status is None and _is_broken(error)) or _is_late(error)


def _is_broken(error: BaseException | None) -> bool:
    """Whether a connection was: the SDK wraps what it does not know the like of."""
    import aiohttp
    import httpx

    kinds = (sdk().DaytonaConnectionError, aiohttp.ClientError, httpx.TransportError)
    return any(isinstance(each, kinds) for each in _causes(error))


def is_unconnected(error: BaseException | None) -> bool:
    """Whether no connection was made, so that nothing was asked."""
    import aiohttp
    import httpx

    kinds = (
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        httpx.ConnectError,
        httpx.ConnectTimeout,
    )
    return any(isinstance(each, kinds) for each in _causes(error))


def _is_of_the_store(error: BaseException | None) -> bool:
    """Whether it comes of where the files go that an image copies; its client tries again by
    itself, and then nothing was made yet."""
    return any(type(each).__module__.startswith("obstore") for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _lower(headers: Mapping[str, Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in dict(headers).items()}


def _begin(headers: Mapping[str, str], prefix: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.startswith(prefix)]


def _limit(name: str) -> str:
    """What is limited by a header such as ``x-ratelimit-reset-sandbox-create``."""
    return name.removeprefix("x-ratelimit-").partition("-")[2]


def _seconds(values: Iterable[str]) -> Iterator[float]:
    """What headers say, in seconds from now: a number of them, a time since 1970 or a date."""
    for value in values:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            try:
                number = float(value)
            except ValueError:
                number = parsedate_to_datetime(value).timestamp()
            if math.isfinite(number):
                yield max(number - time.time() if number >= EPOCH else number, 0.0)
