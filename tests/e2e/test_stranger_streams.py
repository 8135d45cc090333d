"""Streams as other people's services send them, each with its right meaning."""

from __future__ import annotations

import itertools
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ContextOverflow, ModelError
from paddock.runtime.core.model import (
    ModelRequest,
    ModelResponse,
    ModelRetry,
    assistant_message,
    tool_message,
)
from paddock.runtime.core.overflow import is_overflow
from paddock.runtime.models.openai import OpenAIModel
from tests.e2e.stranger_server import Answer, StrangerServer, chunk, refused, said, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GO = [{"role": "user", "content": "Go."}]
REQUEST = ModelRequest(model="m", messages=GO)
TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}
A, B = '{"command": "echo A"}', '{"command": "echo B"}'


def call(index: int | None = 0, call_id: str | None = None, **function: Any) -> Any:
    content: dict[str, Any] = {"type": "function", "function": function}
    content |= {} if index is None else {"index": index}
    return chunk({"tool_calls": [content | ({} if call_id is None else {"id": call_id})]})


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.runtime.models._service._FIRST_WAIT", 0.001)


@asynccontextmanager
async def asked(server: StrangerServer, **options: Any) -> AsyncIterator[OpenAIModel]:
    async with server:
        model = OpenAIModel(**{"base_url": server.base_url, "api_key": "k", **options})
        try:
            yield model
        finally:
            await model.aclose()


async def answer(
    server: StrangerServer, request: ModelRequest = REQUEST, **options: Any
) -> tuple[ModelResponse, list[ModelRetry]]:
    async with asked(server, **options) as model:
        events = [event async for event in model.stream(request)]
    assert isinstance(events[-1], ModelResponse)
    return events[-1], [event for event in events if isinstance(event, ModelRetry)]


OK, STOP, END = chunk({"content": "ok"}), chunk({}, "stop"), b"data: [DONE]\n\n"
FRAMES = {
    "comments, retry and ids": [b": PROCESSING\n\n", b"retry: 3\n\n", b"id: 7\n\n", OK, STOP],
    "empty data": [b"data: \n\n", b"data:\n\n", OK, b"data: \n\n", STOP],
    "a comment as data": [b"data: : OPENROUTER PROCESSING\n\n", OK, STOP],
    "words as data": [b"data: ping\n\n", OK, b"data: null\n\n", STOP],
    "named events": [b"event: ping\ndata: \n\n", OK, STOP],
    "no end marker": [OK, STOP],
    "no finish reason, but an end marker": [OK, END],
    "two finishes": [OK, STOP, STOP],
    "usage alone at the end": [OK, STOP, {"choices": [], "usage": {"prompt_tokens": 1}}],
    "Azure's filter results": [{"choices": [], "prompt_filter_results": []}, OK, STOP],
    "CRLF": [json.dumps(OK).join(["data: ", "\r\n\r\n"]).encode(), STOP],
    "no empty line at the end": [OK, b"data: " + json.dumps(STOP).encode()],
}


@pytest.mark.parametrize("events", FRAMES.values(), ids=FRAMES)
async def test_every_frame_is_read_or_passed_over(events: list[Any]) -> None:
    response, retries = await answer(StrangerServer(sse(*events, done=False)))
    assert (response.text, retries) == ("ok", [])


