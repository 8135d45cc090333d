"""How much of a tool's output the model gets to read. Knows no tool."""

from __future__ import annotations

from paddock.runtime.core.text import clean_text

__all__ = ["BYTES_PER_TOKEN", "MAX_OUTPUT_TOKENS", "truncate_output"]

MAX_OUTPUT_TOKENS = 5000
BYTES_PER_TOKEN = 4
"""A rough rate that holds for English text and source code."""


def truncate_output(text: str, *, max_tokens: int = MAX_OUTPUT_TOKENS) -> str:
    """`text` unchanged if it is within `max_tokens`, else its beginning and its end.

    Half of the room goes to each; a note between them tells how much is missing,
    and a first line tells how many lines there were. The result is valid Unicode.
    """
    text = clean_text(text)
    data = text.encode()
    room = max_tokens * BYTES_PER_TOKEN
    if len(data) <= room:
        return text
    head = data[: room // 2].decode("utf-8", "ignore")
    tail = data[len(data) - (room - room // 2) :].decode("utf-8", "ignore")
    missing = -(-(len(data) - room) // BYTES_PER_TOKEN)
    total = text.count("\n") + (not text.endswith("\n"))
    return f"Total output lines: {total}\n\n{head}\n...{missing} tokens truncated...\n{tail}"
