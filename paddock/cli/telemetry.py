"""Telemetry of the sessions of this command line, if it is configured."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.session.session import Session

__all__ = ["check_telemetry", "observed"]


async def check_telemetry() -> None:
    """Raise what `observed` would for want of what the environment or the user's file names."""
    from paddock.runtime.telemetry import ObservabilityConfig

    await asyncio.to_thread(ObservabilityConfig.load)


@contextlib.asynccontextmanager
async def observed(session: Session) -> AsyncIterator[None]:
    """Keep telemetry of `session` until the block ends, by the environment or the user's file.

    Raises `ObservabilityInitializationError` before the block.
    """
    from paddock.runtime.telemetry import attach

    telemetry = await asyncio.to_thread(attach, session)
    if telemetry is None:
        yield
        return
    try:
        await telemetry.start()
        yield
    finally:
        status = session.state.status
        await telemetry.close({"created": "cancelled", "running": "error"}.get(status, status))
