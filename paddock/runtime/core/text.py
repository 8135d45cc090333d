"""Text that every reader takes."""

from __future__ import annotations

__all__ = ["clean_text", "head_and_tail"]


def clean_text(text: str) -> str:
    """`text` as valid Unicode: a lone surrogate, which UTF-8 cannot hold, becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def head_and_tail(text: str, most: int) -> str:
    """Return `text`, or `most` characters of its beginning and its end, with a note between."""
    if len(text) <= most:
        return text
    half = most // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[... {left_out} characters left out ...]\n{text[len(text) - half :]}"
