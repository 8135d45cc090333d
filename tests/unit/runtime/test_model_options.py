"""What users set of a model: checked when an agent is made, and sent as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock import Agent, AgentConfig, ConfigError, Session
from paddock.testing.model_server import ModelServer
from tests.unit.runtime.conftest import FunctionTool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.conftest import CountingBackend

EVERYTHING: dict[str, Any] = {
    "temperature": 0,
    "top_p": 0.5,
    "max_tokens": 100,
    "seed": -1,
    "stop": ["END"],
    "tool_choice": "echo",
    "parallel_tool_calls": False,
    "timeout": 900,
    "idle_timeout": 1.5,
    "extra_body": {"provider": {"order": ["x"]}},
    "extra_headers": {"X-Title": "ours"},
    "prices": {"m": {"input": 1, "output": 2.5}},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.1), ("temperature", "hot"), ("temperature", True), ("top_p", -1),
        ("max_tokens", 0), ("max_tokens", 1.5), ("seed", 2**64), ("stop", [""]), ("stop", 7),
        ("tool_choice", ""), ("tool_choice", 3), ("parallel_tool_calls", "yes"),
        ("timeout", 0), ("timeout", float("nan")), ("idle_timeout", -1),
        ("extra_body", {"messages": []}), ("extra_body", [1]), ("extra_headers", {"a b": "c"}),
        ("extra_headers", {"a": "b\r\nc: d"}), ("extra_headers", {"a": 1}),
        ("prices", {"m": {"input": 1}}), ("prices", {"m": {"input": -1, "output": 1}}),
        ("prices", {"m": {"input": 1, "output": 1, "in": 1}}), ("prices", {"m": 3}),
    ],
)  # fmt: skip
def test_an_invalid_value_is_a_config_error_that_names_it(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        AgentConfig(**{name: value})


def test_a_file_has_them_and_is_read_back(tmp_path: Path) -> None:
    config = AgentConfig(model="m", **EVERYTHING)
    config.to_file(tmp_path / "agent.yaml")
    again = AgentConfig.from_file(tmp_path / "agent.yaml")
    assert {name: getattr(again, name) for name in EVERYTHING} == EVERYTHING


def test_times_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_TIMEOUT", "900")
    assert AgentConfig().timeout == 900
    monkeypatch.setenv("PADDOCK_TIMEOUT", "long")
    with pytest.raises(ConfigError, match="PADDOCK_TIMEOUT"):
        AgentConfig()


@pytest.mark.parametrize("name", ["extra_body", "extra_headers", "prices"])
def test_a_file_that_is_not_trusted_may_not_decide(tmp_path: Path, name: str) -> None:
    config = AgentConfig(**{name: EVERYTHING[name]})
    config.to_file(tmp_path / "agent.yaml")
    with pytest.raises(ConfigError, match=name):
        AgentConfig.from_file(tmp_path / "agent.yaml", trusted=False)


async def asked(backend: CountingBackend, provider: str, **options: Any) -> list[Any]:
    """The requests of a run that calls a tool once."""
    turns: list[dict[str, Any]] = [
        {"tool_calls": [{"name": "echo", "arguments": {}}]},
        {"text": "Done."},
    ]
    async with ModelServer(turns) as server:
        config = AgentConfig(
            model="m", base_url=server.base_url, provider=provider, system_prompt="s",
            backend=backend, **options,
        )  # fmt: skip
        agent = Agent(config)
        agent.registry.register(FunctionTool(echo))
        async with Session(agent) as session:
            (await session.run("Go.")).raise_for_status()
    return server.requests


def echo() -> str:
    return "echo"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "k"
    monkeypatch.setattr("paddock.testing.model_server.secrets.token_urlsafe", lambda _: token)
    monkeypatch.setenv("OPENAI_API_KEY", token)
    monkeypatch.setenv("ANTHROPIC_API_KEY", token)


async def test_chat_completions_get_them_as_they_are(backend: CountingBackend) -> None:
    first, second = await asked(backend, "openai", **EVERYTHING)
    sent = {name: first.body[name] for name in ("temperature", "top_p", "max_tokens", "seed")}
    assert sent == {name: EVERYTHING[name] for name in sent}
    assert first.body["stop"] == ["END"]
    assert first.body["parallel_tool_calls"] is False
    assert first.body["provider"] == {"order": ["x"]}
    assert first.body["tool_choice"] == {"type": "function", "function": {"name": "echo"}}
    assert "tool_choice" not in second.body, "a call that is forced each time would never end"
    assert first.headers["x-title"] == "ours"
    assert first.headers["x-stainless-read-timeout"] == "900"


async def test_the_responses_api_gets_them_by_its_own_names(backend: CountingBackend) -> None:
    given = EVERYTHING | {"seed": None, "stop": None, "wire": "responses"}
    first, second = await asked(backend, "openai", **given)
    assert (first.body["temperature"], first.body["max_output_tokens"]) == (0, 100)
    assert first.body["tool_choice"] == {"type": "function", "name": "echo"}
    assert first.body["provider"] == {"order": ["x"]}
    assert "tool_choice" not in second.body


async def test_anthropic_gets_them_by_its_own_names(backend: CountingBackend) -> None:
    given = EVERYTHING | {"seed": None, "extra_body": {"metadata": {"user_id": "u"}}}
    first, second = await asked(backend, "anthropic", **given)
    assert (first.body["temperature"], first.body["max_tokens"]) == (0, 100)
    assert first.body["stop_sequences"] == ["END"]
    assert first.body["metadata"] == {"user_id": "u"}
    assert first.body["tool_choice"] == {
        "type": "tool", "name": "echo", "disable_parallel_tool_use": True,
    }  # fmt: skip
    assert second.body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert first.headers["x-title"] == "ours"
