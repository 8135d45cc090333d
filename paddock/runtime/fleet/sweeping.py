"""What the sandboxes of a batch leave behind, found by their labels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from paddock._logs import get_logger
from paddock.errors import PaddockError, Unsupported
from paddock.runtime.fleet.attempts import RUN_LABEL, attempt_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from paddock.backends.base import Backend

__all__ = ["engine_answers", "remove_labelled"]

PROBE = 5.0
"""Seconds in which an engine that works answers: it takes some milliseconds, under load a few
hundred."""

SWEEP = 120.0
"""Seconds for removing everything of a batch: an engine removes some ten containers a second."""

_log = get_logger(__name__)


async def remove_labelled(
    backend: Backend,
    run_id: str,
    spare: Collection[str] = (),
    attempts: Collection[tuple[str, int]] | None = None,
) -> list[str]:
    """Remove the sandboxes of the batch `run_id` but those in `spare`, whoever made them; return
    their ids. With `attempts`, keys and numbers, remove those of these attempts alone.

    Raises what the backend raises, and `TimeoutError` after `SWEEP` seconds.
    """
    try:
        async with asyncio.timeout(SWEEP):
            there = await backend.list(labels={RUN_LABEL: run_id})
            if attempts is not None:
                there = [info for info in there if attempt_of(info.labels) in attempts]
            found = [info.id for info in there if info.id not in spare]
            removed = await asyncio.gather(*(backend.delete(each) for each in found))
    except Unsupported:  # such sandboxes end with their owner
        return []
    return [each for each, gone in zip(found, removed, strict=True) if gone]


async def engine_answers(backend: Backend) -> bool:
    """Return whether what makes the sandboxes can be reached now."""
    try:
        async with asyncio.timeout(PROBE):
            await backend.list(labels={RUN_LABEL: ""})
    except Unsupported:
        return True
    except (PaddockError, OSError) as error:  # a TimeoutError is one
        _log.debug("the engine of %s does not answer: %s", backend.name, error)
        return False
    return True