WHOLE = {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize("body", [json.dumps(WHOLE), "\n " + json.dumps(WHOLE, indent=2)])
async def test_an_answer_in_one_piece_is_understood(body: str, content_type: str) -> None:
    whole = Answer(body=body.encode(), content_type=content_type)
    assert (await answer(StrangerServer(whole)))[0].text == "ok"


async def test_lines_of_json_without_the_frames_of_events_are_understood() -> None:
    lines = b"\n".join(json.dumps(each).encode() for each in (OK, STOP))
    assert (await answer(StrangerServer(Answer(body=lines))))[0].text == "ok"


CALLS = {
    "id in every chunk": ([call(0, "a", name="bash", arguments=A[:6]),
                           call(0, "a", arguments=A[6:])], [A]),
    "the whole again": ([call(0, "a", name="bash", arguments=""), call(0, "a", arguments=A),
                         call(0, "a", arguments=A)], [A]),
    "the whole again, encoded twice": ([call(0, "a", name="bash", arguments=A),
                                        call(0, "a", name="bash", arguments=json.dumps(A))], [A]),
    "one id under other indexes": ([call(0, "a", name="bash", arguments=A),
                                    call(1, "a", name="bash", arguments=A),
                                    call(2, "a", name="bash", arguments=A)], [A]),
    "an empty object first": ([call(0, "a", name="bash", arguments="{}"),
                               call(0, arguments=A[:6]), call(0, arguments=A[6:])], [A]),
    "index 0 for all": ([call(0, "a", name="bash", arguments=A),
                         call(0, "b", name="bash", arguments=B)], [A, B]),
    "index 0 for all and no ids": ([call(0, name="bash", arguments=A),
                                    call(0, name="bash", arguments=B)], [A, B]),
    "one id for two calls": ([call(0, "a", name="bash", arguments=A),
                              call(1, "a", name="bash", arguments=B)], [A, B]),
    "no index and no ids": ([call(None, name="bash", arguments=A),
                             call(None, name="bash", arguments=B)], [A, B]),
    "arguments as an object": ([call(0, "a", name="bash", arguments=json.loads(A))], [A]),
    "null": ([call(0, "a", name="bash", arguments="null")], ["{}"]),
    "a function call of old": ([chunk({"function_call": {"name": "bash", "arguments": A}})], [A]),
    "running totals": ([call(0, "a", name="bash", arguments=A[:6]), call(0, "a", arguments=A[:9]),
                        call(0, "a", arguments=A)], [A]),
}  # fmt: skip


@pytest.mark.parametrize(("events", "arguments"), CALLS.values(), ids=CALLS)
async def test_calls_are_never_glued_together_nor_doubled(
    events: list[Any], arguments: list[str]
) -> None:
    response, _ = await answer(StrangerServer(sse(*events, chunk({}, "tool_calls"))))
    found = [json.loads(each.arguments) for each in response.tool_calls]
    assert found == [json.loads(each) for each in arguments]
    assert {each.name for each in response.tool_calls} == {"bash"}
    assert len({each.id for each in response.tool_calls}) == len(arguments)


ERRORS = {
    "the status 502": refused(502, {"error": {"message": "gone"}}),
    "in a body": refused(200, {"error": {"message": "gone", "code": 502}}),
    "first event": sse({"error": {"message": "gone", "code": "502"}}, done=False),
    "in the choice": sse({"choices": [{"finish_reason": "error",
                                       "error": {"code": 502, "message": "gone"}}]}),
    "a kind": sse({"error": {"message": "gone", "type": "server_error"}}),
    "a cut": Answer(body=b"data: {"),
    "a web page": Answer(body=b"<html>", content_type="text/html"),
}  # fmt: skip


@pytest.mark.parametrize("first", ERRORS.values(), ids=ERRORS)
async def test_an_error_that_may_pass_is_tried_again_and_told(first: Answer) -> None:
    response, (retry,) = await answer(StrangerServer(first, said("fine")))
    assert response.text == "fine"
    assert (retry.attempt, retry.limit) == (1, 8)
    assert str(retry).startswith(retry.reason)


@pytest.mark.parametrize("asked_to_wait", [{"retry_after": "0.01"}, {"retry_after_ms": "10"}])
async def test_the_wait_that_is_asked_for_is_told(asked_to_wait: dict[str, str]) -> None:
    limited = refused(429, {"error": "slow"}, **asked_to_wait)
    _, (retry,) = await answer(StrangerServer(limited, said("fine")))
    assert str(retry) == "rate limited, retrying in 0.01 s (1 of 8)"


@pytest.mark.parametrize(
    ("first", "status", "reason"),
    [
        (refused(400, {"error": "model 'x' not found"}), 400, "model 'x' not found"),
        (refused(400, [{"error": {"code": 400, "message": "not valid"}}]), 400, "not valid"),
        (refused(422, {"detail": "Invalid input"}), 422, "Invalid input"),
        (refused(403, b"<html><title>Forbidden here</title></html>"), 403, "Forbidden here"),
        (refused(200, {"error": {"message": "no credit", "code": 402}}), 402, "no credit"),
        (refused(429, {"error": {"code": "insufficient_quota", "message": "pay"}}), 429, "pay"),
    ],
)
async def test_an_error_that_would_come_again_keeps_its_reason(
    first: Answer, status: int, reason: str
) -> None:
    server = StrangerServer(first)
    async with asked(server) as model:
        with pytest.raises(ModelError, match=reason) as caught:
            _ = [event async for event in model.stream(REQUEST)]
    assert caught.value.status == status
    assert len(server.requests) == 1


async def test_an_error_after_some_text_ends_the_answer_with_its_reason() -> None:
    late = sse(OK, {"choices": [{"error": {"code": 502, "message": "died"}}]})
    server = StrangerServer(late)
    async with asked(server) as model:
        with pytest.raises(ModelError, match="died"):
            _ = [event async for event in model.stream(REQUEST)]


async def test_a_full_context_is_not_tried_again_whatever_its_status() -> None:
    full = refused(500, {"error": "the request exceeds the available context size"})
    server = StrangerServer(full)
    async with asked(server) as model:
        with pytest.raises(ModelError) as caught:
            _ = [event async for event in model.stream(REQUEST)]
    assert is_overflow(caught.value)
    assert not isinstance(caught.value, ContextOverflow), "the caller of models says that"
    assert len(server.requests) == 1


def without(field: str, message: str) -> Any:
    def respond(body: dict[str, Any]) -> Answer:
        return refused(400, {"error": {"message": message}}) if field in body else said("fine")

    return respond


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("stream_options", {}),
        ("reasoning_effort", {"reasoning_effort": "low"}),
        ("service_tier", {"service_tier": "flex"}),
        ("seed", {"options": {"seed": 1}}),
    ],
)
async def test_a_field_that_a_service_refuses_is_left_out_and_remembered(
    field: str, options: dict[str, Any]
) -> None:
    request = ModelRequest(model="m", messages=GO, **options)
    server = StrangerServer(without(field, f"Unknown field: {field}"))
    async with asked(server) as model:
        for _ in range(2):
            events = [event async for event in model.stream(request)]
            assert isinstance(events[-1], ModelResponse)
    assert [field in each.body for each in server.requests] == [True, False, False]


