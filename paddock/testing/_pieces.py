"""Files as the streams of pieces that transfers are made of, for backends that hold them whole."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["joined", "pieces"]

PIECE = 256 * 1024


async def pieces(data: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


async def joined(stream: AsyncGenerator[bytes]) -> bytes:
    async with contextlib.aclosing(stream):
        return b"".join([piece async for piece in stream])
