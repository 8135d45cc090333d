"""The sandboxes of one server: made, moved from state to state, and taken down.

Every move is a task that this module owns; nothing outlives `aclose`. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.testing.daytona.envelope import ApiError
from paddock.testing.daytona.faults import DestroyDuringStart, FailWith, SilentEvents, StuckIn
from paddock.testing.daytona.index import Index
from paddock.testing.daytona.states import ERRED, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from paddock.testing.daytona.clock import Clock
    from paddock.testing.daytona.events import Events
    from paddock.testing.daytona.faults import FaultKind
    from paddock.testing.daytona.sandbox import Sandbox
    from paddock.testing.daytona.states import Move

__all__ = ["Fleet", "copy_tree"]

HIDDEN = 10.0
"""Seconds in which a name is not found that was another sandbox's before."""
MAKING = frozenset({"creating", "pending_build", "building_snapshot"})


class Fleet:
    """Sandboxes by id, and the moves under way."""

    def __init__(
        self,
        *,
        folder: Path,
        clock: Clock,
        events: Events,
        delay: float,
        index_lag: float,
        url: Callable[[], str],
    ) -> None:
        self.sandboxes: dict[str, Sandbox] = {}
        self.index = Index(lag=index_lag, seconds=clock.seconds, item=self.item)
        self.delays: dict[str, float] = {}
        self._folder = folder
        self._clock = clock
        self._events = events
        self._delay = delay
        self._url = url
        self._moves: set[asyncio.Task[None]] = set()
        self._closed = False
        self._former: set[str] = set()
        """Names of sandboxes that were destroyed."""
        self._hidden: dict[str, float] = {}
        """Names that were given again, and until when nothing is found by them."""
        clock.when_advanced(self.sweep)

    def folder(self, identity: str) -> Path:
        """Where the files of a sandbox or snapshot are."""
        return self._folder / identity

    def find(self, id_or_name: str) -> Sandbox:
        """The sandbox of that id, else of that name; raises `ApiError` 404.

        A name that was given again is not found for a while: the service remembers that it was
        nobody's.
        """
        if (found := self.sandboxes.get(id_or_name)) is not None:
            return found
        hidden = self._hidden.get(id_or_name, 0.0) > self._clock.seconds()
        for sandbox in self.sandboxes.values():
            if sandbox.name == id_or_name and not hidden:
                return sandbox
        raise ApiError(404, f"Sandbox with ID or name {id_or_name} not found")

    def require_free(self, name: str) -> None:
        """Raise `ApiError` 409 if a living sandbox has this name."""
        if any(each.name == name for each in self.live()):
            raise ApiError(409, f"Sandbox with name {name} already exists")

    def live(self) -> Iterator[Sandbox]:
        """All of them, the oldest first."""
        return iter(list(self.sandboxes.values()))

    def wire(self, sandbox: Sandbox) -> dict[str, Any]:
        """The sandbox as the API tells it."""
        return sandbox.to_wire(self._url(), self._last_activity(sandbox))

    def changed(self, sandbox: Sandbox) -> dict[str, Any]:
        """As `wire`, of a sandbox whose settings have changed."""
        self.index.note(sandbox)
        return self.wire(sandbox)

    def item(self, sandbox: Sandbox) -> dict[str, Any]:
        """The sandbox as the API lists it."""
        return sandbox.to_item(self._url(), self._last_activity(sandbox))

    def touch(self, sandbox: Sandbox) -> None:
        """Note activity, which puts off stopping for idleness."""
        sandbox.active_at = self._clock.seconds()
        self.index.note(sandbox)

    def release(self) -> None:
        """Let the stuck ones continue."""
        for sandbox in self.live():
            sandbox.stuck = False
            sandbox.released.set()

    def add(
        self,
        sandbox: Sandbox,
        operation: str,
        effects: tuple[FaultKind, ...] = (),
        files: Path | None = None,
    ) -> None:
        """Take a new sandbox in and begin to make it, with a copy of `files` if given."""

        async def make() -> None:
            if files is not None:
                await copy_tree(files, self.folder(sandbox.id))
            await sandbox.toolbox.start()

        self._require_open()
        self.sandboxes[sandbox.id] = sandbox
        if sandbox.name in self._former:
            self._hidden[sandbox.name] = self._clock.seconds() + HIDDEN
        self.move(sandbox, operation, effects, make)
        if not any(isinstance(effect, SilentEvents) for effect in effects):
            self._events.tell("sandbox.created", self.wire(sandbox))

    def move(
        self,
        sandbox: Sandbox,
        operation: str,
        effects: tuple[FaultKind, ...] = (),
        work: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Begin `operation`; `work` is done on the way, before the last state.

        Raises `ApiError` when the state does not allow it, or another move is under way.
        """
        self._require_open()
        if sandbox.busy and _holds(sandbox, operation):
            raise ApiError(
                409, "Sandbox state change in progress", code="SANDBOX_STATE_CHANGE_IN_PROGRESS"
            )
        way = plan(operation, sandbox.state)
        if sandbox.moving is not None:
            sandbox.moving.cancel()
        before, origin = sandbox.moving, sandbox.state
        sandbox.desired = way.desired or sandbox.desired
        if way.at_once:
            self._enter(sandbox, way.through[0], effects)
        travel = self._travel(sandbox, way, effects, work, before, origin)
        sandbox.moving = self._own(travel)

    def start(self, sandbox: Sandbox, effects: tuple[FaultKind, ...] = ()) -> None:
        """Start or resume it; what runs already stays as it is."""
        if sandbox.state == sandbox.desired == "started":
            return
        frozen = sandbox.state == "paused"
        self.move(sandbox, "start", effects, None if frozen else sandbox.toolbox.start)
        if not frozen:
            sandbox.token = secrets.token_hex(16)  # a start makes a new one, a resume does not

    def stop(self, sandbox: Sandbox, effects: tuple[FaultKind, ...] = ()) -> None:
        """Stop it, which deletes it if it is ephemeral."""
        if not sandbox.ephemeral:
            self.move(sandbox, "stop", effects, sandbox.toolbox.stop)
            return
        plan("stop", sandbox.state)
        self.destroy(sandbox, effects)

    def destroy(self, sandbox: Sandbox, effects: tuple[FaultKind, ...] = ()) -> None:
        """Take it down; it is found until that is done, its name is free at once."""
        if any(each.parent == sandbox.id for each in self.live()):
            raise ApiError(
                400,
                "Cannot delete sandbox which has active fork children. "
                "The forks must be deleted first.",
            )
        self.move(sandbox, "destroy", effects, sandbox.toolbox.remove)
        self._former.add(sandbox.name)
        milliseconds = round(self._clock.now().timestamp() * 1000)
        sandbox.name = f"DESTROYED_{sandbox.name}_{milliseconds}"

    async def settled(self) -> None:
        """Wait until no move is under way but those that are stuck."""
        while waited := [
            each.moving for each in self.live() if each.moving and each.busy and not each.stuck
        ]:
            await asyncio.wait(waited, timeout=0.01)  # some of them may get stuck meanwhile

    def sweep(self) -> None:
        """Begin what has fallen due: stops for idleness, archives, deletions, ends of life."""
        for sandbox in self.live():
            if not sandbox.busy and (operation := self._due(sandbox)) is not None:
                with contextlib.suppress(ApiError):  # say, it has forks: it stays due
                    operation(sandbox)

    async def aclose(self) -> None:
        """End every move and remove every sandbox with its files; begin nothing more."""
        self._closed = True
        for task in self._moves:
            task.cancel()
        if self._moves:
            await asyncio.wait(self._moves)
        for sandbox in self.live():
            if sandbox.build is not None:
                sandbox.build.finish()  # for readers of its log
        ends = [sandbox.toolbox.remove() for sandbox in self.live()]
        failures = await asyncio.gather(*ends, return_exceptions=True)
        self.sandboxes.clear()
        if errors := [each for each in failures if isinstance(each, Exception)]:
            raise ExceptionGroup("sandboxes could not be removed", errors)

    def _due(self, sandbox: Sandbox) -> Callable[[Sandbox], None] | None:
        settings = sandbox.settings
        age = (self._clock.now() - sandbox.created_at).total_seconds()
        if _elapsed(sandbox.ttl_minutes, age):
            return self.destroy
        if sandbox.state == "started":
            idle = self._clock.seconds() - sandbox.active_at
            if _elapsed(settings["autoStopInterval"], idle):
                return self.stop
            return self.pause if _elapsed(settings["autoPauseInterval"], idle) else None
        if sandbox.halted_at is None:
            return None
        halted = self._clock.seconds() - sandbox.halted_at
        if _elapsed(settings["autoDeleteInterval"], halted):
            return self.destroy
        archivable = sandbox.state == "stopped"
        due = archivable and _elapsed(settings["autoArchiveInterval"], halted)
        return self.archive if due else None

    def pause(self, sandbox: Sandbox, effects: tuple[FaultKind, ...] = ()) -> None:
        """Freeze it."""
        self.move(sandbox, "pause", effects)

    def archive(self, sandbox: Sandbox, effects: tuple[FaultKind, ...] = ()) -> None:
        """Put a stopped one away."""
        if sandbox.ephemeral:
            raise ApiError(400, "Ephemeral sandboxes cannot be archived")
        self.move(sandbox, "archive", effects)

    async def _travel(
        self,
        sandbox: Sandbox,
        way: Move,
        effects: tuple[FaultKind, ...],
        work: Callable[[], Coroutine[Any, Any, None]] | None,
        before: asyncio.Task[None] | None,
        origin: str,
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        sandbox.stuck = False
        for state in way.through:
            self._enter(sandbox, state, effects)
            if any(isinstance(each, StuckIn) and each.state == state for each in effects):
                sandbox.stuck = True
                await sandbox.released.wait()
            if not await self._pass(sandbox, state):
                return
        for effect in effects:
            if isinstance(effect, FailWith):
                self._fail(sandbox, effect.state, effect.reason, recoverable=effect.recoverable)
                return
            if isinstance(effect, DestroyDuringStart):
                sandbox.desired = "destroyed"
                work, way = sandbox.toolbox.remove, plan("destroy", sandbox.state)
        if work is not None:
            try:
                await finish(work())  # threads may work for it, which no cancellation stops
            except Exception as error:  # the service reports its own failures so, too
                self._fail(sandbox, "error", f"{type(error).__name__}: {error}")
                return
        sandbox.error_reason, sandbox.recoverable = None, False
        self._enter(sandbox, way.to or origin, effects)

    async def _pass(self, sandbox: Sandbox, state: str) -> bool:
        """Spend the time of `state`; False if the build failed in it."""
        seconds = self.delays.get(state, self._delay)
        if state != "building_snapshot" or sandbox.build is None:
            await asyncio.sleep(seconds)
            return True
        log = sandbox.build
        failure = await log.play(seconds / max(1, len(log.lines)))
        if failure is not None:
            self._fail(sandbox, "build_failed", failure)
        return failure is None

    def _fail(
        self, sandbox: Sandbox, state: str, reason: str, *, recoverable: bool = False
    ) -> None:
        sandbox.error_reason, sandbox.recoverable = reason, recoverable
        self._enter(sandbox, state, ())

    def _enter(self, sandbox: Sandbox, state: str, effects: tuple[FaultKind, ...]) -> None:
        if state == sandbox.state:
            return
        old, sandbox.state = sandbox.state, state
        sandbox.updated_at = self._clock.now()
        if state == "started":
            self.touch(sandbox)
        sandbox.halted_at = (
            self._clock.seconds() if state in {"stopped", "archived", *ERRED} else None
        )
        self.index.note(sandbox)
        if state == "destroyed":
            self.sandboxes.pop(sandbox.id, None)
            if sandbox.build is not None:
                sandbox.build.finish()
        if not any(isinstance(effect, SilentEvents) for effect in effects):
            content = {"sandbox": self.wire(sandbox), "oldState": old, "newState": state}
            self._events.tell("sandbox.state.updated", content)

    def _require_open(self) -> None:
        if self._closed:
            raise ApiError(503, "The server is going down")

    def _own(self, move: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(move)
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)
        return task

    def _last_activity(self, sandbox: Sandbox) -> dt.datetime:
        idle = self._clock.seconds() - sandbox.active_at
        return self._clock.now() - dt.timedelta(seconds=idle)


def _holds(sandbox: Sandbox, operation: str) -> bool:
    """Whether what a sandbox is at has to end before `operation` may begin."""
    if sandbox.state in MAKING:
        return True  # for as long as that takes
    if (operation, sandbox.state) == ("start", "archiving"):
        return False
    return not sandbox.stuck


def _special(folder: str, names: list[str]) -> list[str]:
    """Those that are neither files, folders nor links, and cannot be copied."""
    paths = {name: Path(folder, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if not (path.is_symlink() or path.is_file() or path.is_dir())
    ]


def _elapsed(minutes: float | None, seconds: float) -> bool:
    """Whether an interval has passed; none, zero and less mean never."""
    return minutes is not None and minutes > 0 and seconds >= minutes * 60


async def copy_tree(source: Path, target: Path) -> None:
    """Copy the files of a sandbox, links as links, without sockets and pipes.

    A source that is not there is empty.
    """
    if await asyncio.to_thread(source.is_dir):
        await asyncio.to_thread(
            shutil.copytree, source, target, symlinks=True, ignore=_special, dirs_exist_ok=True
        )
