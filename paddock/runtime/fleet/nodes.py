"""The nodes of a batch, and which of them may begin an attempt now."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._logs import get_logger
from paddock.errors import PaddockError
from paddock.runtime.fleet.admission import Admission
from paddock.runtime.fleet.limits import MemoryLimit, StartLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from paddock.runtime.fleet.placement import Node

__all__ = ["NodeState", "Nodes", "sweep", "watch_memory", "watch_strays"]

LOOK = 1.0
"""Seconds between two looks at the memory of the nodes: a sandbox takes about as long to be made
and to begin to use some."""

LATE = 60.0
"""Seconds in which an engine may still make a sandbox whose creation failed: it works off what was
asked of it, though nobody waits for the answer."""

_log = get_logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class NodeState:
    """What the batch knows about a node. `is_lost`: it is gone, with all that ran there."""

    node: Node
    admission: Admission
    memory: MemoryLimit
    starts: StartLimit = field(default_factory=StartLimit)
    running: set[str] = field(default_factory=set)
    strays: dict[tuple[str, int], float] = field(default_factory=dict)
    """Attempts, by key and number, of which a sandbox may be left or still be made, and until
    when to look for it."""
    images: set[str] = field(default_factory=set)
    """Those that it has made sandboxes of."""
    is_known: bool = False
    """Whether somebody has looked at its memory; before that nothing begins on it."""
    is_lost: bool = False

    def begin(self, key: str) -> None:
        self.admission.admit()
        self.running.add(key)
        self.starts.begin(key)

    def leave(self, key: str, number: int) -> None:
        """Note that an attempt may have left a sandbox."""
        self.strays[key, number] = time.monotonic() + LATE

    def end(self, key: str) -> None:
        self.running.discard(key)
        self.starts.ended(key)

    async def look(self) -> None:
        """Look at the node's memory."""
        try:
            found = await self.node.memory()
        except (PaddockError, OSError) as error:
            _log.debug("the memory of %s is not known: %s", self.node.name, error)
            found = None
        if found is not None:
            self.memory.observe(found, len(self.running))
        self.is_known = True

    def reason(self) -> str | None:
        """Return which limit holds back the next attempt here; None if none does."""
        slots, running = self.node.slots, len(self.running)
        if slots is not None and running >= slots:
            return f"{running} sandboxes run in {slots} slots"
        return self.starts.reason() or self.memory.reason(running, self.starts.starting)

    def load(self) -> float:
        """Return how busy it is, to compare it with other nodes."""
        return len(self.running) / (self.node.slots or 1)


class Nodes:
    """A `Roster`. `changed` is called when a node comes or goes."""

    def __init__(
        self,
        changed: Callable[[], None],
        *,
        patience: float,
        memory: int | None,
        each: int | None,
    ) -> None:
        self._changed = changed
        self._patience = patience
        self._memory = memory
        self._each = each
        self._states: dict[Node, NodeState] = {}
        self.came = asyncio.Event()
        """Set when a node was added."""
        self._empty_since = time.monotonic()

    @property
    def states(self) -> list[NodeState]:
        return list(self._states.values())

    def add(self, node: Node) -> None:
        self._states[node] = NodeState(
            node=node,
            admission=Admission(patience=self._patience),
            memory=MemoryLimit(total=self._memory, each=self._each),
        )
        self.came.set()

    def remove(self, node: Node) -> None:
        state = self._states.pop(node, None)
        if state is None:
            return
        state.is_lost = True
        if not self._states:
            self._empty_since = time.monotonic()
        self._changed()

    async def look(self) -> None:
        """Look at the memory of all nodes."""
        self.came.clear()
        await asyncio.gather(*(state.look() for state in self.states))
        self._changed()

    def choose(self, image: str | None, now: float) -> NodeState | None:
        """Return the node for a task that needs `image`; None if none may begin one.

        One that has the image comes first, then the one with the least to do.
        """
        free = [
            state
            for state in self._states.values()
            if state.is_known and state.admission.wait(now) == 0 and state.reason() is None
        ]
        if not free:
            return None
        return min(free, key=lambda state: (image not in state.images, state.load()))

    def delay(self, now: float) -> float | None:
        """Return the seconds until time alone may let a node begin; None for never."""
        waits = [state.admission.wait(now) for state in self._states.values()]
        known = [each for each in waits if each]
        if not self._states:
            return max(0.001, self._empty_since + self._patience - now)
        return min(known, default=None)

    def reason(self) -> str | None:
        """Return which limit holds back the next task, on all nodes that are not paused."""
        reasons = {
            state.node.name: state.reason()
            for state in self._states.values()
            if state.is_known and not state.admission.paused
        }
        if not reasons or None in reasons.values():
            return None
        if len(self._states) == 1:
            return next(iter(reasons.values()))
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())

    def paused(self) -> str | None:
        """Return why no node begins anything, if it is so."""
        if not self._states:
            return "there is no node"
        causes = [state.admission.cause for state in self._states.values()]
        return None if None in causes else causes[0]

    def hopeless(self, now: float) -> str | None:
        """Return why waiting is useless; None if it is not."""
        if not self._states:
            waited = now - self._empty_since
            return f"no node for {waited:.0f} s" if waited >= self._patience else None
        if not all(state.admission.hopeless(now) for state in self._states.values()):
            return None
        since = max(state.admission.since for state in self._states.values())
        return f"for {now - since:.0f} s"


async def watch_memory(nodes: Nodes) -> None:
    """Look at the memory of all nodes now and then, and at once when one was added."""
    while True:
        await nodes.look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await nodes.came.wait()


async def watch_strays(nodes: Nodes, run_id: str) -> None:
    """Remove what attempts have left on nodes that work, now and then."""
    while True:
        await asyncio.sleep(LOOK)
        await asyncio.gather(
            *(_remove_strays(state, run_id) for state in nodes.states if state.strays)
        )


async def _remove_strays(state: NodeState, run_id: str) -> None:
    now = time.monotonic()
    if state.admission.paused:
        return
    try:
        removed = await state.node.sweep(run_id, (), [*state.strays])
    except (PaddockError, OSError) as error:
        _log.debug("sandboxes may be left on %s: %s", state.node.name, error)
        return
    state.strays = {each: until for each, until in state.strays.items() if until > now}
    if removed:
        _log.info("removed %d sandboxes of failed attempts on %s", len(removed), state.node.name)


async def sweep(nodes: Nodes, run_id: str, spare: Collection[str]) -> None:
    """Remove the sandboxes of the batch `run_id` from all nodes, but for those with ids in `spare`.

    Raise the first error if that is possible on no node; what is left on some of them is removed
    at the end, or by the next `--resume`.
    """
    states = nodes.states
    found = await asyncio.gather(
        *(state.node.sweep(run_id, spare) for state in states), return_exceptions=True
    )
    errors = [each for each in found if isinstance(each, BaseException)]
    if errors and len(errors) == len(found):
        raise errors[0]
    for state, removed in zip(states, found, strict=True):
        if isinstance(removed, BaseException):
            _log.warning("sandboxes may be left on %s: %s", state.node.name, removed)
        elif removed:
            _log.info("removed %d sandboxes that were left on %s", len(removed), state.node.name)
