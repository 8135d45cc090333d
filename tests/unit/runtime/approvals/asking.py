"""A tool that asks, and waiting for what was asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from paddock.runtime.approvals.directory_store import DirectoryApprovalStore
from tests.unit.runtime.conftest import FunctionTool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.runtime.core.approval import Approval
    from paddock.runtime.session.session import Session


DEADLINE = 60.0


class Typed(FunctionTool):
    """A tool that says which arguments it takes."""

    parameters = {  # type: ignore[misc]  # noqa: RUF012 - the other one takes any
        "type": "object",
        "properties": {"where": {"type": "string"}},
    }


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not done():  # noqa: ASYNC110 - a thread, or another store, tells nobody
            await asyncio.sleep(0.01)


async def waiting_in(session: Session, count: int) -> Sequence[Approval]:
    """The requests that wait, once there are so many, as another process sees them."""
    assert session.directory is not None
    store = DirectoryApprovalStore(session.directory.path)
    async with asyncio.timeout(DEADLINE):
        while len(waiting := await store.list(status="pending")) < count:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    return waiting
