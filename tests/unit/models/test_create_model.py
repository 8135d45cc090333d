"""What the factory makes, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.core.model import ModelRequest, Usage
from paddock.runtime.models import create_model
from paddock.runtime.models.anthropic import AnthropicModel
from paddock.runtime.models.openai import OpenAIModel
from paddock.runtime.models.pricing import cost_usd, price
from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-oai")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("model", "provider", "made"),
    [
        ("claude-opus-5-5", None, AnthropicModel),
        ("claude-opus-5-5", "anthropic", AnthropicModel),
        ("claude-opus-5-5", "openai", OpenAIModel),
        ("anthropic/claude-opus-5-5", None, OpenAIModel),
        ("my-model", "anthropic", AnthropicModel),
        ("gpt-5-mini", None, OpenAIModel),
    ],
)
async def test_the_provider_is_the_one_named_or_that_of_the_models_name(
    model: str, provider: str | None, made: type
) -> None:
    client = create_model(model, provider=provider)
    assert type(client) is made
    await client.aclose()


def test_an_unknown_provider_is_a_config_error_that_lists_them() -> None:
    with pytest.raises(ConfigError, match="'gemini' is not one of openai, anthropic"):
        create_model("gemini-5", provider="gemini")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    "make", [lambda: create_model("gpt-5", wire="grpc"), lambda: AgentConfig(wire="grpc")]
)
def test_an_unknown_wire_is_a_config_error_that_lists_them(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="'grpc' is not one of chat, responses"):
        make()


@pytest.mark.usefixtures("keys")
async def test_the_address_of_openai_is_not_where_claude_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hello = [{"text": "Hello."}]
    request = ModelRequest(model="m", messages=[{"role": "user", "content": "Go."}])
    async with ModelServer(hello) as openai, ModelServer(hello) as anthropic:
        monkeypatch.setenv("OPENAI_BASE_URL", openai.base_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", anthropic.api_key)
        client = create_model("claude-opus-5-5", base_url=openai.base_url)
        assert [event async for event in client.stream(request)]
        await client.aclose()
    assert len(anthropic.requests) == 1


def test_without_its_package_the_extra_to_install_is_named() -> None:
    code = (
        "import sys; sys.modules['anthropic'] = None\n"
        "from paddock.runtime.models import create_model\n"
        "from paddock.errors import MissingDependency\n"
        "try: create_model('claude-opus-5-5')\n"
        "except MissingDependency as error: print(error)"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "anthropic is not installed" in shown
    assert "paddock[anthropic]" in shown


async def test_any_other_name_is_a_model_of_a_service() -> None:
    model = create_model("gpt-5-mini", base_url="http://127.0.0.1:9/v1", max_retries=0)
    assert isinstance(model, OpenAIModel)
    await model.aclose()


def test_a_service_without_key_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        create_model("gpt-5-mini")


def test_the_package_of_models_imports_no_service_and_no_price_list() -> None:
    code = (
        "import sys, paddock.runtime.models, paddock.runtime.models.scripted\n"
        "import paddock.runtime.models.pricing\n"
        "print(*{'anthropic', 'openai', 'genai_prices', 'tenacity'} & set(sys.modules))"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert shown.strip() == ""


def test_cached_tokens_cost_less() -> None:
    plain = cost_usd("gpt-5-mini", Usage(input_tokens=1000, output_tokens=100))
    cached = cost_usd("gpt-5-mini", Usage(input_tokens=1000, output_tokens=100, cached_tokens=900))
    assert 0 < cached < plain


def test_what_is_put_into_the_cache_costs_more() -> None:
    model, usage = "claude-haiku-5-5", Usage(input_tokens=1000)
    plain = cost_usd(model, usage)
    assert cost_usd(model, Usage(input_tokens=1000, cache_write_tokens=900)) > plain > 0
    assert cost_usd(model, Usage(input_tokens=10, cached_tokens=9, cache_write_tokens=9)) > 0
    assert (usage + Usage(cache_write_tokens=5)).cache_write_tokens == 5


def test_a_model_that_is_not_in_the_list_costs_nothing() -> None:
    for _ in range(2):
        assert cost_usd("no-such-model", Usage(input_tokens=1000)) == 0.0


def test_more_cached_tokens_than_input_are_still_priced() -> None:
    assert cost_usd("gpt-5-mini", Usage(input_tokens=10, cached_tokens=20)) > 0


async def test_the_price_is_the_same_off_the_event_loop_and_on_it() -> None:
    usage = Usage(input_tokens=1000, output_tokens=10)
    first = await price("gpt-4.1", usage)
    assert first == await price("gpt-4.1", usage) == cost_usd("gpt-4.1", usage)
    assert await price("gpt-4.1", usage, service_tier="default") == first
