"""`Recorded`: a backend whose sandboxes are recorded, or replayed without a backend."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import sys
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from paddock._arguments import check_choice, check_local_path
from paddock._frozen import FrozenMapping
from paddock.backends.base import Backend
from paddock.errors import ConfigError
from paddock.sandbox import Capability, Sandbox
from paddock.testing.recorded.cassette import Cassette
from paddock.testing.recorded.codec import decode, decode_error, encode, encode_error
from paddock.testing.recorded.files import RecordedFileSystem
from paddock.testing.recorded.processes import RecordedProcess, ReplayedProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from paddock.backends.base import ProgressCallback
    from paddock.process import Command, Process
    from paddock.resources import Stats
    from paddock.testing.recorded.cassette import Track

__all__ = ["Recorded", "RecordedSandbox"]

Mode = Literal["auto", "record", "replay"]
VARIABLE = "PADDOCK_CASSETTES"
"""The mode of recordings that do not say theirs."""
NOT_RECORDED = frozenset(
    {Capability.URL, Capability.TCP, Capability.FORK, Capability.SNAPSHOT, Capability.PAUSE}
)


class _Tape:
    """The cassette of a recipe and of those that are made from it, opened when it is needed."""

    def __init__(self, recipe: Recorded) -> None:
        self.of = (recipe.cassette, recipe.mode, recipe.strict)
        self.recording = False
        self.numbers = itertools.count()
        """The numbers of sandboxes, in the order in which their making began."""
        self._cassette: Cassette | None = None
        self._opening = threading.Lock()

    def open(self) -> Cassette:
        """Return the cassette. Call it in a thread: it may have to read the file."""
        name, mode, strict = self.of
        path = Path(name)
        with self._opening:
            if self._cassette is None:
                self.recording = mode == "record" or (mode == "auto" and not path.exists())
                found = Cassette(path, strict=strict)
                if not self.recording:
                    found.load()
                self._cassette = found
            return self._cassette


@dataclasses.dataclass(frozen=True)
class Recorded(Backend):
    """Records what is done in the sandboxes of `backend`, or replays it without the backend.

    - `cassette` is the file, of JSON lines. Secrets of the recipe do not get into it.
    - `mode`: `"record"`, `"replay"`, or `"auto"`, which replays if the file is there. None is the
      environment's ``PADDOCK_CASSETTES``, or `"auto"`.
    - `strict`: the same calls in the same order, and all of them. Otherwise any order, any number
      of times; environment, user and output limits of a command do not matter.

    Commands and files are recorded; `url`, `fork`, `snapshot` and `pause` are `Unsupported`. What
    else is asked of a replay raises `CassetteMismatch` with a diff. A command that ran into its
    timeout takes that long again.
    """

    name: ClassVar[str] = "recorded"

    backend: Backend
    cassette: str | os.PathLike[str]
    mode: Mode | None = dataclasses.field(default=None, kw_only=True)
    strict: bool = dataclasses.field(default=True, kw_only=True)
    _tape: Any = dataclasses.field(default=None, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.backend, Backend):
            raise ConfigError(f"backend={self.backend!r}: give a backend, as LocalBackend()")
        for each in dataclasses.fields(Backend):
            if getattr(self, each.name) == _default(each):
                object.__setattr__(self, each.name, getattr(self.backend, each.name))
        super().__post_init__()
        object.__setattr__(self, "cassette", check_local_path("cassette", self.cassette))
        check_choice("strict", self.strict, (True, False))
        mode = (os.environ.get(VARIABLE) or "auto") if self.mode is None else self.mode
        check_choice(VARIABLE if self.mode is None else "mode", mode, ("auto", "record", "replay"))
        object.__setattr__(self, "mode", mode)
        if self._tape is None or self._tape.of != (self.cassette, mode, self.strict):
            object.__setattr__(self, "_tape", _Tape(self))

    @property
    def known_working_dir(self) -> str | None:
        return self.working_dir or self.backend.known_working_dir

    def setup_commands(self) -> Sequence[str]:
        return dataclasses.replace(self.backend, setup=self.setup).setup_commands()

    async def _make(self, on_progress: ProgressCallback) -> RecordedSandbox:
        tape: _Tape = self._tape
        number = next(tape.numbers)
        cassette = await asyncio.to_thread(tape.open)
        if not tape.recording:
            return RecordedSandbox(self, cassette, cassette.find(number), None)
        own = {each.name: getattr(self, each.name) for each in dataclasses.fields(Backend)}
        recipe: Any = dataclasses.replace(self.backend, **own)
        real = recipe.set_secrets(await recipe._make(on_progress))
        kept = sorted(each.value for each in real.capabilities - NOT_RECORDED)
        about = {
            "backend": real.backend,
            "working_dir": str(real.working_dir),
            "capabilities": kept,
            "env": encode(dict(real.env), self.redactor),
        }
        return RecordedSandbox(self, cassette, cassette.add(number, about), real)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is dataclasses.MISSING:
        return field.default
    return field.default_factory()


class RecordedSandbox(Sandbox):
    """Has a `real` sandbox while it is recorded."""

    fs: RecordedFileSystem

    def __init__(
        self, recipe: Recorded, cassette: Cassette, track: Track, real: Sandbox | None
    ) -> None:
        about = track.about
        self.id = f"replayed-{id(track):x}" if real is None else real.id
        self.backend = str(about["backend"])
        self.working_dir = PurePosixPath(about["working_dir"])
        self.labels = recipe.labels
        self.capabilities = frozenset(map(Capability, about["capabilities"]))
        self.env = FrozenMapping(about["env"] if real is None else real.env)
        self.redactor = recipe.redactor
        self.secrets = recipe.secrets  # type: ignore[assignment]
        self.fs = RecordedFileSystem(self)
        self._strict = recipe.strict
        self._cassette = cassette
        self._track = track
        self._real = real

    async def call(
        self,
        name: str,
        args: dict[str, Any],
        ask: Callable[[Sandbox], Awaitable[Any]],
        kept: Callable[[Any], Any] = lambda found: found,
    ) -> Any:
        """Ask the real sandbox and record the answer, or return the recorded one.

        `kept` makes of an answer what is recorded of it.
        """
        self.raise_if_closed()
        told = encode(args, self.redactor)
        if self._real is None:
            return await _replayed(self._track.play(name, told))
        call = self._track.add(name, told)
        try:
            found = await ask(self._real)
        except Exception as error:
            call.answer = {"error": encode_error(error, self.redactor)}
            raise
        call.answer = {"value": encode(kept(found), self.redactor)}
        return found

    async def _start(self, command: Command) -> Process:
        told = encode(self._told(command), self.redactor)
        if self._real is None:
            answer = self._track.play("start", told)
            if answer is None or "events" not in answer:
                await _replayed(answer)
            return ReplayedProcess(answer["events"], self.redactor, strict=self._strict)
        call = self._track.add("start", told)
        try:
            process = await self._real._start(command)
        except Exception as error:
            call.answer = {"error": encode_error(error, self.redactor)}
            raise
        return RecordedProcess(process, call, self.redactor)

    def _told(self, command: Command) -> dict[str, Any]:
        known = {**self.env, **self.secrets}
        env = {name: value for name, value in command.env.items() if known.get(name) != value}
        fields = {each.name: getattr(command, each.name) for each in dataclasses.fields(command)}
        return {**fields, "argv": list(command.argv), "env": env}

    async def stats(self) -> Stats:
        found: Stats = await self.call("stats", {}, lambda real: real.stats())
        return found

    @property
    def lost(self) -> bool:
        return super().lost if self._real is None else self._real.lost

    async def aclose(self) -> None:
        if sys.exception() is not None:  # which says more than that calls are missing after it
            self._track.excuse()
        await super().aclose()

    async def _close(self) -> None:
        if self._real is None:
            self._track.require_played()
            return
        try:
            await self._real.aclose()
        finally:
            await asyncio.to_thread(self._cassette.save)


async def _replayed(answer: Any) -> Any:
    """Return a recorded answer, or raise it."""
    if answer is None:  # it was cancelled before it came
        await asyncio.Event().wait()
    if "error" in answer:
        raise decode_error(answer["error"])
    return decode(answer["value"])
