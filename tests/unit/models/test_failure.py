"""Every shape of error that services send, as one failure with its reason and class."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.models._answer import AnswerBuilder
from paddock.runtime.models._failure import (
    LONGEST_ASKED_WAIT,
    Failure,
    failure_in_body,
    failure_of_response,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def response(body: object, status: int = 400, **headers: str) -> Failure:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure_of_response(status, told, content)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "no such model", "code": 404}}, "no such model"),
        ({"error": "model 'x' not found"}, "model 'x' not found"),
        ([{"error": {"code": 400, "message": "API key not valid"}}], "API key not valid"),
        ({"detail": "Invalid input"}, "Invalid input"),
        ({"detail": [{"loc": ["body", "n"], "msg": "not permitted"}]}, "body.n: not permitted"),
        ({"message": "Forbidden"}, "Forbidden"),
        ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
        ({"error": {"message": ""}, "message": "outer"}, "outer"),
        ({"error": '{"error": {"message": "nested text"}}'}, "nested text"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "bad tool"}}},
            "Provider returned error; bad tool",
        ),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (b"<html><body><h1>Not  here</h1></body></html>", "Not here"),
        (b'data: {"error": {"message": "Bad start"}}\n\ndata: [DONE]\n\n', "Bad start"),
        (b"upstream connect error", "upstream connect error"),
        (b"", "status 400"),
        ({"odd": 1}, "status 400"),
        (b"\xff\x00", "\ufffd"),
    ],
)
def test_the_reason_is_found_in_every_shape_of_body(body: object, reason: str) -> None:
    assert str(response(body)).startswith(reason)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_a_status_that_may_pass_is_passing(status: int) -> None:
    assert response({}, status).is_passing
    assert not response({}, status, x_should_retry="false").is_passing


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_status_that_would_come_again_is_not_passing(status: int) -> None:
    assert not response({}, status).is_passing
    assert response({}, status, x_should_retry="true").is_passing


def test_a_quota_without_money_is_not_waited_for() -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    assert not response(body, 429).is_passing
    error = {"message": "x", "code": 429, "type": "insufficient_quota"}
    assert not failure_in_body(error).is_passing


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.25"}, 0.25),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-3"}, None),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "1m2.5s"}, 62.5),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "20ms"}, 0.02),
        ({"x_ratelimit_remaining_requests": "5", "x_ratelimit_reset_requests": "6m0s"}, None),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1000000001000"}, 0.0),
        ({}, None),
    ],
)
def test_the_wait_that_a_service_asks_for_is_kept(
    headers: dict[str, str], wait: float | None
) -> None:
    assert response({}, 429, **headers).wait == wait


def test_the_wait_may_stand_in_the_body() -> None:
    details = [{"@type": "google.rpc.RetryInfo", "retryDelay": "34s"}]
    body = [{"error": {"code": 429, "message": "slow down", "details": details}}]
    assert response(body, 429).wait == 34.0
    assert failure_in_body(body[0]["error"]).wait == 34.0


def test_a_wait_of_hours_is_an_error_at_once_that_says_so() -> None:
    failure = response({"message": "daily quota"}, 429, retry_after=str(LONGEST_ASKED_WAIT + 1))
    assert not failure.is_passing
    assert "daily quota (the service asks to wait 301 s)" in str(failure)


@pytest.mark.parametrize(
    ("error", "status", "is_passing"),
    [
        ({"message": "x", "code": 502}, 502, True),
        ({"message": "x", "code": "502"}, 502, True),
        ({"message": "x", "type": None, "code": "rate_limit_exceeded"}, 429, True),
        ({"message": "x", "status": "RESOURCE_EXHAUSTED"}, 429, True),
        ({"message": "x", "status": "UNAVAILABLE", "code": None}, 503, True),
        ({"message": "x", "type": "overloaded_error"}, 529, True),
        ({"message": "x", "type": "server_error", "code": None}, 500, True),
        ({"message": "x", "type": "InternalServerError"}, 500, True),
        ({"message": "x", "code": 400}, 400, False),
        ({"message": "x", "code": "context_length_exceeded"}, 400, False),
        ({"message": "x", "type": "invalid_request_error", "code": None}, 400, False),
        ({"message": "x", "type": "authentication_error"}, 401, False),
        ({"message": "x", "code": "never heard of"}, None, False),
        ({"message": "x", "code": True}, None, False),
        ({"message": "The server is overloaded, try again"}, None, True),
        ("just text", None, False),
        ({"kind": 1}, None, False),
        ({"code": 503, "error": "text beside its code"}, 503, True),
        ([{"error": {"message": "x", "code": 503}}], 503, True),
    ],
)
def test_an_error_in_a_body_is_that_of_the_same_status(
    error: Any, status: int | None, is_passing: bool
) -> None:
    failure = failure_in_body(error)
    assert (failure.status, failure.is_passing) == (status, is_passing)
    assert str(failure)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "gone", "code": 503}},
        {"error": {"message": "gone", "code": 503}, "choices": []},
        {"error": "gone", "code": 503},
        [{"error": {"message": "gone", "code": 503}}],
        {"choices": [{"finish_reason": "error", "error": {"code": 503, "message": "gone"}}]},
        {"object": "error", "message": "gone", "code": 503},
        {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
         "error": {"code": 503, "message": "gone"}},
    ],
)  # fmt: skip
def test_an_error_in_place_of_an_answer_is_raised_wherever_it_stands(body: object) -> None:
    with pytest.raises(Failure, match="gone") as caught:
        AnswerBuilder().add(json.dumps(body).encode())
    assert (caught.value.status, caught.value.is_passing) == (503, True)


def test_the_summary_is_for_a_person() -> None:
    assert response({}, 429).summary == "rate limited"
    assert response({}, 529).summary == "the service is overloaded"
    assert response({}, 502).summary == "the service answered 502"
