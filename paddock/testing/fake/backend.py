"""`FakeBackend`: sandboxes in memory, for tests of what uses sandboxes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from paddock._frozen import FrozenMapping
from paddock.backends.base import Backend, SandboxInfo
from paddock.errors import ConfigError, SandboxError
from paddock.testing.fake.faults import Fault, FaultOrder, Faults, order_of
from paddock.testing.fake.sandbox import FakeSandbox
from paddock.testing.fake.script import is_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.base import ProgressCallback
    from paddock.testing.fake.ports import Handler
    from paddock.testing.fake.script import Answer

__all__ = ["FakeBackend", "FakeHost"]


_ENTRIES: dict[str, tuple[type, Callable[[object], bool], str]] = {
    "commands": (str, is_answer, "a pattern, and a Reply, text, an exit code or a function"),
    "files": (str, lambda content: isinstance(content, str | bytes), "a path, and text or bytes"),
    "ports": (int, callable, "a number, and a function of a reader and a writer"),
}
"""The fields that are mappings: what their keys and values are."""


def _checked(
    name: str, given: object, key: type, fits: Callable[[object], bool], give: str
) -> FrozenMapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name}={given!r}: give a dictionary")
    for each, value in given.items():
        if not isinstance(each, key) or not fits(value):
            raise ConfigError(f"{name}: {each!r}: {value!r}: give {give}")
    return FrozenMapping(given)


class FakeHost:
    """Where sandboxes in memory are: what the recipes that share it have made, by id."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, FakeSandbox] = {}
        self.served: Counter[tuple[FaultOrder, int]] = Counter()
        """How often each fault has happened."""
        self.seen: dict[str, str] = {}
        """All variables of all sandboxes, which a faulty one shows."""


@dataclass(frozen=True, kw_only=True)
class FakeBackend(Backend):
    """Sandboxes in memory: no process is started and no file is touched.

    - `commands` are patterns of commands, as of `fnmatch`, and their answers: a `Reply`, stdout,
      an exit code, or a function of the `FakeCall`. A command that none matches runs in a small
      shell with a dozen programs (echo, cat, sleep, ...); what that does not know ends with 127.
    - `files` are there from the beginning.
    - `ports` serve `Sandbox.url`: functions of a reader and a writer of asyncio.
    - `faults` happen to order: each a `Fault`, or a `FaultOrder` for some commands or times.
    """

    name: ClassVar[str] = "fake"
    default_working_dir: ClassVar[str | None] = "/work"

    commands: Mapping[str, Answer] = field(default_factory=FrozenMapping)
    files: Mapping[str, str | bytes] = field(default_factory=FrozenMapping)
    ports: Mapping[int, Handler] = field(default_factory=FrozenMapping)
    faults: Sequence[Fault | FaultOrder] = ()
    host: FakeHost = field(default_factory=FakeHost, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (key, fits, give) in _ENTRIES.items():
            found = _checked(name, getattr(self, name), key, fits, give)
            object.__setattr__(self, name, found)
        object.__setattr__(self, "faults", tuple(order_of(each) for each in self.faults))

    async def _make(self, on_progress: ProgressCallback) -> FakeSandbox:
        faults = Faults(
            [order_of(each) for each in self.faults],
            self.host.served,
            PurePosixPath(self.known_working_dir or "/"),
        )
        if order := faults.strikes(Fault.CREATE_SLOW):
            await asyncio.sleep(order.seconds)
        if faults.strikes(Fault.CREATE_FAILS):
            raise SandboxError("no sandbox could be made, to order")
        await asyncio.sleep(0)
        sandbox = FakeSandbox(self, self.host, faults)
        self.host.sandboxes[sandbox.id] = sandbox
        return sandbox

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        return [
            SandboxInfo(
                id=each.id,
                backend=self.name,
                state="running",
                owner="alive",
                created=each.created,
                working_dir=str(each.working_dir),
                labels=each.labels,
            )
            for each in self.host.sandboxes.values()
            if (labels or {}).items() <= each.labels.items()
        ]

    async def delete(self, sandbox_id: str) -> bool:
        sandbox = self.host.sandboxes.get(sandbox_id)
        if sandbox is not None:
            sandbox.die("it was deleted from outside")
        return sandbox is not None

    async def gc(self) -> Sequence[str]:
        return []
