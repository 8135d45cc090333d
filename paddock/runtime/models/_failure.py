"""One attempt that failed: why, and whether the same request may be answered later. Does no I/O.

The same error is the same `Failure`, whether a service sends it as an HTTP status, as a whole
body with status 200, or inside a stream. Services agree on no shape for the reason:
`reason_in` reads all that are known.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from typing import TYPE_CHECKING, Any

from paddock.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["BrokenStream", "Failure", "failure_in_body", "failure_of_response", "reason_in"]

LONGEST_ASKED_WAIT = 300.0
"""Seconds. A service that asks for a longer wait, such as until tomorrow's quota, is an error
at once: no user watches a terminal for that long."""

_LONGEST_REASON = 2_000  # characters of an error that a person is shown

_PASSING = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may be answered."""


_STATUS_OF = {
    "bad_request": 400,
    "invalid_request": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "context_length_exceeded": 400,
    "authentication": 401,
    "unauthenticated": 401,
    "invalid_api_key": 401,
    "billing": 402,
    "insufficient_quota": 402,
    "permission": 403,
    "permission_denied": 403,
    "not_found": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "api": 500,
    "internal": 500,
    "internal_server": 500,
    "server": 500,
    "upstream": 502,
    "bad_gateway": 502,
    "api_connection": 502,
    "unavailable": 503,
    "service_unavailable": 503,
    "engine_overloaded": 503,
    "deadline_exceeded": 504,
    "gateway_timeout": 504,
    "timeout": 504,
    "overloaded": 529,
}
"""What services write as a code, type or status where they do not give a number."""

_SOUNDS_PASSING = re.compile(
    r"rate.?limit|overloaded|too many requests|temporar|try again|timed? ?out|unavailable"
    r"|no capacity|bad gateway|internal server error",
    re.IGNORECASE,
)
"""Read only of an error that has neither a number nor a code that is known."""

_NO_MONEY = re.compile(
    r"insufficient_quota|insufficient (funds|credit|balance)|billing", re.IGNORECASE
)
"""Sent with 429 by some services; waiting does not help."""

_REASONS = {
    408: "the service timed out",
    429: "rate limited",
    503: "the service is unavailable",
    504: "the service timed out",
    529: "the service is overloaded",
}

_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)
_DELAY = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?")


class Failure(Exception):
    """One attempt failed.

    `status` is HTTP's, or what the error would have been as a status. `is_passing`: the same
    request may be answered later, after `wait` seconds if the service says so. `summary` is
    what a person is shown while it is tried again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        is_passing: bool = False,
        wait: float | None = None,
        summary: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_passing = is_passing
        self.wait = wait
        self.summary = summary or _REASONS.get(status or 0) or _plain_summary(status)

    def as_model_error(self) -> ModelError:
        """Return the error that the user of a model gets."""
        code = "" if self.status is None else f" {self.status}"
        return ModelError(f"API error{code} (after retries): {self}", status=self.status)


class BrokenStream(Failure):
    """The stream ended too early, or is not a stream that can be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_passing=True, summary="the answer broke off")


