"""Keeping secrets out of what tools cut. Knows no tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.redaction import Redactor

__all__ = ["cut_line"]


def cut_line(text: str, width: int, redactor: Redactor) -> str:
    """`text`, or its first `width` characters and ``...``, with no part of a secret there."""
    return text if len(text) <= width else redactor.beginning(text[:width]) + "..."
