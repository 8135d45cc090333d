"""What a function gives to the model, and how long it may take."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ToolError
from paddock.runtime.core.content import ImagePart
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.tools.function import tool
from tests.unit.tools.calling import Address, Colour, Parcel, call

if TYPE_CHECKING:
    from paddock.runtime.core.context import RunContext

PATIENCE = 60
"""Seconds that something which has to happen may take on a busy machine."""

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", "text"),
        (None, "null"),
        (1.5, "1.5"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Address(street="x"), '{"street":"x","number":1}'),
        (Parcel(Address(street="x"), 2), '{"to":{"street":"x","number":1},"weight":2,"sent":null}'),
        ([dt.date(2026, 1, 2), Colour.RED, Path("/a")], '["2026-01-02","red","/a"]'),
        (ToolOutput("as is", success=False), "as is"),
    ],
)
async def test_what_a_function_returns_is_text_or_json(value: Any, content: str) -> None:
    def give() -> Any:
        return value

    output = await call(give)
    assert output.content == content
    assert output.success is (content != "as is")


async def test_images_are_kept_beside_the_text() -> None:
    def draw() -> list[str | ImagePart]:
        return ["Before", ImagePart(PNG), "after"]

    output = await call(draw)
    assert output.content == "Before\n[image/png, 28 bytes]\nafter"
    assert output.images == (ImagePart(PNG, "image/png"),)
    with pytest.raises(ValueError, match="has to be PNG, JPEG, GIF or WebP"):
        ImagePart(b"<svg>")
    with pytest.raises(ValueError, match="and here image/"):
        ImagePart(PNG, "image/jpeg")


@pytest.mark.parametrize("value", [object(), (x for x in "ab"), b"\xff\xfe"])
async def test_what_has_no_json_is_a_failure_that_says_so(value: Any) -> None:
    def give() -> Any:
        return value

    output = await call(give)
    assert not output.success
    assert "TypeError: a tool cannot return" in output.content


async def test_a_tool_error_is_all_that_the_model_reads_and_a_bug_says_what_it_was() -> None:
    def find(name: str) -> str:
        if name == "bug":
            raise KeyError("gone")
        raise ToolError(f"No {name}; ask for 'a' or 'b'.")

    wrong = await call(find, name="x")
    assert (wrong.content, wrong.success) == ("No x; ask for 'a' or 'b'.", False)
    assert (wrong.metadata, type(wrong.error)) == ({"error": "ToolError"}, ToolError)
    bug = await call(find, name="bug")
    assert bug.content == "Tool 'find' failed: KeyError: 'gone'\nArguments: {\"name\": \"bug\"}"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_function_that_exits_ends_only_its_call(asynchronous: bool) -> None:
    def leave() -> None:
        sys.exit("usage")

    async def leave_async() -> None:
        sys.exit("usage")

    output = await call(leave_async if asynchronous else leave)
    assert not output.success
    assert "usage" in output.content


async def test_a_synchronous_function_runs_in_a_thread_with_the_context_variables() -> None:
    def look() -> str:
        return f"{threading.current_thread() is threading.main_thread()} {VARIABLE.get()}"

    VARIABLE.set("mine")
    assert (await call(look)).content == "False mine"


async def test_a_function_that_takes_too_long_is_left_behind_and_the_model_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release, ended = threading.Event(), threading.Event()

    @tool(timeout=0.2)  # by then it has begun
    def wait(ctx: RunContext[None]) -> None:
        release.wait(PATIENCE)
        assert ctx.cancellation.is_cancelled()
        ended.set()

    output = await call(wait)
    assert output.content == ("Tool 'wait' took over 0.2 s. It still runs, and may have an effect.")
    assert "wait was cancelled, but cannot be stopped" in caplog.text
    release.set()
    assert await asyncio.to_thread(ended.wait, PATIENCE)

    @tool(timeout=0.01)
    async def hang() -> None:
        await asyncio.Event().wait()

    assert (await call(hang)).content == "Tool 'hang' took over 0.01 s."


async def test_a_timeout_of_the_function_itself_is_a_failure_like_others() -> None:
    @tool(timeout=PATIENCE)
    async def ask() -> None:
        raise TimeoutError("the server")

    assert "TimeoutError: the server" in (await call(ask)).content


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_has_to_be_positive(timeout: float) -> None:
    with pytest.raises(ConfigError, match="a tool's timeout is in seconds and above 0"):
        tool(timeout=timeout)(len)
