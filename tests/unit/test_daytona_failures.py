"""How long a refusal asks to wait, and what failures are told as."""

from __future__ import annotations

import time
from email.utils import formatdate

import aiohttp
import pytest
from daytona import DaytonaError, DaytonaNotFoundError, DaytonaRateLimitError  # noqa: TID253

from paddock.backends.daytona.failures import (
    ServiceError,
    ServiceUnreachable,
    asked_to_wait,
    explained,
    is_passing,
)

URL = "https://daytona.example/api"


def refused(**headers: str) -> DaytonaRateLimitError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return DaytonaRateLimitError("Too Many Requests", status_code=429, headers=named)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After_sandbox_create": "25", "Retry_After": "3"}, 25),
        ({"retry_after_sandbox_create": "25", "Retry_After_authenticated": "40"}, 40),
        ({"X_RateLimit_Reset_sandbox_create": "17", "Retry_After": "3"}, 17),
        (
            {
                "X_RateLimit_Remaining_sandbox_create": "0",
                "X_RateLimit_Reset_sandbox_create": "17",
                "X_RateLimit_Remaining_authenticated": "12",
                "X_RateLimit_Reset_authenticated": "50",
            },
            17,
        ),
        ({"Retry_After": "3"}, 3),
        ({"Retry_After": "soon", "X_RateLimit_Reset_x": "nan"}, None),
        ({"Retry_After_x": "-4"}, 0),
        ({}, None),
    ],
)
def test_the_header_of_the_limit_says_how_long(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_to_wait(refused(**headers)) == seconds


@pytest.mark.parametrize(
    "value",
    [
        lambda: str(time.time() + 100),
        lambda: str(int(time.time()) + 100),
        lambda: formatdate(time.time() + 100, usegmt=True),
    ],
    ids=["seconds", "whole", "date"],
)
def test_a_time_is_as_good_as_seconds(value: object) -> None:
    assert callable(value)
    found = asked_to_wait(refused(X_RateLimit_Reset_create=value()))
    assert found is not None
    assert 0 < found <= 100


def test_a_connection_that_was_never_made_is_made_again_also_for_what_may_be_done_once() -> None:
    error = DaytonaError("Failed: Cannot connect")
    error.__cause__ = aiohttp.ClientConnectionError("reset")
    assert not is_passing(error, twice=False, refused=None)
    error.__cause__ = aiohttp.ConnectionTimeoutError("late")
    assert is_passing(error, twice=False, refused=None)
    told = explained("listing", error, URL)
    assert isinstance(told, ServiceUnreachable)
    assert f"cannot be reached at {URL}" in str(told)


def test_an_answer_without_a_reason_asks_whether_the_address_is_right() -> None:
    error = DaytonaNotFoundError("Failed to list sandboxes: ", status_code=404)
    told = explained("listing", error, URL)
    assert isinstance(told, ServiceError)
    assert str(told) == f"listing: {URL} answers 404 without a reason; is that Daytona's API?"


def test_an_error_is_one_line() -> None:
    told = explained("listing", DaytonaError("first\n\n  second\n\nDebug source: x"), URL)
    assert str(told) == "listing: first second"


def test_a_refusal_by_a_changing_state_is_passing_unless_nobody_waits_for_it() -> None:
    error = DaytonaError("busy", status_code=409, code="SANDBOX_STATE_CHANGE_IN_PROGRESS")
    assert is_passing(error, twice=True, refused=None)
    assert is_passing(error, twice=True, refused=True)
    assert not is_passing(error, twice=True, refused=False)
