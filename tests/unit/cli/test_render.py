"""What a person sees of a run."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from paddock.cli.render import Narrator, describe_call, describe_usage, render, render_result
from paddock.cli.timeline import Timeline
from paddock.runtime.conversation.results import AgentEvent

EVIL = "\x1b]0;owned\x07\x1b[2J\u202e"


def shown(*events: AgentEvent) -> str:
    out = io.StringIO()
    narrator = Narrator(Console(file=out, width=200, highlight=False))
    for event in events:
        narrator(event)
    narrator.finish_line()
    return out.getvalue()


def test_text_comes_in_pieces_on_one_line() -> None:
    pieces = ("The ", "tests ", "fail.")
    assert shown(*(AgentEvent("text", content=piece) for piece in pieces)) == "The tests fail.\n"


MARKDOWN = """\
# A title

Use `List<String>` and <b>this</b> [link](http://evil.example/x): **bold**.

1. one

   more
2. two

~~~python
x = 1

y = 2
~~~

| a | b |
|---|---|
| 1 | 2 |

The end."""


def on_terminal(text: str, size: int) -> str:
    """What is shown of an answer that comes in pieces of a `size`, without colours."""
    out = io.StringIO()
    narrator = Narrator(Console(file=out, width=60, force_terminal=True, color_system=None))
    for at in range(0, len(text), size):
        narrator(AgentEvent("text", content=text[at : at + size]))
    narrator.finish_line()
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_answer_on_a_terminal_is_rendered_however_it_comes(size: int) -> None:
    lines = [line.strip() for line in on_terminal(MARKDOWN, size).splitlines() if line.strip()]
    assert lines == [
        "A title",
        "Use List<String> and <b>this</b> link",
        "(http://evil.example/x): bold.",
        *("1 one", "more", "2 two", "x = 1", "y = 2", "a  b", "─" * 4, "1  2", "The end."),
    ]


def test_an_answer_in_a_pipe_is_as_it_was_written() -> None:
    assert shown(AgentEvent("text", content=MARKDOWN)) == f"{MARKDOWN}\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_controls_a_terminal_is_written_out_in_an_answer(terminal: bool) -> None:
    told = on_terminal(EVIL, 3) if terminal else shown(AgentEvent("text", content=EVIL))
    assert "\x1b" not in told
    assert r"\x1b]0;owned\x07\x1b[2J\u202e" in told


def test_entities_of_an_answer_are_written_out_too() -> None:
    told = on_terminal("&#x202e;evil [a](http://b/&#x202e;) &#8203;\n", 7)
    assert "\\u202eevil" in told
    assert "\\u200b" in told
    assert not set("\u202e\u200b") & set(told)


@pytest.mark.parametrize("mark", ["> ", "- "])
def test_what_is_nested_too_deeply_is_still_shown(mark: str) -> None:
    assert "deep inside" in " ".join(on_terminal(mark * 300 + "deep inside\n", 1000).split())


def test_a_tool_call_starts_on_a_line_of_its_own() -> None:
    call = AgentEvent("tool_start", tool_name="bash", tool_args={"command": "ls -l"})
    assert shown(AgentEvent("text", content="Look:"), call) == "Look:\n→ bash ls -l\n"


def test_a_result_shows_its_outcome_and_output() -> None:
    content = json.dumps({"output": "one\ntwo\n", "metadata": {"exit_code": 1}})
    text = render_result("bash", content, {"exit_code": 1}).plain
    assert text == "✗ bash exit 1\n  │ one\n  │ two"


def test_a_long_result_shows_its_beginning_and_its_end() -> None:
    text = render_result("read", "\n".join(map(str, range(100))), {}).plain
    assert text.splitlines()[:2] == ["✓ read", "  │ 0"]
    assert "  │ ... 88 lines ..." in text
    assert text.endswith("│ 99")


def test_a_result_that_is_json_by_accident_is_shown_as_it_is() -> None:
    assert render_result("read", "[1, 2]", {}).plain == "✓ read\n  │ [1, 2]"


@pytest.mark.parametrize(
    "event",
    [
        AgentEvent("text", content=EVIL),
        AgentEvent("tool_start", tool_name=EVIL, tool_args={"command": EVIL}),
        AgentEvent("tool_start", tool_name="x", tool_args={EVIL: [EVIL]}),
        AgentEvent("tool_end", tool_name=EVIL, tool_result=EVIL),
        AgentEvent("tool_end", tool_name="bash", tool_result=json.dumps({"output": EVIL})),
        AgentEvent("tool_blocked", tool_name=EVIL, tool_args={"path": EVIL}),
        AgentEvent("error", content=EVIL),
        AgentEvent("cancelled", content=EVIL),
        AgentEvent("interruption", tool_name=EVIL, tool_args={"command": EVIL}),
        AgentEvent("compact_end", content=EVIL),
    ],
    ids=lambda event: event.type,
)
def test_no_control_character_of_an_event_reaches_the_terminal(event: AgentEvent) -> None:
    text = shown(event)
    assert text
    assert not set(text) & set("\x1b\x07\u202e")


def test_markup_in_output_is_not_obeyed() -> None:
    assert "[red]x[/red] :smile:" in shown(AgentEvent("error", content="[red]x[/red] :smile:"))


def test_events_without_anything_to_tell_are_left_out() -> None:
    assert render(AgentEvent("api_call_complete", usage={"input_tokens": 1})) is None
    assert render(AgentEvent("turn_complete", content="again")) is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"command": "ls\nrm x"}, "bash ls rm x"),
        ({"pattern": "a b", "path": "src"}, "bash a b src"),
        ({"old": 1}, 'bash {"old": 1}'),
        ({}, "bash"),
    ],
)
def test_a_call_is_told_on_one_line(arguments: dict[str, object], line: str) -> None:
    assert describe_call("bash", arguments) == line


def test_a_call_with_huge_arguments_is_cut() -> None:
    assert len(describe_call("bash", {"command": "x" * 1_000_000})) == 100


def test_usage_tells_tokens_and_dollars() -> None:
    usage = {"input_tokens": 12345, "output_tokens": 67, "cached_tokens": 8, "cost_usd": 0.01234}
    assert describe_usage(usage) == "12,345 tokens in (8 from the cache), 67 out, $0.0123"
    writing = {**usage, "cache_write_tokens": 1024}
    assert describe_usage(writing) == (
        "12,345 tokens in (8 from the cache, 1,024 into the cache), 67 out, $0.0123"
    )
    assert describe_usage({}) == "0 tokens in, 0 out, $0.0000"


@pytest.mark.parametrize(
    "record",
    [
        {"type": "run_start", "prompt": EVIL},
        {"type": "message", "role": "assistant", "content": EVIL},
        {"type": "tool_start", "tool_name": EVIL, "tool_args": {"command": EVIL}},
        {"type": "tool_end", "tool_name": EVIL, "success": False, "result": EVIL},
        {"type": "tool_blocked", "tool_name": EVIL, "tool_args": {EVIL: EVIL}},
        {"type": "error", "message": EVIL},
        {"type": "run_end", "status": EVIL, "ts": EVIL},
    ],
    ids=lambda record: record["type"],
)
def test_no_control_character_of_a_record_reaches_the_terminal(record: dict[str, object]) -> None:
    text = Timeline().render_record(record)
    assert text is not None
    assert not set(text.plain) & set("\x1b\x07\u202e")


@pytest.mark.parametrize(
    "record",
    [
        {"type": "llm_start", "model": "m", "context_size": 1},
        {"type": "message", "role": "assistant", "content": None},
        {"type": "message", "role": "tool", "content": "shown by tool_end"},
        {"type": "of another program"},
    ],
)
def test_records_that_tell_a_person_nothing_are_left_out(record: dict[str, object]) -> None:
    assert Timeline().render_record(record) is None


def test_the_timeline_tells_how_long_calls_took_and_what_they_cost() -> None:
    timeline = Timeline()
    at = "2026-01-01T00:00:{:06.3f}+00:00"
    usage = {"input_tokens": 1000, "cache_write_tokens": 3, "output_tokens": 20, "cost_usd": 0.5}
    records: list[dict[str, object]] = [
        {"type": "run_start", "prompt": "Look.", "ts": at.format(0)},
        {"type": "llm_start", "model": "m", "context_size": 1, "ts": at.format(1)},
        {"type": "llm_end", "model": "m", "ts": at.format(3.5), **usage},
        {"type": "tool_end", "tool_name": "bash", "success": True, "duration_ms": 12.4},
        {"type": "llm_end", "model": "m", "ts": "lost", **usage},
    ]
    records.append({"type": "child_llm_end", "model": "m", "input_tokens": 5, "cost_usd": 0.25})
    shown = [text.plain for text in map(timeline.render_record, records) if text is not None]
    assert len(shown) == 4, "a child's calls are in the total only"
    assert shown[1].endswith(
        "· m answered in 2.5 s: 1,000 tokens in (3 into the cache), 20 out, $0.5000"
    )
    assert shown[2].endswith("✓ bash in 12 ms")
    assert shown[3].endswith("· m answered: 1,000 tokens in (3 into the cache), 20 out, $0.5000")
    assert timeline.total.plain == (
        "total: 1 run, 3 model calls, 1 tool call: 2,005 tokens in (6 into the cache), 40 out, "
        "$1.2500"
    )
