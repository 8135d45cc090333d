"""Servers that answer wrongly cost the result of a call, and no more."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, ScriptedModel, Session
from tests.unit.mcp.agents import agent_of, results

if TYPE_CHECKING:
    from paddock import Agent

LYING = [sys.executable, str(Path(__file__).with_name("lying_server.py"))]
PATIENCE = 60

pytestmark = pytest.mark.rows("F-41")


def lying(*arguments: str, **fields: Any) -> Agent:
    return agent_of({"name": "lying", "command": [*LYING, *arguments], **fields})


def work(how: str) -> tuple[str, dict[str, Any]]:
    return ("lying__work", {"how": how})


@pytest.mark.parametrize("how", ["the next id", "twice", "bytes", "asks"])
async def test_what_is_no_answer_to_the_call_is_passed_over(how: str) -> None:
    assert await results(lying(), work(how), work("well")) == ["fine", "fine"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("null", "it sent an invalid answer"),
        ("no error", "it sent an invalid answer"),
        ("no list", "it sent an invalid answer: content: Input should be a valid list"),
        ("no such part", "it sent an invalid answer: content.0."),
    ],
)
async def test_an_invalid_answer_ends_its_call_at_once(how: str, told: str) -> None:
    first, second = await results(lying(call_timeout=3600), work(how), work("well"))
    assert told in first
    assert len(first) < 200
    assert second == "fine"


async def test_an_answer_to_another_call_leaves_this_one_without() -> None:
    first, second = await results(lying(call_timeout=1), work("another id"), work("well"))
    assert "took longer than 1 s" in first
    assert second == "fine"


async def test_half_a_letter_is_replaced() -> None:
    assert await results(lying(), work("half a letter")) == ["a\ufffdb"]


async def test_of_many_parts_the_first_are_read() -> None:
    (text,) = await results(lying(), work("parts"))
    assert text.endswith("[more than 1000 parts; the rest is left out]")
    assert text.count("y\n") == 1000


async def test_a_server_with_too_many_tools_is_said() -> None:
    async with Session(lying("many"), client=ScriptedModel([])) as session:
        with pytest.raises(ConfigError, match="the server has more than 500 tools"):
            await session.run("Go.")


async def test_a_run_that_is_cancelled_while_a_server_starts_ends_it(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    async with Session(lying("never", str(started)), client=ScriptedModel([])) as session:
        run = asyncio.create_task(session.run("Go."))
        async with asyncio.timeout(PATIENCE):
            process = int(await asyncio.to_thread(started.read_text))
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
