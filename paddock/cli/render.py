"""What a person sees of a run: a projection of its events, and of nothing else.

All text from a model or a sandbox goes through `plain` on its way.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.text import Text

from paddock.cli.answers import Answer, Blocks
from paddock.cli.text import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from paddock.runtime.conversation.results import AgentEvent

__all__ = [
    "PREVIEW_LINES",
    "Narrator",
    "describe_call",
    "describe_usage",
    "render",
    "render_result",
]

WIDTH = 100
"""Characters of a tool call's arguments that are shown."""

PREVIEW_LINES = 12
"""Lines of a tool's result that are shown, unless asked otherwise; a third of them of its
beginning: the end says more."""

_SALIENT = ("command", "pattern", "path", "instruction")
"""The arguments that say what a call does, in the order they are looked for."""


class Narrator:
    """Shows events on a console, text as it comes and everything else on lines of its own.

    A terminal shows text as Markdown, by blocks; a pipe gets it as it is. Of a tool's result
    `preview_lines` lines are shown.
    """

    def __init__(self, console: Console, preview_lines: int = PREVIEW_LINES) -> None:
        self._console = console
        self._preview_lines = preview_lines
        self._open_line = False
        self._renders = console.is_terminal and not console.is_dumb_terminal
        self._blocks = Blocks()
        self._calls: dict[str, str] = {}

    def __call__(self, event: AgentEvent) -> None:
        if event.type == "text":
            self._tell(plain(event.content or ""))
        elif (shown := self._shown(event)) is not None:
            self.finish_line()
            self._console.print(shown, soft_wrap=True)

    def finish_line(self) -> None:
        """End a line of text that has no end yet, and show what was kept for its block."""
        self._show_blocks(self._blocks.finish())
        if self._open_line:
            self._write("\n")

    def _shown(self, event: AgentEvent) -> Text | None:
        """The event as `render` shows it; a result among others says of which call it is."""
        name, call_id = event.tool_name or "", event.tool_call_id or ""
        if event.type == "tool_start":
            self._calls[call_id] = describe_call(name, event.tool_args or {})
        if event.type == "tool_end":
            among_others = len(self._calls) > 1
            call = self._calls.pop(call_id, name)
            shown = call if among_others else name
            return render_result(
                shown, event.tool_result or "", event.tool_metadata or {}, self._preview_lines
            )
        return render(event)

    def _tell(self, text: str) -> None:
        if self._renders:
            self._show_blocks(self._blocks.feed(text))
        else:
            self._write(text)

    def _show_blocks(self, blocks: list[str]) -> None:
        for block in filter(str.strip, blocks):
            self._console.print(Answer(block))

    def _write(self, text: str) -> None:
        if text:
            self._console.print(Text(text), end="", soft_wrap=True)
            self._open_line = not text.endswith("\n")


def render(event: AgentEvent) -> Text | None:
    """One event on lines of its own; None for those that have nothing to tell a person."""
    match event.type:
        case "tool_start":
            call = describe_call(event.tool_name or "", event.tool_args or {})
            return Text.assemble(("→ ", "bold cyan"), (call, "bold"))
        case "tool_blocked":
            call = describe_call(event.tool_name or "", event.tool_args or {})
            return Text.assemble(("✗ not allowed: ", "bold yellow"), call)
        case "error":
            return Text(f"✗ {plain(event.content or 'failed')}", style="bold red")
        case "interruption":
            call = describe_call(event.tool_name or "", event.tool_args or {})
            return Text.assemble(("? waits for an approval: ", "yellow"), call)
        case "cancelled" | "compact_end" | "retry":
            return Text(plain(event.content or event.type), style="yellow")
        case _:
            return None


def describe_call(name: str, arguments: Mapping[str, Any]) -> str:
    """A tool call on one line."""
    told = [str(arguments[key]) for key in _SALIENT if key in arguments]
    if not told and arguments:
        told = [json.dumps(arguments, ensure_ascii=False, default=str)]
    return one_line(" ".join([name, *told]), WIDTH)


def render_result(
    name: str, result: str, metadata: Mapping[str, Any], preview_lines: int = PREVIEW_LINES
) -> Text:
    """How a tool call went: its outcome, then the beginning and the end of what it gave."""
    code = metadata.get("exit_code")
    failed = metadata.get("success") is False or code not in (0, None)
    outcome = "" if code is None else f" exit {code}"
    lines = _shortened(_output_of(result), preview_lines)
    shown = Text.assemble(
        ("✗ " if failed else "✓ ", "red" if failed else "green"), (plain(name) + outcome, "dim")
    )
    for line in lines:
        shown.append(f"\n  │ {line}", style="dim")
    return shown


def _output_of(result: str) -> str:
    """The text in a result; bash answers in JSON, with the output as one of its members."""
    try:
        parsed = json.loads(result)
    except ValueError:
        return result
    output = parsed.get("output") if isinstance(parsed, dict) else None
    return output if isinstance(output, str) else result


def _shortened(text: str, limit: int) -> list[str]:
    lines = [one_line_keeping_indent(line) for line in plain(text).strip("\n").splitlines()]
    if limit == 0 or len(lines) <= limit + 1:
        return lines if limit else []
    head = limit // 3
    tail = limit - head
    return [*lines[:head], f"... {len(lines) - limit} lines ...", *lines[-tail:]]


def one_line_keeping_indent(line: str) -> str:
    line = line.expandtabs(4)
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def describe_usage(usage: Mapping[str, Any]) -> str:
    """What a run cost, in tokens and dollars."""
    places = (("cached_tokens", "from"), ("cache_write_tokens", "into"))
    told = [f"{usage[name]:,} {way} the cache" for name, way in places if usage.get(name)]
    return (
        f"{usage.get('input_tokens', 0):,} tokens in"
        + (f" ({', '.join(told)})" if told else "")
        + f", {usage.get('output_tokens', 0):,} out, ${usage.get('cost_usd', 0.0):.4f}"
    )
