"""What a model thinks, from the service's stream to those who watch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ModelRequest, ModelResponse, ReasoningDelta, TextDelta, create_runtime
from paddock.redaction import Redactor
from paddock.runtime.agents.secret_scope import RedactingModelClient
from paddock.runtime.models._answer import AnswerBuilder
from paddock.runtime.models._message_answer import MessageBuilder
from paddock.runtime.models._response_answer import ResponseBuilder
from tests.unit.runtime.orchestration.teams import of_type, read, team

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from paddock import ModelEvent
    from paddock.runtime.models._building import Builder

MESSAGE = [
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Hm"},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "s"},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "."},
    },
]
CHAT = [
    {"choices": [{"delta": {"reasoning_content": "Hm"}}]},
    {"choices": [{"delta": {"reasoning": "."}}]},
    {"choices": [{"delta": {"reasoning_content": None, "reasoning_details": []}}]},
]
RESPONSE = [
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "Hm"},
    {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "."},
]


@pytest.mark.parametrize(
    ("builder", "events"),
    [(MessageBuilder(), MESSAGE), (AnswerBuilder(), CHAT), (ResponseBuilder(), RESPONSE)],
)
def test_thoughts_come_beside_the_text_and_once(builder: Builder, events: list[Any]) -> None:
    text = "".join(builder.add(json.dumps(event).encode()) for event in events)
    assert (text, builder.take_thought(), builder.has_thought) == ("", "Hm.", False)


class Thinking:
    """Thinks, and then answers."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        for piece in ("the key is s3", "cr3t-key!", " Hm."):
            yield ReasoningDelta(text=piece)
        yield TextDelta(text="Yes.")
        yield ModelResponse(text="Yes.", is_priced=True)

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_secrets_in_thoughts_are_redacted_across_pieces() -> None:
    client = RedactingModelClient(Thinking(), Redactor({"KEY": "s3cr3t-key!"}))
    events = [event async for event in client.stream(ModelRequest(model="m", messages=[]))]
    thought = "".join(each.text for each in events if isinstance(each, ReasoningDelta))
    assert "cr3t" not in thought
    assert thought.startswith("the key is ")
    assert thought.endswith(" Hm.")
    assert [type(each) for each in events][-2:] == [TextDelta, ModelResponse]


@pytest.mark.rows("F-21", "Events")
async def test_thoughts_are_events_of_the_stream_and_no_part_of_the_answer() -> None:
    runtime = create_runtime(team(), interpreter=Thinking())
    events = await read(runtime.query("Hello.", "t"))
    kinds = [each["type"] for each in events]
    assert kinds.index("step-start") < kinds.index("reasoning") < kinds.index("text")
    thought = "".join(each["text"] for each in of_type(events, "reasoning"))
    assert thought == "the key is s3cr3t-key! Hm."
    assert all(each.keys() == {"type", "text"} for each in of_type(events, "reasoning"))
    assert [each["text"] for each in of_type(events, "text")] == ["Yes."]
