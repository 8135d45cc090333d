"""Text that every reader takes."""

from __future__ import annotations

__all__ = ["clean_text"]


def clean_text(text: str) -> str:
    """`text` as valid Unicode: a lone surrogate, which UTF-8 cannot hold, becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
