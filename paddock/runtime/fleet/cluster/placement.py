"""A placement on the nodes of a Ray cluster."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock._concurrency import acquire, cancel, finish
from paddock._logs import get_logger
from paddock.errors import ConfigError, MissingDependency, PaddockError
from paddock.runtime.fleet.cluster.agent import NodeAgent
from paddock.runtime.fleet.cluster.node import RayNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from paddock.runtime.fleet.attempts import Plan
    from paddock.runtime.fleet.model_limit import ModelLimit
    from paddock.runtime.fleet.placement import Roster

__all__ = ["SLOTS", "RayPlacement"]

SLOTS = "paddock_slots"
"""The resource of Ray that says how many sandboxes a node runs at once."""

STORE = 80 * 2**20
"""Bytes of the object store of a Ray that is started here: what is sent is small."""

LOOK = 2.0
"""Seconds between two looks at which nodes there are; the loss of one is noticed without it."""

ANSWER = 10.0
"""Seconds for a connection to the head of the cluster, which takes some milliseconds."""

JOINING = 20.0
"""Seconds in which nodes that are there at first have their agents: a process starts and imports
Paddock. Who comes later joins later."""

SPARE = 64
"""Calls of an agent at once beside those that run attempts: answers, pieces of files, turns."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPlacement:
    """Attempts run on the nodes of the Ray cluster at `address` that offer ``paddock_slots``::

        ray start --address HOST:PORT --resources '{"paddock_slots": 16}'

    ``auto`` is the cluster that ``RAY_ADDRESS`` or this machine has, ``local`` a new one of this
    machine alone, with `slots`. On each node one actor drives that node's engine; Paddock has to
    be installed there. A process that uses Ray already keeps its connection, which has to be to
    the same cluster.
    """

    address: str = "auto"
    slots: int = 8

    def __post_init__(self) -> None:
        if not self.address or self.address.startswith("ray://"):
            raise ConfigError(
                f"address={self.address!r}: give auto, local, or HOST:PORT of the cluster's head; "
                "Ray's client protocol is not supported"
            )
        if self.slots < 1:
            raise ConfigError("slots has to be at least 1")

    @contextlib.asynccontextmanager
    async def open(self, plan: Plan, models: ModelLimit, roster: Roster) -> AsyncIterator[None]:
        """See `Placement.open`. Raise `ConfigError` if there is no cluster, or no node has slots,
        and `MissingDependency` without Ray."""
        ours = await acquire(asyncio.to_thread(self._connect), _disconnect)
        try:
            cluster = _Cluster(plan, models, roster)
            try:
                await cluster.begin()
                yield
            finally:
                await cluster.aclose()
        finally:
            await finish(_disconnect(ours))

    def _connect(self) -> bool:
        """Connect to the cluster; return whether this was not done before. Blocks."""
        ray = _ray()
        if ray.is_initialized():
            return False
        settings: dict[str, Any] = {}
        if self.address not in ("auto", "local"):
            _require_answer(self.address)
        if self.address == "local":
            settings = {
                "_node_ip_address": "127.0.0.1",  # nobody else needs to reach it
                "include_dashboard": False,
                "object_store_memory": STORE,
                "resources": {SLOTS: self.slots},
                "_system_config": {"enable_metrics_collection": False},
            }
        try:
            ray.init(
                self.address, log_to_driver=False, logging_level="error", namespace=None, **settings
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"no Ray cluster at {self.address!r}: {error}") from error
        return True


async def _disconnect(ours: bool) -> None:
    if ours:
        await asyncio.to_thread(_ray().shutdown)


def _require_answer(address: str) -> None:
    """Raise `ConfigError` if nothing listens there: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"no Ray cluster at {address!r}: give HOST:PORT of its head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address!r}: {error}") from None


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency("ray", "ray") from error
    return ray


class _Cluster:
    """The nodes of the cluster, and an agent on each."""

    def __init__(self, plan: Plan, models: ModelLimit, roster: Roster) -> None:
        self._plan = _pickled(plan)
        self._models = models
        self._roster = roster
        self._run_id = plan.run_id
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._swept: dict[str, asyncio.Event] = {}
        self._may_run = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Begin the agents, and remove what an earlier process has left before any attempt runs:
        nodes may share an engine."""
        await self._look()
        if not self._serving:
            raise ConfigError(
                f"no node of the Ray cluster offers {SLOTS}; start nodes with "
                f"--resources '{{\"{SLOTS}\": 16}}'"
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOINING):
                for swept in list(self._swept.values()):
                    await swept.wait()
        self._may_run.set()
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._look()
            except (RuntimeError, OSError) as error:  # what Ray raises if its head is gone
                _log.warning("the nodes of the cluster are not known: %s", error)

    async def _look(self) -> None:
        """Begin an agent on each node that is new."""
        for node in await self._nodes():
            node_id = node["NodeID"]
            if _slots(node) and (node_id not in self._serving or self._serving[node_id].done()):
                self._swept[node_id] = asyncio.Event()
                self._serving[node_id] = asyncio.create_task(self._serve(node_id, node))

    async def aclose(self) -> None:
        """End the agents."""
        if self._watching is not None:
            await cancel(self._watching)
        if self._serving:
            await cancel(*self._serving.values())

    async def _nodes(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = await asyncio.to_thread(_ray().nodes)
        return [each for each in found if each["Alive"]]

    async def _serve(self, node_id: str, about: Mapping[str, Any]) -> None:
        """Have an agent on a node, until the node is lost."""
        slots = _slots(about)
        agent = await asyncio.to_thread(self._begin_agent, node_id, slots)
        node = RayNode(
            name=f"{about['NodeManagerHostname']} {node_id[:6]}",
            slots=slots,
            agent=agent,
            models=self._models,
            on_lost=self._roster.remove,
        )
        try:
            if await node.begun():
                try:
                    await self._serve_begun(node, self._swept[node_id])
                finally:
                    await finish(node.close())
        finally:
            self._swept[node_id].set()
            await finish(asyncio.to_thread(functools.partial(_ray().kill, agent)))

    async def _serve_begun(self, node: RayNode, swept: asyncio.Event) -> None:
        if not self._may_run.is_set():
            try:
                await node.sweep(self._run_id, ())
            except (PaddockError, OSError) as error:
                _log.warning("sandboxes may be left on %s: %s", node.name, error)
            swept.set()
            await self._may_run.wait()
        self._roster.add(node)
        await node.serve()
        _log.warning("the node %s of the cluster is lost", node.name)

    def _begin_agent(self, node_id: str, slots: int) -> Any:
        """Begin the actor: it takes the slots of its node, so that batches wait for each other."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return (
            _ray()
            .remote(NodeAgent)
            .options(
                num_cpus=0,
                resources={SLOTS: slots},
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=slots + SPARE,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote(self._plan)
        )


def _pickled(plan: Plan) -> bytes:
    from ray import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(plan)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever an object raises that cannot be pickled
        raise ConfigError(f"the work cannot be sent to the nodes of a cluster: {error}") from error
    return pickled


def _slots(node: Mapping[str, Any]) -> int:
    return int(node["Resources"].get(SLOTS, 0))
