"""Conversations that do not fit into the model's context: shortened, summarised, or an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.errors import ContextOverflow, ModelError
from paddock.runtime.conversation.shortening import SAID_TOKENS, fit, shorten
from paddock.runtime.conversation.state import SUMMARY_PREFIX, State
from paddock.runtime.core.model import (
    ModelResponse,
    ToolCall,
    Usage,
    assistant_message,
    tool_message,
)
from paddock.runtime.core.overflow import is_overflow
from paddock.runtime.core.size import estimate_tokens
from tests.unit.runtime.conftest import _check_history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message, ModelEvent, ModelRequest
    from tests.unit.runtime.conftest import OpenSession

REFUSAL = "API error 400: This model's maximum context length is exceeded"


class Narrow:
    """A service that refuses requests of more than `window` tokens, system prompt and tools not
    counted. It calls the tool until there are `results`, and answers then."""

    def __init__(self, window: int, *, results: int = 1, calls: int = 1) -> None:
        self.window = window
        self.results = results
        self.calls = calls
        self.requests: list[ModelRequest] = []
        self.refused = self.summaries = self.made = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        tokens = estimate_tokens(request.messages[1:])
        if tokens > self.window:
            self.refused += 1
            raise ModelError(REFUSAL, status=400)
        usage = Usage(input_tokens=tokens, output_tokens=5)
        if str(request.messages[-1]["content"]).startswith("Write a summary"):
            self.summaries += 1
            yield ModelResponse(text="All that was.", usage=usage)
        elif self.made < self.results:
            self.made += 1
            calls = [
                ToolCall(id=f"c{self.made}-{n}", name="log", arguments="{}")
                for n in range(self.calls)
            ]
            yield ModelResponse(tool_calls=tuple(calls), usage=usage, finish_reason="tool_calls")
        else:
            yield ModelResponse(text="Done.", usage=usage)

    async def aclose(self) -> None:
        """Nothing is open."""


def log() -> str:
    return "a line of the log\n" * 1000  # 4500 tokens


@pytest.mark.parametrize("window", [None, 16_000])
async def test_results_of_one_turn_that_overflow_the_context_are_shortened(
    open_session: OpenSession, check_history: Callable[..., None], window: int | None
) -> None:
    model = Narrow(16_000, calls=5)
    session = open_session([], log, client=model)
    session.context_window = window
    assert (await session.run("Look.")).text == "Done."
    assert model.refused == (0 if window else 1)
    assert model.summaries == 0
    contents = [m["content"] for m in session.state.messages if m["role"] == "tool"]
    assert len(contents) == 5
    assert all("tokens left out" in content for content in contents)
    check_history(session.state.messages)
    assert (await session.run("And now?")).status == "completed"
    assert (await session.compact()).summary == "All that was."


async def test_the_oldest_results_go_first(open_session: OpenSession, tmp_path: Path) -> None:
    model = Narrow(16_000, results=4)
    session = open_session([], log, client=model, session_dir=tmp_path)
    assert (await session.run("Look four times.")).text == "Done."
    assert (model.refused, model.summaries) == (1, 0)
    sizes = [len(m["content"]) for m in session.state.messages if m["role"] == "tool"]
    assert sizes == sorted(sizes)
    assert sizes[0] < 500
    assert sizes[-1] == len(log())
    loaded = State.from_jsonl((tmp_path / "trace.jsonl").read_bytes())
    assert loaded.messages == session.state.messages
    assert loaded.estimate_tokens() == session.state.estimate_tokens()


async def test_a_long_prompt_is_not_compacted_again_after_each_turn(
    open_session: OpenSession,
) -> None:
    model = Narrow(16_000, results=3)

    def log() -> str:
        return "short"

    session = open_session([], log, client=model)
    session.context_window = 16_000
    result = await session.run("Find the fault in this:\n" + "a line of the log\n" * 2700)
    assert (result.text, model.summaries, model.refused) == ("Done.", 1, 0)
    prompt, *_ = session.state.get_user_messages()
    assert prompt.startswith("Find the fault")
    assert len(prompt) < 16_000


async def test_a_prompt_that_cannot_fit_is_an_error_and_the_session_goes_on(
    open_session: OpenSession,
) -> None:
    model = Narrow(4000, results=0)
    session = open_session([], client=model)
    result = await session.run("word " * 10_000)
    assert result.status == "error"
    assert "shorten the prompt" in (result.reason or "")
    assert len(model.requests) == 1
    assert (await session.run("Hello?")).text == "Done."


async def test_a_system_prompt_that_cannot_fit_is_an_error(open_session: OpenSession) -> None:
    model = Narrow(-1)
    session = open_session([], log, client=model)
    result = await session.run("Hello.")
    assert result.status == "error"
    assert "cannot be made shorter" in (result.reason or "")
    assert len(model.requests) == 1


async def test_a_conversation_of_many_prompts_is_summarised_when_it_is_refused(
    open_session: OpenSession, check_history: Callable[..., None]
) -> None:
    model = Narrow(8000, results=0)
    session = open_session([], client=model)
    for number in range(12):
        result = await session.run(f"{number}: " + "word " * 800)
        assert result.status == "completed", result.reason
    assert 1 <= model.summaries <= 3
    assert model.refused <= 2 * model.summaries
    check_history(session.state.messages)


async def test_a_compaction_by_hand_fits_what_the_service_refuses(
    open_session: OpenSession,
) -> None:
    model = Narrow(100_000, results=0)
    session = open_session([], client=model)
    for number in range(4):
        await session.run(f"{number}: " + "word " * 8000)
    model.window = 9_000
    assert (await session.compact()).tokens_after < 9_000
    assert model.refused >= 1
    assert session.state.get_user_messages()[-1].startswith(SUMMARY_PREFIX)


async def test_without_compaction_a_refusal_is_the_error_of_the_run(
    open_session: OpenSession,
) -> None:
    model = Narrow(1000, calls=3)
    session = open_session([], log, client=model)
    session.auto_compact = False
    result = await session.run("Look.")
    assert (result.status, result.reason) == ("error", REFUSAL)
    assert model.refused == 1


async def test_the_window_of_a_model_nobody_knows_can_be_configured(
    open_session: OpenSession,
) -> None:
    model = Narrow(16_000, results=0)
    config = {"model": "a-model-of-our-own", "context_window": 16_000}
    session = open_session([], client=model, config=config)
    for number in range(5):
        assert (await session.run(f"{number}: " + "word " * 2400)).status == "completed"
    assert model.summaries >= 1
    assert model.refused == 0


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "8545 tokens. Please reduce the length of the messages.",
        "Error code: context_length_exceeded",
        "Your input exceeds the context window of this model.",
        "prompt is too long: 213462 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "Please reduce the length of the messages or completion.",
        "the request exceeds the available context size. try increasing the context size",
        "Input is too long for requested model.",
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
        "context length",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "tokens to keep from the initial prompt is greater than the context length",
        "Range of input length should be [1, 30720]: input tokens limit exceeded",
        "Requested token count exceeds the model's maximum context length of 131072 tokens.",
    ],
)
def test_the_words_of_services_for_a_full_context_are_known(text: str) -> None:
    assert is_overflow(ModelError(f"API error 400 (after retries): {text}", status=400))


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Rate limit reached: limit 30000 input tokens per minute", 429),
        ("Rate limit reached for tokens per min (TPM): context length", 400),
        ("invalid value for 'max_tokens'", 400),
        ("This model's maximum context length is 8192 tokens.", 401),
        ("The tool's description is too long", 400),
        ("Overloaded", 529),
    ],
)
def test_other_errors_are_not_taken_for_a_full_context(text: str, status: int) -> None:
    assert not is_overflow(ModelError(text, status=status))


def test_a_typed_overflow_is_one_whatever_it_says() -> None:
    assert is_overflow(ContextOverflow("no"))


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """Valid histories, of messages from empty to long."""
    texts = st.integers(0, 3000).map(lambda size: "wort " * (size // 5))
    messages: list[Message] = []
    for number in range(draw(st.integers(1, 6))):
        messages.append({"role": "user", "content": draw(texts)})
        for turn in range(draw(st.integers(0, 3))):
            ids = [f"{number}-{turn}-{call}" for call in range(draw(st.integers(0, 3)))]
            calls = tuple(
                ToolCall(id=i, name="t", arguments=json.dumps({"a": draw(texts)})) for i in ids
            )
            messages.append(assistant_message(draw(texts), calls))
            messages += [tool_message(i, draw(texts)) for i in ids]
    return messages


@given(histories(), st.integers(500, 5000))
def test_a_history_stays_valid_and_fits_when_it_is_cut(history: list[Message], room: int) -> None:
    before = json.dumps(history)
    for cut in (shorten(history, room), fit(history, room)):
        _check_history(cut)
        _arguments_are_json(cut)
        if estimate_tokens(history) <= room:
            assert cut == history
    assert estimate_tokens(fit(history, room)) <= room + SAID_TOKENS
    assert json.dumps(history) == before


def _arguments_are_json(messages: Sequence[Message]) -> None:
    calls: list[dict[str, Any]] = [c for m in messages for c in m.get("tool_calls") or ()]
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


def test_images_of_old_results_go_with_their_text() -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    call = ToolCall(id="a", name="t", arguments="{}")
    seen = [assistant_message("", (call,)), {**tool_message("a", ""), "content": picture}]
    history = [{"role": "user", "content": "Go."}, *seen, assistant_message("Nice.")]
    assert estimate_tokens(history) > 1000
    cut = shorten(history, 100)
    assert cut[2] == tool_message("a", "(An image was left out.)")
