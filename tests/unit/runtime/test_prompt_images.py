"""Prompts with images: what the model is sent, what is kept, and what is refused."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    ConfigError,
    ImagePart,
    ModelRequest,
    RunStarted,
    ScriptedModel,
    Session,
    SessionStore,
)
from paddock.runtime.core import content

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.conftest import CountingBackend

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
TEXT = {"type": "text", "text": "What is this?"}
PICTURE = {"type": "image_url", "image_url": {"url": URL, "detail": "low"}}


def agent(backend: CountingBackend) -> Agent:
    return Agent(AgentConfig(system_prompt="Help.", backend=backend))


async def test_the_model_is_sent_texts_and_images_and_a_resumed_session_too(
    backend: CountingBackend, tmp_path: Path
) -> None:
    asked: list[ModelRequest] = []

    def answer(request: ModelRequest) -> dict[str, Any]:
        asked.append(request)
        return {"text": "A picture."}

    model = ScriptedModel([answer, answer])
    store = SessionStore(tmp_path)
    async with store.create_session(agent(backend), client=model) as session:
        started = []
        async with session.stream_events([TEXT, ImagePart(PNG), PICTURE]) as events:
            started = [e.event async for e in events if isinstance(e.event, RunStarted)]
        session_id = session.id
    async with store.resume(session_id, agent(backend), client=model) as session:
        await session.run("And now?")
    assert started[0].prompt == "What is this?\n[image]\n[image]"
    sent = {"role": "user", "content": [TEXT, ImagePart(PNG).to_part(), PICTURE]}
    for request in asked:
        assert request.messages[1] == sent


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ([], "a text or a list of parts, not []"),
        (17, "a text or a list of parts, not 17"),
        ([TEXT, "more"], "part 2 of the prompt is neither an ImagePart, nor a mapping"),
        ([{"type": "input_audio"}], "part 1 of the prompt is neither"),
        ([{"type": "image_url", "image_url": URL}], "part 1 of the prompt is neither"),
        ([{"type": "image_url", "image_url": {"url": "file:///a.png"}}], "data:image/... or http"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}], "part 1 of"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}], "PNG, JPEG"),
        ([ImagePart(PNG + bytes(300))], "part 1 of the prompt has 564 bytes; at most 500"),
        ([ImagePart(PNG)] * 3, "at most 2 images, not 3"),
        ([ImagePart(PNG + bytes(200))] * 2, "the images of a prompt have at most 2000 bytes"),
    ],
)
async def test_what_is_no_prompt_is_refused_before_anything_happens(
    backend: CountingBackend, prompt: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_IMAGE_BYTES", 500)
    monkeypatch.setattr(content, "MAX_PROMPT_IMAGES", 2)
    monkeypatch.setattr(content, "MAX_PROMPT_DATA", 1000)
    async with Session(agent(backend), client=ScriptedModel([])) as session:
        with pytest.raises(ConfigError) as caught:
            await session.run(prompt)
        assert told in str(caught.value)
        assert session.state.messages == []


async def test_an_address_of_the_network_is_the_services_to_fetch(
    backend: CountingBackend,
) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    async with Session(agent(backend), client=ScriptedModel([{"text": "Yes."}])) as session:
        await session.run([part])
        assert session.state.messages[0] == {"role": "user", "content": [part]}
