"""Takes down what a run of tests has left, and says what it was."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from paddock.backends.base import backend_names, get_backend
from paddock.errors import PaddockError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paddock.backends.base import Backend, SandboxInfo

__all__ = ["take_down"]

DEADLINE = 60.0
"""Seconds for one backend: an engine that takes down many containers needs some of them."""


def take_down(backends: Iterable[str], run_id: str, kept: set[str]) -> list[str]:
    """Take down the run's sandboxes but for those `kept`; return a line about each."""
    with ThreadPoolExecutor(1) as thread:  # the caller's thread may have an event loop
        return thread.submit(asyncio.run, _all(backends, run_id, kept)).result()


async def _all(backends: Iterable[str], run_id: str, kept: set[str]) -> list[str]:
    lines = []
    for name in sorted({*backends} & {*backend_names()}):  # others are a project's own recipes
        try:
            async with asyncio.timeout(DEADLINE):
                lines += await _one(get_backend(name)(), run_id, kept)
        except (PaddockError, OSError, TimeoutError) as error:
            lines.append(f"{name}: cannot tell what is left: {type(error).__name__}: {error}")
    return lines


async def _one(recipe: Backend, run_id: str, kept: set[str]) -> list[str]:
    try:
        found = await recipe.list({"paddock-test-run": run_id})
    except Unsupported:  # then nothing outlives its maker, as far as the backend knows
        return []
    lines = []
    for info in found:
        if info.id in kept:
            continue
        try:
            removed = await recipe.delete(info.id)
        except Unsupported as error:
            lines.append(f"{recipe.name}: {_named(info)} is left: {error}")
        else:
            if removed:
                lines.append(f"{recipe.name}: removed {_named(info)}")
    return lines


def _named(info: SandboxInfo) -> str:
    return f"sandbox {info.id} of {info.labels.get('paddock-test', 'an unknown test')}"
