"""How much of a tool's output the model gets to read. Knows no tool."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from paddock.redaction import NOTHING_SECRET
from paddock.runtime.tools.base import ToolContext

if TYPE_CHECKING:
    from paddock.redaction import Redactor
    from paddock.runtime.secret_scope import SecretScope
    from paddock.runtime.tools.base import ToolInvocation

__all__ = [
    "BYTES_PER_TOKEN",
    "MAX_OUTPUT_TOKENS",
    "cut_line",
    "readable",
    "redactor_of",
    "truncate_output",
]

MAX_OUTPUT_TOKENS = 5000
BYTES_PER_TOKEN = 4
"""A rough rate that holds for English text and source code."""


_SURROGATE = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    """`text` as valid Unicode: lone surrogates become U+FFFD."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


@runtime_checkable
class _Discreet(ToolContext, Protocol):
    """A context that knows the secrets of its run, as a session's does."""

    @property
    def secrecy(self) -> SecretScope: ...


def redactor_of(invocation: ToolInvocation) -> Redactor:
    """What hides the secrets of the run that the call is of; no sandbox is made for that."""
    context = invocation.context
    return context.secrecy.redactor if isinstance(context, _Discreet) else NOTHING_SECRET


def cut_line(text: str, width: int, redactor: Redactor) -> str:
    """`text`, or its first `width` characters and ``...``, with no part of a secret there."""
    return text if len(text) <= width else redactor.beginning(text[:width]) + "..."


def truncate_output(text: str, *, max_tokens: int = MAX_OUTPUT_TOKENS) -> str:
    """`text` unchanged if it is within `max_tokens`, else its beginning and its end.

    Half of the room goes to each; a note between them tells how much is missing,
    and a first line tells how many lines there were. The result is valid Unicode.
    """
    text = readable(text)
    data = text.encode()
    room = max_tokens * BYTES_PER_TOKEN
    if len(data) <= room:
        return text
    head = data[: room // 2].decode("utf-8", "ignore")
    tail = data[len(data) - (room - room // 2) :].decode("utf-8", "ignore")
    missing = -(-(len(data) - room) // BYTES_PER_TOKEN)
    total = text.count("\n") + (not text.endswith("\n"))
    return f"Total output lines: {total}\n\n{head}\n...{missing} tokens truncated...\n{tail}"
