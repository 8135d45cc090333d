"""What the options of ``paddock run`` make of an agent, as its model sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.e2e.conftest import Paddock

    Served = tuple[Callable[..., Awaitable[subprocess.CompletedProcess[str]]], ModelServer]

pytestmark = pytest.mark.rows("S-61")

PROMPT = """\
---
variables:
  language: {required: true}
  tone: plain
initial_prompt: Review it.
---
You review {{ language }} in {{ tone }} words{% if team %} for {{ team }}{% endif %}.
"""


@contextlib.asynccontextmanager
async def served(paddock: Paddock, *answers: str) -> AsyncIterator[Served]:
    """Runs `paddock` beside a model that gives these answers."""
    async with ModelServer([{"text": text} for text in answers]) as server:
        key = {"OPENAI_API_KEY": server.api_key}

        async def command(*args: str) -> subprocess.CompletedProcess[str]:
            given = ("--base-url", server.base_url, "--model", "served")
            return await asyncio.to_thread(paddock, *args, *given, env=key)

        yield command, server


async def test_a_prompt_of_several_words_needs_no_command(paddock: Paddock) -> None:
    async with served(paddock, "Hello.") as (command, server):
        done = await command("Say hello", "--reasoning-effort", "low", "-s", "Be brief.")
        assert done.returncode == 0, done.stderr
        assert "Hello." in done.stdout
        (request,) = server.requests
        assert request.body["model"] == "served"
        assert request.body["reasoning_effort"] == "low"
        assert [each["content"] for each in request.body["messages"]] == ["Be brief.", "Say hello"]


async def test_a_prompt_file_is_filled_in_and_says_what_to_begin_with(paddock: Paddock) -> None:
    (paddock.cwd / "review.md").write_text(PROMPT)
    (paddock.cwd / "vars.yaml").write_text("language: Go\nteam: 1e3\n")
    async with served(paddock, "Reviewed.") as (command, server):
        done = await command(
            "run", "-p", "review.md", "--vars-file", "vars.yaml", "--var", "language=Rust"
        )
        assert done.returncode == 0, done.stderr
        system, user = server.requests[0].body["messages"]
        assert system["content"].strip() == "You review Rust in plain words for 1e3."
        assert user["content"] == "Review it."


async def test_the_answer_goes_to_a_new_file(paddock: Paddock) -> None:
    async with served(paddock, "The answer.", "Another.") as (command, server):
        assert (await command("run", "Ask", "-o", "answer.txt")).returncode == 0
        assert (paddock.cwd / "answer.txt").read_text() == "The answer.\n"
        again = await command("run", "Ask", "-o", "answer.txt")
        assert again.returncode == 1
        assert "answer.txt: it exists, and is not written over" in again.stderr
        assert (paddock.cwd / "answer.txt").read_text() == "The answer.\n"
        assert len(server.requests) == 1


async def test_a_session_is_resumed_by_its_id_as_the_latest_and_by_its_path(
    paddock: Paddock,
) -> None:
    async with served(paddock, "One.", "Two.", "Three.", "Four.") as (command, server):
        assert (await command("First words", "--session-dir", "kept")).returncode == 0
        (directory,) = [path for path in (paddock.cwd / "kept").iterdir() if path.is_dir()]
        named = ("latest", directory.name[:5])
        for name in named:
            done = await command("run", "More", "--resume", name, "--session-dir", "kept")
            assert done.returncode == 0, done.stderr
        done = await command("run", "More", "-r", f"kept/{directory.name}/trace.jsonl")
        assert done.returncode == 0, done.stderr
        roles = [message["role"] for message in server.requests[-1].body["messages"]]
        assert roles == ["system", *["user", "assistant"] * 3, "user"]
        assert directory.name in (await command("-l", "--session-dir", "kept")).stdout


def test_the_shell_mode_and_the_lines_of_a_preview_are_chosen(paddock: Paddock) -> None:
    turns = [
        {"tool_calls": [{"name": "bash", "arguments": {"command": "touch made; seq 40"}}]},
        {"text": "Done."},
    ]
    (paddock.cwd / "script.json").write_text(json.dumps(turns))
    args = ("run", "Count", "--model", "scripted:script.json", "-y", "--no-save")
    refused = paddock(*args)
    assert "│ 40" not in refused.stdout
    shown = paddock(*args, "--shell-mode", "unrestricted", "--preview-lines", "3")
    lines = [line for line in shown.stdout.splitlines() if "│" in line]
    assert [line.split("│ ")[1] for line in lines] == ["1", "... 37 lines ...", "39", "40"]
    none = paddock(*args, "--shell-mode", "unrestricted", "--preview-lines", "0")
    assert "│" not in none.stdout
