"""What the factory makes, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from paddock.errors import ConfigError
from paddock.runtime.models import create_model
from paddock.runtime.models.base import Usage
from paddock.runtime.models.openai import OpenAIModel
from paddock.runtime.models.pricing import cost_usd, price


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
        "print(*{'openai', 'genai_prices', 'tenacity'} & set(sys.modules))"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert shown.strip() == ""


def test_cached_tokens_cost_less() -> None:
    plain = cost_usd("gpt-5-mini", Usage(input_tokens=1000, output_tokens=100))
    cached = cost_usd("gpt-5-mini", Usage(input_tokens=1000, output_tokens=100, cached_tokens=900))
    assert 0 < cached < plain


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
