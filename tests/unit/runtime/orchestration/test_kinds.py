"""Numbers and flags of specs, limits and environments are of their kind, and nothing is taken for
one that is none."""

from __future__ import annotations

from typing import Any

import pytest

from paddock import AgentSpec, create_runtime, define_reference, normalize_data_environment
from paddock.runtime.orchestration.define import (
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
)
from tests.unit.runtime.orchestration.teams import MODEL, PROVIDERS, team

NO_NUMBERS = [True, False, "5"]


@pytest.mark.rows("F-9")
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_lifetime_is_a_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"ttl_ms\n.*give a number, not"):
        define_reference("row", {"n": int}, ttl_ms=value)


@pytest.mark.rows("F-5")
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_turns_are_a_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"max_turns\n.*give a number, not"):
        define_specialist("worker", model=MODEL, prompt="W.", max_turns=value)


@pytest.mark.rows("F-5")
@pytest.mark.parametrize("value", ["yes", 1, 0])
def test_whether_an_agent_remembers_is_true_or_false(value: Any) -> None:
    with pytest.raises(ValueError, match=r"stateful\n.*valid boolean"):
        define_specialist("worker", model=MODEL, prompt="W.", stateful=value)


@pytest.mark.rows("F-40")
@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("limit", ["usd", "tokens", "turns", "seconds"])
def test_limits_are_numbers(limit: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"limits\.{limit}\n.*give a number, not"):
        define_specialist("worker", model=MODEL, prompt="W.", limits={limit: value})
    runtime = create_runtime(team())
    with pytest.raises(ValueError, match=rf"{limit}\n.*give a number, not"):
        runtime.query("Hi", "t", limits={limit: value})


@pytest.mark.rows("F-40")
def test_a_limit_may_be_written_as_a_float_that_is_whole() -> None:
    agent = define_specialist("worker", model=MODEL, prompt="W.", limits={"tokens": 1e6})
    assert agent.limits.tokens == 1_000_000


@pytest.mark.rows("F-18")
def test_what_cancels_a_query_is_a_token() -> None:
    token: Any = 3
    with pytest.raises(TypeError, match="token: give a CancellationToken, not int"):
        create_runtime(team()).query("Hi", "t", token=token)


@pytest.mark.rows("F-33")
@pytest.mark.parametrize("value", ["yes", 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda value: {"kv": {"kind": "sqlite", "url": "sqlite:x", "ensure_schema": value}},
        lambda value: {"catalog": {"kind": "sqlite", "url": "sqlite:x", "ensure_schema": value}},
        lambda value: {"catalog_search": {"index_path": "x", "rebuild_on_start": value}},
        lambda value: {"catalog_search": {"index_path": "x", "write_through": value}},
    ],
)
def test_flags_of_an_environment_are_true_or_false(make: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="valid boolean"):
        normalize_data_environment(make(value))


@pytest.mark.rows("F-5")
@pytest.mark.parametrize("role", ["planner", "executor"])
def test_an_agent_for_plans_has_one(role: Any) -> None:
    agent = AgentSpec(name="worker", role=role, model=MODEL)
    lead = define_coordinator("lead", model=MODEL, prompt="L.", routes=["worker"])
    with pytest.raises(ValueError, match=f"agent 'worker': {role}s need a plan; give its kind"):
        define_runtime(define_tenant("acme", "1"), agents=[lead, agent], providers=PROVIDERS)