async def test_what_changes_the_answer_is_not_left_out() -> None:
    request = ModelRequest(model="m", messages=GO, options={"temperature": 0.5})
    server = StrangerServer(without("temperature", "Unknown field: temperature"))
    async with asked(server) as model:
        with pytest.raises(ModelError, match="temperature"):
            _ = [event async for event in model.stream(request)]


async def test_the_limit_of_tokens_goes_by_the_name_that_the_service_knows() -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    request = ModelRequest(model="m", messages=GO, options={"max_tokens": 9})
    server = StrangerServer(without("max_tokens", message))
    await answer(server, request)
    assert server.requests[-1].body["max_completion_tokens"] == 9


async def test_roles_are_bridged_for_a_template_that_refuses_them() -> None:
    def strict(body: dict[str, Any]) -> Answer:
        roles = [message["role"] for message in body["messages"]]
        if any(one == other for one, other in itertools.pairwise(roles)):
            return refused(400, {"message": "Conversation roles must alternate user/assistant"})
        return said("fine")

    request = ModelRequest(model="m", messages=[*GO, *GO])
    assert (await answer(StrangerServer(strict), request))[0].text == "fine"


async def test_what_a_service_wants_back_it_gets_back_and_no_other_service() -> None:
    details = {"type": "reasoning.text", "index": 0, "text": "hm"}
    events = [
        chunk({"reasoning_content": "I look ", "reasoning_details": [details], "odd": {"n": 1}}),
        chunk({"reasoning_content": "around.", "reasoning_details": [{**details, "text": "!"}]}),
        chunk({"tool_calls": [{"index": 0, "id": "a", "extra_content": {"google": {"s": "sig"}},
                               "function": {"name": "bash", "arguments": A}}]}),
        chunk({}, "tool_calls"),
    ]  # fmt: skip
    server, other = StrangerServer(sse(*events), said("fine")), StrangerServer(said("fine"))
    async with asked(server) as model, other:
        first = [event async for event in model.stream(REQUEST)][-1]
        assert isinstance(first, ModelResponse)
        message = assistant_message(first.text, first.tool_calls, first.opaque)
        kept = json.loads(json.dumps([*GO, message, tool_message("a", "done")]))
        request = ModelRequest(model="m", messages=kept)
        _ = [event async for event in model.stream(request)]
        elsewhere = OpenAIModel(base_url=other.base_url, api_key="k")
        _ = [event async for event in elsewhere.stream(request)]
        await elsewhere.aclose()
    back = server.requests[-1].body["messages"][1]
    assert back["reasoning_content"] == "I look around."
    assert back["reasoning_details"] == [{**details, "text": "hm!"}]
    assert back["odd"] == {"n": 1}
    assert back["tool_calls"][0]["extra_content"] == {"google": {"s": "sig"}}
    plain = other.requests[-1].body["messages"][1]
    assert plain.keys() == {"role", "content", "tool_calls"}
    assert plain["tool_calls"][0].keys() == {"id", "type", "function"}


USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
COSTS = {
    "usage.cost": ({"usage": {**USAGE, "cost": 0.25}}, {}, 0.25),
    "its own key at a provider": (
        {"usage": {**USAGE, "cost": 0.25, "is_byok": True,
                   "cost_details": {"upstream_inference_cost": 1}}}, {}, 1.25),
    "a free model": ({"usage": {**USAGE, "cost": 0}}, {}, 0.0),
    "LiteLLM's header": ({"usage": USAGE}, {"x-litellm-response-cost": "0.5"}, 0.5),
}  # fmt: skip


@pytest.mark.parametrize(("more", "headers", "cost"), COSTS.values(), ids=COSTS)
async def test_what_a_gateway_says_it_cost_counts(
    more: dict[str, Any], headers: dict[str, str], cost: float
) -> None:
    stream = Answer(body=sse(OK, {**STOP, **more}).body, headers=headers)
    response, _ = await answer(StrangerServer(stream))
    assert (response.usage.cost_usd, response.is_priced) == (cost, True)


async def test_a_cost_that_nobody_says_is_not_known() -> None:
    silent = Answer(body=said("ok").body, headers={"x-litellm-response-cost": "None"})
    assert not (await answer(StrangerServer(silent)))[0].is_priced


async def test_azure_gets_its_key_and_its_version() -> None:
    server = StrangerServer(said("fine"))
    async with server:
        address = f"{server.origin}/openai/deployments/d?api-version=2024-10-21"
        model = OpenAIModel(base_url=address, api_key="k")
        _ = [event async for event in model.stream(REQUEST)]
        await model.aclose()
    (request,) = server.requests
    assert request.target == "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == "k"
    assert "authorization" not in request.headers


async def test_an_address_that_never_answered_is_reported_at_once() -> None:
    async with StrangerServer() as server:
        pass
    model = OpenAIModel(base_url=server.base_url, api_key="k")
    with pytest.raises(ModelError, match=server.base_url):
        events = [event async for event in model.stream(REQUEST)]
        assert not events
    await model.aclose()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks9://127.0.0.1:9"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/no"),
    ],
)
async def test_a_proxy_or_a_certificate_that_is_wrong_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, value)
    model = OpenAIModel(base_url="https://127.0.0.1:9/v1", api_key="k")
    with pytest.raises(ConfigError, match=variable):
        _ = [event async for event in model.stream(REQUEST)]
    await model.aclose()
