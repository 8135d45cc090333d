"""An open batch: its directory, its ledger in a thread of its own, and its exports."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import ConfigError
from paddock.runtime.fleet.disk import cannot_write, is_full
from paddock.runtime.fleet.frozen import circumstances, comparable, differences
from paddock.runtime.fleet.ledger import Ledger, LedgerError
from paddock.runtime.fleet.results import line_of
from paddock.runtime.fleet.run_directory import TASKS, RunDirectory, read_lines
from paddock.runtime.fleet.tasks import digest_of, parse_tasks, read_tasks, repeated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from paddock.runtime.fleet.ledger import Entry
    from paddock.runtime.fleet.ordering import Ordering
    from paddock.runtime.fleet.tasks import Task

__all__ = ["Batch", "Opening", "selected"]

T = TypeVar("T")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a batch is opened: `resume` an earlier one, or begin.

    `rerun` are keys and the words ``failed``, ``infra`` and ``cancelled``: finished tasks that
    run again. With `rerun_changed` the tasks and the configuration may differ from the earlier
    ones: tasks that are new or changed run, and all of them after a change of the configuration.
    """

    resume: bool = False
    rerun: tuple[str, ...] = ()
    rerun_changed: bool = False
    repeat: int = 1

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise ConfigError("repeat: give at least 1")
        if not self.resume and (self.rerun or self.rerun_changed):
            raise ConfigError("rerun and rerun_changed are about a batch to resume")


class Batch:
    """A batch that this process owns. Its ledger is used through `do`."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.run_id = ""
        self.is_resumed = False
        self.notes: list[str] = []
        """What a user has to know about how it was opened."""
        self._ledger: Ledger | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="paddock-ledger")

    async def do(self, work: Callable[[Ledger], T]) -> T:
        """Use the ledger, to the end of `work` if cancelled. Raise `BatchGaveUp` if it fails."""

        def used() -> T:
            assert self._ledger is not None, "the batch is not open"
            return work(self._ledger)

        return await finish(self.in_thread(used))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Use the directory, one thing after another. Raise `BatchGaveUp` if it fails."""
        try:
            return await self._in_thread(work)
        except (OSError, LedgerError) as error:
            raise cannot_write(error) from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def open(
        self,
        opening: Opening,
        configuration: Mapping[str, Any],
        tasks: Iterable[object] | None,
        extra: Mapping[str, Any],
        ordering: Ordering,
    ) -> None:
        """Open it; raises `ConfigError` and `SessionLocked`, and leaves nothing locked then.

        Raises `BatchGaveUp` if the disk is full and there is a batch to resume later.
        """

        def opened() -> None:
            found = self._open(opening, configuration, tasks, extra)
            self._order(found, ordering)

        try:
            await finish(self._in_thread(opened))
        except (OSError, LedgerError) as error:
            await self.aclose()
            if is_full(error) and self.directory.exists():
                raise cannot_write(error) from error
            raise
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        await finish(self._in_thread(self._close))
        self._thread.shutdown()

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        self.directory.unlock()

    def _open(
        self,
        opening: Opening,
        configuration: Mapping[str, Any],
        values: Iterable[object] | None,
        extra: Mapping[str, Any],
    ) -> list[Task]:
        if opening.resume:
            self.directory.configuration()  # before a lock is made where no batch is
            self.directory.lock()
            return self._resume(opening, configuration, values, extra)
        self.directory.require_new()
        if values is None:
            raise ConfigError("there are no tasks")
        tasks = list(repeated(parse_tasks(values), opening.repeat))
        self.directory.lock()
        self.directory.require_new()  # another process may have been faster
        self._begin(opening, configuration, tasks, extra)
        return tasks

    def _order(self, tasks: list[Task], ordering: Ordering) -> None:
        assert self._ledger is not None, "the batch was opened"
        seconds = self._ledger.seconds()
        plain = ordering.is_plain and not seconds
        self._ledger.order(None if plain else ordering.ranked(tasks, seconds))

    def _begin(
        self,
        opening: Opening,
        configuration: Mapping[str, Any],
        tasks: list[Task],
        extra: Mapping[str, Any],
    ) -> None:
        self.run_id = uuid.uuid4().hex
        self._write_tasks(tasks, opening.repeat)
        self._freeze(configuration, tasks, opening.repeat, extra)
        self._open_ledger().add(tasks)

    def _open_ledger(self) -> Ledger:
        ledger = self._ledger = Ledger(self.directory.ledger)
        if ledger.journal != "WAL":
            self.notes.append("the ledger is on a network file system: each transaction is slower")
        return ledger

    def _write_tasks(self, tasks: list[Task], repeat: int) -> None:
        bodies = (task.body for task in tasks[::repeat])
        self.directory.write(TASKS, "".join(f"{body}\n" for body in bodies))

    def _freeze(
        self,
        configuration: Mapping[str, Any],
        tasks: list[Task],
        repeat: int,
        extra: Mapping[str, Any],
    ) -> None:
        self.directory.write_configuration(
            {
                "run_id": self.run_id,
                "configuration": dict(configuration),
                "tasks": {"count": len(tasks), "digest": digest_of(tasks), "repeat": repeat},
                "circumstances": circumstances(),
                **extra,
            }
        )

    def _resume(
        self,
        opening: Opening,
        configuration: Mapping[str, Any],
        values: Iterable[object] | None,
        extra: Mapping[str, Any],
    ) -> list[Task]:
        known = self.directory.configuration()
        self.run_id, self.is_resumed = known["run_id"], True
        repeat = known["tasks"]["repeat"]
        if values is None:
            values = read_tasks(self.directory.path / TASKS)
        tasks = list(repeated(parse_tasks(values), repeat))
        changes = differences(*comparable(known["configuration"], configuration))
        others = digest_of(tasks) != known["tasks"]["digest"]
        is_torn = bool(known.get(CHANGING))
        if (changes or others or is_torn) and not opening.rerun_changed:
            raise _changed(self.directory, changes, others, is_torn)
        ledger = self._open_ledger()
        self.directory.remove_drafts()
        if not ledger.counts():  # killed before they were added
            ledger.add(tasks)
        if lost := ledger.lose_running():
            self.notes.append(f"{lost} attempts of an earlier process are lost and begin again")
        if changes or others or is_torn:
            self._change(ledger, tasks, known, configuration, extra, all_again=bool(changes))
        if opening.rerun:
            again = ledger.reopen(selected(ledger.states(), opening.rerun))
            self.notes.append(f"{again} finished tasks run again")
        if read_lines(self.directory.results)[1]:
            self.notes.append("the last line of results.jsonl was torn; it is written anew")
        self.directory.rebuild(map(line_of, ledger.finished()))
        return tasks

    def _change(
        self,
        ledger: Ledger,
        tasks: list[Task],
        known: Mapping[str, Any],
        configuration: Mapping[str, Any],
        extra: Mapping[str, Any],
        *,
        all_again: bool,
    ) -> None:
        self.directory.write_configuration({**known, CHANGING: True})
        changed, gone = ledger.change(tasks)
        if all_again:
            changed += ledger.reopen([key for key, *_ in ledger.states()])
        self.notes.append(f"{changed} tasks are new or changed and run, {gone} are gone")
        repeat = known["tasks"]["repeat"]
        self._write_tasks(tasks, repeat)
        kept = {name: known[name] for name in known if name not in _OWN}
        self._freeze(configuration, tasks, repeat, {**kept, **extra})

    async def note_image(self, digest: str) -> None:
        """Freeze the digest of the image, which was not known when the batch began."""

        def note() -> None:
            known = self.directory.configuration()
            known["configuration"].setdefault("image", None)
            if known["configuration"]["image"] is None:
                known["configuration"]["image"] = digest
                self.directory.write_configuration(known)

        await finish(self.in_thread(note))

    # ------------------------------------------------------------------- exports

    async def finished(self) -> AsyncIterator[Entry]:
        """Return the finished tasks, however many, in their order."""
        after = 0
        while page := await self.do(partial(_page, after=after)):
            for entry in page:
                yield entry
            after = page[-1].position

    async def publish(self, entry: Entry) -> None:
        """Add a finished task to results.jsonl."""
        await finish(self.in_thread(lambda: self.directory.append(line_of(entry))))