def failure_of_response(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Return what an answer with an error status says."""
    told = _parsed(body)
    reason = (_of_page(body) if told is None else reason_in(told)) or f"status {status}"
    should = headers.get("x-should-retry")
    passing = status in _PASSING or status >= 500
    if should in ("true", "false"):
        passing = should == "true"
    elif status == 429 and _NO_MONEY.search(body.decode(errors="replace")):
        passing = False
    wait = _asked_wait(headers)
    return _failure(reason, status, passing, _delay_in(told) if wait is None else wait)


WITHOUT_REASON = "the service reports an error without a reason"
"""What is said of an answer that is called failed and nothing else: its service had an error."""


def failure_in_body(error: Any) -> Failure:
    """Return what `error`, which stands in a stream or in a body with status 200, says.

    It is the value of the key "error", or whatever else the service put there.
    """
    reason = reason_in(error) or json.dumps(error)
    status = _status_in(error)
    if status is None:
        return Failure(reason, is_passing=bool(_SOUNDS_PASSING.search(reason)))
    passing = status in _PASSING or status >= 500
    if status == 429 and _NO_MONEY.search(json.dumps(error)):
        passing = False
    return _failure(reason, status, passing, _delay_in(error))


def reason_in(told: Any) -> str:
    """Return the text for a person in an error body of any shape; empty if there is none."""
    return "; ".join(dict.fromkeys(_texts(told)))[:_LONGEST_REASON]


def _failure(reason: str, status: int, passing: bool, wait: float | None) -> Failure:
    if wait is not None and wait > LONGEST_ASKED_WAIT:
        reason, passing = f"{reason} (the service asks to wait {wait:.0f} s)", False
    return Failure(reason, status=status, is_passing=passing, wait=wait)


def _texts(told: Any) -> Iterator[str]:
    """The sentences in `told`, outermost first."""
    match told:
        case str():
            inner = _parsed(told.encode(errors="replace")) if told[:1] in "{[" else None
            yield from (_texts(inner) if inner else iter([told.strip()] if told.strip() else []))
        case list():
            for each in told:
                yield from _texts(each)
        case {"msg": str(text), "loc": list(path)}:  # FastAPI's
            yield f"{'.'.join(map(str, path))}: {text}"
        case dict():
            for key in ("error", "message", "errors", "detail", "details", "msg", "title"):
                if key != "details" or not isinstance(told.get(key), list):
                    yield from _texts(told.get(key))
            if isinstance(told.get("metadata"), dict):  # OpenRouter's: what the provider said
                yield from _texts(told["metadata"].get("raw"))


def _status_in(error: Any) -> int | None:
    """The status that `error` would have been, by its number or by the name of its kind."""
    if isinstance(error, list):
        return next((found for each in error if (found := _status_in(each)) is not None), None)
    if not isinstance(error, dict):
        return None
    for key in ("status_code", "http_status", "code", "status", "type", "error_type"):
        status = _status_of(error.get(key))
        if status is not None:
            return status
    return _status_in(error.get("error"))


def _status_of(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | str) and str(value).strip().isdigit():
        number = int(value)
        return number if 400 <= number < 600 else None
    if not isinstance(value, str):
        return None
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", value)  # RateLimitError
    name = re.sub(r"[^a-z]+", "_", spaced.lower()).strip("_")
    return _STATUS_OF.get(name) or _STATUS_OF.get(name.removesuffix("error").strip("_"))


def _parsed(body: bytes) -> Any:
    """What is in a body of JSON, or in the first event of one that is a stream all the same."""
    if body.startswith(b"data:"):
        body = body.removeprefix(b"data:").partition(b"\n")[0]
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _of_page(body: bytes) -> str:
    """What a web page, or plain text, says."""
    text = body.decode(errors="replace")
    title = _TITLE.search(text)
    plain = " ".join(_MARKUP.sub(" ", title[1] if title else text).split())
    return plain[:_LONGEST_REASON]


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """How many seconds the service asks to wait."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    if after is None:
        return _rate_wait(headers)
    seconds = _number(after)
    if seconds is not None:
        return seconds
    parsed = email.utils.parsedate_tz(after)
    return None if parsed is None else max(0.0, email.utils.mktime_tz(parsed) - time.time())


def _rate_wait(headers: Mapping[str, str]) -> float | None:
    """Until the limit that is used up is renewed, as OpenAI and OpenRouter send it."""
    for kind in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0":
            return _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if headers.get("x-ratelimit-remaining") == "0":
        moment = _number(headers.get("x-ratelimit-reset"))
        if moment is not None and moment > 1e9:  # since 1970: seconds, or milliseconds
            return max(0.0, (moment / 1000 if moment > 1e11 else moment) - time.time())
        return moment
    return None


def _delay_in(error: Any) -> float | None:
    """Google's ``retryDelay``, anywhere in an error's details."""
    if isinstance(error, list):
        return next((found for each in error if (found := _delay_in(each)) is not None), None)
    if not isinstance(error, dict):
        return None
    if isinstance(error.get("retryDelay"), str):
        return _duration(error["retryDelay"])
    return _delay_in([error.get("error"), error.get("details")])


def _duration(text: str) -> float | None:
    """Seconds of a text such as ``1m3.5s``, ``20ms`` or ``7``."""
    if text.endswith("ms"):
        number = _number(text.removesuffix("ms"))
        return None if number is None else number / 1000
    match = _DELAY.fullmatch(text)
    if not text or match is None:
        return _number(text)
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e15 else None


def _plain_summary(status: int | None) -> str:
    return "the request failed" if status is None else f"the service answered {status}"
