"""What runs on a node of a cluster: attempts, with the node's own engine. Knows no Ray.

It decides nothing. Its caller asks by calls, each of which may be under way with many others, and
gets to know what happens meanwhile by `events`. All that is sent is plain data.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import pickle
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.fleet.attempts import AttemptRun
from paddock.runtime.fleet.cluster.folders import AgentFolder
from paddock.runtime.fleet.faults import BatchGaveUp, TaskFailed
from paddock.runtime.fleet.memory import memory_of
from paddock.runtime.fleet.sweeping import engine_answers, remove_labelled
from paddock.runtime.fleet.tasks import Task
from paddock.runtime.fleet.work import as_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

    from paddock.runtime.fleet.attempts import Plan

__all__ = ["PIECE", "NodeAgent"]

PIECE = 2**20
"""Bytes of files in one answer: small beside an object store of 80 MiB."""

QUIET = 5.0
"""Seconds without an event after which `events` returns, so that no caller waits for ever."""


class NodeAgent:
    """Runs the attempts of one batch, whose pickled `Plan` it gets."""

    def __init__(self, plan: bytes) -> None:
        self._plan: Plan = pickle.loads(plan)
        self._folder = AgentFolder()
        self._running: dict[int, asyncio.Task[dict[str, Any]]] = {}
        self._archives: dict[int, Path] = {}
        self._events: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self._turns = _Turns(self._events)

    async def begun(self) -> bool:
        """Return True: the agent is there."""
        return True

    async def run(
        self, ticket: int, key: str, body: str, number: int, image: str | None
    ) -> dict[str, Any]:
        """Make an attempt. Return how it ended, and the first piece of its files, see `read`."""
        task = asyncio.create_task(self._attempt(ticket, Task(key=key, body=body), number, image))
        self._running[ticket] = task
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            del self._running[ticket]
        return {"cancelled": True} if task.cancelled() else task.result()

    async def cancel(self, ticket: int) -> None:
        """Cancel an attempt; return when its sandboxes are gone."""
        task = self._running.get(ticket)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def read(self, ticket: int, offset: int) -> tuple[bytes, bool]:
        """Return a piece of the archive of an attempt's files, and whether there are more.

        After the last piece the files are gone.
        """
        archive = self._archives[ticket]
        piece, more = await asyncio.to_thread(_read, archive, offset)
        if not more:
            del self._archives[ticket]
            await asyncio.to_thread(archive.unlink)
        return piece, more

    async def events(self) -> list[tuple[Any, ...]]:
        """Return what has happened since the last call: sandboxes made, turns wanted and over."""
        found = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET):
                found.append(await self._events.get())
        while not self._events.empty():
            found.append(self._events.get_nowait())
        return found

    async def grant(self, turn: int) -> None:
        """Let a call of a model begin."""
        self._turns.grant(turn)

    async def sweep(
        self, run_id: str, attempts: Collection[tuple[str, int]] | None = None
    ) -> list[str]:
        return await remove_labelled(self._plan.backend, run_id, attempts=attempts)

    async def answers(self) -> bool:
        return await engine_answers(self._plan.backend)

    async def memory(self) -> tuple[int, float] | None:
        found = await memory_of(self._plan.backend)
        return None if found is None else (found.available, found.pressure)

    async def close(self) -> None:
        """Remove what is left of the files, after the last attempt."""
        await asyncio.to_thread(self._folder.close)

    async def _attempt(
        self, ticket: int, task: Task, number: int, image: str | None
    ) -> dict[str, Any]:
        folder = await asyncio.to_thread(self._folder.make)

        async def made(sandbox: str) -> None:
            self._events.put_nowait(("made", ticket, sandbox))

        run = AttemptRun(
            plan=self._plan,
            task=task,
            number=number,
            folder=folder,
            image=image,
            models=self._turns,
            on_made=made,
        )
        try:
            ended = await _ended(run)
            archive = folder.with_suffix(".tar")
            await asyncio.to_thread(_pack, folder, archive)
        finally:
            await asyncio.to_thread(self._folder.remove, folder)
        self._archives[ticket] = archive
        return {**ended, "files": await self.read(ticket, 0)}


async def _ended(run: AttemptRun) -> dict[str, Any]:
    """Do an attempt, and return how it ended."""
    text, fault, message = "null", None, ""
    try:
        text = as_json(await run.run())
    except TaskFailed as error:
        fault, message = error.fault, error.message
    except ConfigError as error:
        fault, message = "config", str(error)
    except BatchGaveUp as error:  # this node's disk is full, and others may not be
        fault, message = "infra.lost", error.reason
    return {
        "result": text,
        "fault": fault,
        "message": message,
        "details": json.dumps(
            {
                "stages": run.stages,
                "hashes": run.hashes,
                "cost": run.cost,
                "stage": run.stage,
                "may_be_left": run.may_be_left,
            }
        ),
    }


def _pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)


def _read(archive: Path, offset: int) -> tuple[bytes, bool]:
    with archive.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(offset)
        piece = file.read(PIECE)
    return piece, offset + len(piece) < size


@dataclass(slots=True)
class _Turns:
    """A `ModelGate` that asks the caller, by events."""

    events: asyncio.Queue[tuple[Any, ...]]
    _waiting: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[_Turn]:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self.events.put_nowait(("turn", number))
        answered = False
        try:
            await self._waiting[number]
            yield _Turn(self.events, number)
            answered = True
        finally:
            del self._waiting[number]
            self.events.put_nowait(("over", number, answered))

    def grant(self, number: int) -> None:
        granted = self._waiting.get(number)
        if granted is not None and not granted.done():
            granted.set_result(None)


@dataclass(frozen=True, slots=True)
class _Turn:
    events: asyncio.Queue[tuple[Any, ...]]
    number: int

    def limited(self) -> None:
        self.events.put_nowait(("limited", self.number))
