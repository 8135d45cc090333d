"""Where the attempts of a batch run: on engines that this process drives, or elsewhere.

The ledger, the limits and the results stay with the process that runs the batch, whatever the
placement.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from paddock.runtime.fleet.memory import MachineMemory, memory_of
from paddock.runtime.fleet.sweeping import engine_answers, remove_labelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from contextlib import AbstractAsyncContextManager

    from paddock.backends.base import Backend
    from paddock.runtime.fleet.attempts import AttemptRun, Plan
    from paddock.runtime.fleet.model_limit import ModelLimit

__all__ = ["Engines", "Node", "Placement", "Roster"]


class Node(Protocol):
    """One engine or machine on which attempts run, `slots` of them at once if that is known."""

    name: str
    slots: int | None

    async def run(self, run: AttemptRun) -> Any:
        """Do the attempt and return what its work returned; raise `TaskFailed`.

        The files of the attempt are in its folder then, and its sandboxes are gone, also when
        this is cancelled. If the node is lost, raise `TaskFailed` with ``infra.lost``.
        """
        ...

    async def sweep(
        self,
        run_id: str,
        spare: Collection[str],
        attempts: Collection[tuple[str, int]] | None = None,
    ) -> Sequence[str]:
        """Remove the sandboxes of the batch `run_id` but those in `spare`, whoever made them;
        return their ids. With `attempts`, keys and numbers, only those of these attempts."""
        ...

    async def answers(self) -> bool:
        """Return whether the node can be reached now."""
        ...

    async def memory(self) -> MachineMemory | None:
        """Return how much memory the node has, None if that cannot be found out."""
        ...


class Roster(Protocol):
    """The nodes that there are now."""

    def add(self, node: Node) -> None: ...

    def remove(self, node: Node) -> None: ...


class Placement(Protocol):
    """Where the attempts of a batch run: it tells a batch of nodes that come and go."""

    def open(
        self, plan: Plan, models: ModelLimit, roster: Roster
    ) -> AbstractAsyncContextManager[None]:
        """Add the nodes that there are to `roster`, and those that appear within the block.

        One that is lost is removed from it. `models` limits the calls that attempts make.
        """
        ...


@dataclass(frozen=True, slots=True)
class Engines:
    """Attempts run in this process; each of `backends` makes sandboxes on an engine of its own."""

    backends: tuple[Backend, ...]

    @contextlib.asynccontextmanager
    async def open(self, plan: Plan, models: ModelLimit, roster: Roster) -> AsyncIterator[None]:
        for number, backend in enumerate(self.backends, 1):
            host = getattr(backend, "host", None)
            roster.add(EngineNode(host or f"{backend.name} {number}", backend))
        yield


class EngineNode:
    """The engine of one recipe."""

    slots: int | None = None

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self._backend = backend

    async def run(self, run: AttemptRun) -> Any:
        run.plan = replace(run.plan, backend=self._backend)
        return await run.run()

    async def sweep(
        self,
        run_id: str,
        spare: Collection[str],
        attempts: Collection[tuple[str, int]] | None = None,
    ) -> Sequence[str]:
        return await remove_labelled(self._backend, run_id, spare, attempts)

    async def answers(self) -> bool:
        return await engine_answers(self._backend)

    async def memory(self) -> MachineMemory | None:
        return await memory_of(self._backend)
