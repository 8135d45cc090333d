"""A node of a cluster as the batch sees it: its agent, asked by Ray's calls."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import tarfile
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import PaddockError, SandboxError
from paddock.runtime.fleet.faults import TaskFailed
from paddock.runtime.fleet.memory import MachineMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from paddock.runtime.fleet.attempts import AttemptRun
    from paddock.runtime.fleet.model_limit import ModelLimit, Turn

__all__ = ["NodeLost", "RayNode"]

ANSWER = 15.0
"""Seconds for an answer that takes a node some milliseconds, on one that is busy."""

CANCEL = 60.0
"""Seconds for the end of a cancelled attempt: it removes its sandboxes."""

IN_MEMORY = 8 * 2**20
"""Bytes of an attempt's files beyond which they are received in a file."""

_log = get_logger(__name__)


class NodeLost(SandboxError):
    """A node of the cluster, or the agent on it, is gone."""


@dataclass(slots=True)
class _Turn:
    over: asyncio.Future[bool]
    turn: Turn | None = None


class _NotAnsweredError(Exception):
    """A call of a model failed."""


@dataclass(slots=True, kw_only=True, eq=False)
class RayNode:
    """A `Node`. `serve` has to run as long as it is used; `on_lost` is called once."""

    name: str
    slots: int | None
    agent: Any
    models: ModelLimit
    on_lost: Callable[[RayNode], None]
    _runs: dict[int, AttemptRun] = field(default_factory=dict)
    _turns: dict[int, _Turn] = field(default_factory=dict)
    _tickets: itertools.count[int] = field(default_factory=itertools.count)
    _is_lost: bool = False

    async def begun(self) -> bool:
        """Wait until the agent has begun, which it does when the slots of its node are free.

        Return False if it is lost before.
        """
        try:
            return bool(await self._ask("begun"))
        except NodeLost as error:
            _log.warning("%s: %s", error, error.__cause__)
            return False

    async def close(self) -> None:
        """Let the agent clean up, after its last attempt."""
        with contextlib.suppress(SandboxError, TimeoutError):
            await self._within(ANSWER, "close")

    async def run(self, run: AttemptRun) -> Any:
        ticket, task = next(self._tickets), run.task
        self._runs[ticket] = run
        try:
            given = (ticket, task.key, task.body, run.number, run.image)
            ended = await self._ask("run", *given)
            if ended.get("cancelled"):
                raise TaskFailed("cancelled", "it was cancelled from inside")
            await self._receive(ticket, ended, run.folder)
        except SandboxError as error:
            raise TaskFailed("infra.lost", str(error)) from error
        except asyncio.CancelledError:
            with contextlib.suppress(SandboxError, TimeoutError):
                await finish(self._within(CANCEL, "cancel", ticket))
            raise
        finally:
            del self._runs[ticket]
        details = json.loads(ended["details"])
        run.stages, run.hashes, run.cost = details["stages"], details["hashes"], details["cost"]
        run.stage, run.may_be_left = details["stage"], details["may_be_left"]
        if ended["fault"] is not None:
            raise TaskFailed(ended["fault"], ended["message"])
        return json.loads(ended["result"])

    async def sweep(
        self,
        run_id: str,
        spare: Collection[str],
        attempts: Collection[tuple[str, int]] | None = None,
    ) -> list[str]:
        """Spare nothing: sandboxes on other machines are not kept."""
        found: list[str] = await self._ask("sweep", run_id, attempts)
        return found

    async def answers(self) -> bool:
        try:
            return bool(await self._within(ANSWER, "answers"))
        except (SandboxError, TimeoutError):
            return False

    async def memory(self) -> MachineMemory | None:
        found = await self._within(ANSWER, "memory")
        return None if found is None else MachineMemory(available=found[0], pressure=found[1])

    async def serve(self) -> None:
        """Follow what happens on the node, until it is lost."""
        with contextlib.suppress(NodeLost):
            async with asyncio.TaskGroup() as turns:
                try:
                    while True:
                        for event in await self._ask("events"):
                            await self._follow(event, turns)
                except NodeLost:
                    for each in self._turns.values():
                        each.over.cancel()

    async def _follow(self, event: tuple[Any, ...], turns: asyncio.TaskGroup) -> None:
        match event:
            case ("made", ticket, sandbox) if ticket in self._runs:
                try:
                    await self._runs[ticket].on_made(sandbox)
                except PaddockError as error:  # the end of the attempt meets it, too
                    _log.warning("sandbox %s is not in the ledger: %s", sandbox, error)
            case ("turn", number):
                self._turns[number] = _Turn(asyncio.get_running_loop().create_future())
                turns.create_task(self._take_turn(number))
            case ("limited", number) if (turn := self._turns[number].turn) is not None:
                turn.limited()
            case ("over", number, answered):
                self._turns[number].over.set_result(answered)
            case _:
                pass

    async def _take_turn(self, number: int) -> None:
        """Wait until a call of a model may be made on the node, and until it is over."""
        mine = self._turns[number]
        try:
            async with self.models.turn() as turn:
                mine.turn = turn
                if not mine.over.done():
                    await self._ask("grant", number)
                if not await mine.over:
                    raise _NotAnsweredError
        except (_NotAnsweredError, NodeLost):
            pass
        finally:
            del self._turns[number]

    async def _receive(self, ticket: int, ended: dict[str, Any], folder: Path) -> None:
        """Write the files of an attempt into its folder."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as archive:
            piece, more = ended["files"]
            archive.write(piece)
            while more:
                piece, more = await self._ask("read", ticket, archive.tell())
                archive.write(piece)
            archive.seek(0)
            await asyncio.to_thread(_unpack, archive, folder)

    async def _within(self, seconds: float, method: str, *args: Any) -> Any:
        async with asyncio.timeout(seconds):
            return await self._ask(method, *args)

    async def _ask(self, method: str, *args: Any) -> Any:
        """Call a method of the agent; raise `NodeLost` if it is gone, or `SandboxError`."""
        from ray.exceptions import RayError, RayTaskError

        try:
            return await getattr(self.agent, method).remote(*args)
        except RayTaskError as error:
            raise SandboxError(f"the agent on {self.name} failed: {error}") from error
        except RayError as error:
            if not self._is_lost:
                self._is_lost = True
                self.on_lost(self)
            kind = type(error).__name__
            raise NodeLost(f"the node {self.name} of the cluster is lost ({kind})") from error


def _unpack(archive: Any, folder: Path) -> None:
    with tarfile.open(fileobj=archive, mode="r") as tar:
        tar.extractall(folder, filter="data")