def _page(ledger: Ledger, *, after: int) -> list[Entry]:
    return list(islice(ledger.finished(after), PAGE))


PAGE = 500
"""Finished tasks that are read at a time."""

CHANGING = "changing"
"""Stands in run.json while the ledger is changed to other tasks or another configuration."""

_OWN = ("run_id", "configuration", "tasks", "circumstances", CHANGING)


def _changed(
    directory: RunDirectory, changes: list[str], others: bool, is_torn: bool
) -> ConfigError:
    lines = [f"  {each}" for each in changes]
    lines += ["  the tasks are others"] if others else []
    lines += ["  an earlier --rerun-changed was killed while it changed them"] if is_torn else []
    what = "\n".join(lines)
    return ConfigError(
        f"the batch in {directory.path} was begun with another configuration:\n{what}\n"
        "  resume it with the earlier one, run what has changed with --rerun-changed "
        "(rerun_changed=True), or choose another directory"
    )


def selected(states: Iterable[tuple[str, str, int]], wanted: Iterable[str]) -> list[str]:
    """Return the keys of the finished tasks that `wanted` names; `ConfigError` for what it cannot.

    ``failed`` are all that are not completed, ``infra`` and ``cancelled`` are those with such a
    fault; anything else is a key.
    """
    named = set(wanted)
    ends = {key: state for key, state, _ in states}
    unknown = sorted(named - {"failed", "infra", "cancelled"} - ends.keys())
    if unknown:
        raise ConfigError(
            f"rerun {unknown[0]!r}: give failed, infra, cancelled or the key of a task"
        )
    return [key for key, state in ends.items() if key in named or _matches(state, named)]


def _matches(state: str, named: set[str]) -> bool:
    if state in ("pending", "running", "completed"):
        return False
    kinds = {"failed", "cancelled" if state == "cancelled" else "", state.partition(".")[0]}
    return bool(kinds & named & {"failed", "infra", "cancelled"})
