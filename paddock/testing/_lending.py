"""Makes the sandboxes of one test, and says after a failure what happened in them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import shlex
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock._concurrency import AsyncResource, Shared, finish
from paddock.errors import (
    ConfigError,
    ExecTimeout,
    MissingDependency,
    PaddockError,
    SandboxError,
    Unsupported,
)
from paddock.network import Allow
from paddock.resources import Resources
from paddock.testing._services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from paddock.backends.base import Backend
    from paddock.image import Image
    from paddock.process import CommandReport
    from paddock.sandbox import Sandbox
    from paddock.testing._services import Service

__all__ = ["CurrentTest", "SandboxFactory", "Wanted", "built_once"]

BUILD_TIMEOUT = 3600.0
"""Seconds that a worker waits for another one to build the image that both need: the largest
images take half an hour."""
LOOK_INTERVAL = 0.1
"""Seconds between two looks whether another process still builds: a build takes much longer."""
POST_MORTEM_TIMEOUT = 10.0
"""Seconds for the questions to the sandbox of a failed test: a sandbox that is lost or stands
still must not hold up the run."""
KEPT_COMMANDS = 50
"""Commands that a report shows, the last ones: a test rarely runs more."""
KEPT_OUTPUT = 2000
"""Characters of each stream of a command that a report shows."""
LOOK_INSIDE = "ls -la; echo; (ps -eo pid,user,stat,args || ps) 2>/dev/null | cut -c1-100"


@dataclasses.dataclass(slots=True, kw_only=True)
class CurrentTest:
    """What the factory knows of its test. `report` adds a text to the test's report.

    `shared` is a directory that all workers of the run have.
    """

    name: str
    keep: str
    skips: bool
    labels: Mapping[str, str]
    shared: Path
    report: Callable[[str], None]
    failed: bool = False
    kept: list[str] = dataclasses.field(default_factory=list)

    @property
    def keeps(self) -> bool:
        return self.keep == "on" or (self.keep == "retain-on-failure" and self.failed)

    def keepable(self, recipe: Backend) -> Backend:
        """Return `recipe` without a lease if its sandboxes may have to outlive the run."""
        if self.keep == "off" or not hasattr(recipe, "lease"):
            return recipe
        changes: dict[str, Any] = {"lease": None}
        return dataclasses.replace(recipe, **changes)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `@pytest.mark.sandbox` and the calls of the factory ask for."""

    image: str | Image | None = None
    network: str | Allow | Sequence[str] | None = None
    files: Mapping[str, str | bytes | Path] = dataclasses.field(default_factory=dict)
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resources: Resources | Mapping[str, float] | None = None

    def changed(self, values: Mapping[str, Any]) -> Wanted:
        """Return these with `values`, whose files and variables are added to those here."""
        names = [each.name for each in dataclasses.fields(self)]
        if unknown := sorted(values.keys() - set(names)):
            told = f"unknown: {', '.join(unknown)}; there are: {', '.join(names)}"
            raise ConfigError(f"what a sandbox of a test is like: {told}")
        for name in ("files", "env"):
            if not isinstance(values.get(name, {}), Mapping):
                raise ConfigError(f"{name}={values[name]!r}: give a dictionary")
        added = {
            name: {**getattr(self, name), **values[name]}
            for name in ("files", "env")
            if name in values
        }
        return dataclasses.replace(self, **{**values, **added})

    def recipe(self, base: Backend, labels: Mapping[str, str], folder: Path) -> Backend:
        """Return `base` with all of this. `folder` is where files stand until they are uploaded."""
        network = self.network
        if isinstance(network, list | tuple):
            network = Allow(hosts=list(network))
        elif not isinstance(network, str | Allow | None):
            raise ConfigError(f"network={network!r}: give text, Allow or a list of hosts")
        resources = self.resources
        if resources is not None and not isinstance(resources, Resources):
            resources = _resources(resources)
        asked = {"image": self.image, "network": network, "resources": resources}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        known = {each.name for each in dataclasses.fields(base)}
        for name in given:
            if name not in known:
                raise Unsupported(f"{name}=", backend=base.name)
        return dataclasses.replace(
            base,
            env_vars={**base.env_vars, **self.env},
            labels={**base.labels, **labels},
            uploads=[*base.uploads, *self._uploads(folder)],
            **given,
        )

    def _uploads(self, folder: Path) -> list[tuple[str, str]]:
        found = []
        for number, (name, content) in enumerate(self.files.items()):
            path = folder / str(number)
            match content:
                case _ if not isinstance(name, str):
                    raise ConfigError(f"files: {name!r}: give the path in the sandbox as text")
                case Path():
                    path = content
                    if not path.exists():
                        raise ConfigError(f"files[{name!r}]={content!r}: there is no such file")
                case str():
                    path.write_bytes(_utf8(f"files[{name!r}]", content))
                case bytes():
                    path.write_bytes(content)
                case _:
                    raise ConfigError(f"files[{name!r}]={content!r}: give text, bytes or a Path")
            found.append((str(path), name))
        return found


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name}: {error}; give bytes") from None


def _resources(given: object) -> Resources:
    names = {each.name for each in dataclasses.fields(Resources)}
    if not isinstance(given, Mapping) or not given.keys() <= names:
        told = f"give Resources, or a dictionary of {', '.join(sorted(names))}"
        raise ConfigError(f"resources={given!r}: {told}")
    return Resources(**given)


class SandboxFactory(AsyncResource):
    """Makes sandboxes for one test: ``async with sandbox_factory(env={"X": "1"}) as sandbox:``.

    Takes what ``@pytest.mark.sandbox`` takes; a call's values take precedence over the marker's.
    What a test has left open is closed when the test ends.
    """

    def __init__(
        self, base: Backend, markers: Sequence[Mapping[str, Any]], test: CurrentTest
    ) -> None:
        """`markers` are the arguments of the test's markers, the closest last."""
        self._base = base
        self._markers = markers
        self._test = test
        self._lent: list[_Lent] = []

    @contextlib.asynccontextmanager
    async def __call__(
        self, *, services: Mapping[str, Service] | None = None, **changes: Any
    ) -> AsyncIterator[Sandbox]:
        """Make a sandbox; close it at the end of the block.

        `services` are containers of testcontainers, by name. They are started, unless they run
        already, and programs inside reach them at ``$NAME_HOST`` and ``$NAME_PORT``, without a
        network. Raise `Unsupported` where `Capability.TCP` or Python is missing.
        """
        lent = await self._lend(changes, services if services is not None else {})
        try:
            yield lent.sandbox
        except BaseException:
            lent.raised = True
            # The test may expect the error, or skip: at its end we know whether it failed.
            if self._test.keep != "retain-on-failure":
                await finish(lent.end())
            raise
        else:
            await finish(lent.end())

    async def make(self) -> Sandbox:
        """Make a sandbox that is closed at the end of the test."""
        return (await self._lend({}, {})).sandbox

    async def _lend(self, changes: Mapping[str, Any], services: Mapping[str, Service]) -> _Lent:
        self._raise_if_closed()
        try:
            wanted = functools.reduce(Wanted.changed, [*self._markers, changes], Wanted())
            return await self._make(wanted, services)
        except (ConfigError, MissingDependency, Unsupported) as error:
            refusal = error
        if not isinstance(refusal, Unsupported):
            pytest.fail(str(refusal), pytrace=False)
        if self._test.skips:
            pytest.skip(str(refusal))
        pytest.fail(f"{refusal} (--sandbox-unsupported=skip skips such tests)", pytrace=False)

    def _raise_if_closed(self) -> None:
        if self.closed:
            raise ConfigError("sandbox_factory: the test that it belongs to has ended")

    async def _make(self, wanted: Wanted, services: Mapping[str, Service]) -> _Lent:
        beside = Services(services)
        lent = _Lent(self._test, beside)
        try:
            await beside.start()
            await self._make_sandbox(wanted, lent)
        except BaseException:
            await beside.aclose()
            raise
        await beside.join(lent.sandbox)
        return lent

    async def _make_sandbox(self, wanted: Wanted, lent: _Lent) -> None:
        with tempfile.TemporaryDirectory(prefix="paddock-files-") as folder:
            recipe = self._test.keepable(wanted.recipe(self._base, self._test.labels, Path(folder)))
            async with built_once(recipe, self._test.shared):
                lent.sandbox = await recipe.create(on_command=lent.commands.append)
        self._lent.append(lent)

    async def _close(self) -> None:
        errors = []
        for lent in reversed(self._lent):
            try:
                await lent.end()
            except Exception as error:
                errors.append(error)
        for lent in self._lent:
            if self._test.failed:
                self._test.report(lent.story())
        if errors:
            raise ExceptionGroup("sandboxes of a test could not be taken down", errors)


class _Lent:
    """A sandbox and what is known of it, which stays when it is gone."""

    sandbox: Sandbox

    def __init__(self, test: CurrentTest, services: Services) -> None:
        self._services = services
        self.commands: deque[CommandReport] = deque(maxlen=KEPT_COMMANDS)
        self._test = test
        self._notes: list[str] = []
        self.raised = False
        """Whether its block ended with an error, which may be the test's."""
        self._ending: Shared[None] | None = None

    async def end(self) -> None:
        """Close the sandbox or keep it; after a failure look inside before.

        Called again, it waits for the same: the block of a test may still be ending.
        """
        if self._ending is None:
            self._ending = Shared(self._end())
        await self._ending.wait()

    async def _end(self) -> None:
        if self._test.failed or self.raised:
            self._notes.append(await _look_inside(self.sandbox))
        await self._services.leave()
        try:
            if not (self._test.keeps and await self._keep()):
                await self.sandbox.aclose()
        finally:
            await self._services.aclose()

    async def _keep(self) -> bool:
        sandbox = self.sandbox
        try:
            await sandbox.detach()
        except (Unsupported, SandboxError) as error:
            self._notes.append(f"The sandbox could not be kept: {error}")
            return False
        self._test.kept.append(sandbox.id)
        told = f"kept: {sandbox.backend} sandbox {sandbox.id} (paddock ls)"
        self._test.report(told)
        return True

    def story(self) -> str:
        """Return what happened in the sandbox, without its secrets."""
        sandbox = self.sandbox
        lines = [f"sandbox {sandbox.id} ({sandbox.backend}), {len(self.commands)} commands:"]
        for report in self.commands:
            lines += _told(report, sandbox)
        for decision in sandbox.network_log:
            verdict = "allowed" if decision.allowed else "refused"
            lines.append(f"network: {verdict} {decision.host}:{decision.port}: {decision.reason}")
        return sandbox.redactor.text("\n".join([*lines, *self._notes]))


def _told(report: CommandReport, sandbox: Sandbox) -> list[str]:
    command, event = report.command, report.finished
    how = event.error if report.result is None else f"exit {event.exit_code}"
    shown = command if isinstance(command, str) else shlex.join(command)
    lines = [f"$ {shown}", f"  [{how}, {event.duration:.2f} s]"]
    if report.result is not None:
        result = report.result.redacted(sandbox.redactor)
        for text in (result.stdout, result.stderr):
            lines += [f"  {line}" for line in text[-KEPT_OUTPUT:].splitlines()]
    return lines


async def _look_inside(sandbox: Sandbox) -> str:
    """Return what the sandbox of a failed test uses, and what is in it."""
    lines = ["at the end:"]
    sandbox.on_command = None  # what we run is not one of the test's commands
    try:
        async with asyncio.timeout(POST_MORTEM_TIMEOUT):
            with contextlib.suppress(Unsupported):
                lines.append(f"  {await sandbox.stats()}")
            result = await sandbox.exec(LOOK_INSIDE, timeout=POST_MORTEM_TIMEOUT)
            lines += [f"  {line}" for line in result.stdout.splitlines()]
    except (PaddockError, ExecTimeout, TimeoutError) as error:
        lines.append(f"  {type(error).__name__}: {error}")
    return "\n".join(lines)


@contextlib.asynccontextmanager
async def built_once(recipe: Backend, shared: Path) -> AsyncIterator[None]:
    """Let one process of the run make the first sandbox of an image, and with it the image."""
    image = getattr(recipe, "image", None)
    if image is None:
        yield
        return
    key = hashlib.sha256(f"{recipe.name} {image!r}".encode()).hexdigest()[:16]
    done = shared / f"paddock-{key}.built"
    if done.exists():
        yield
        return
    with (shared / f"paddock-{key}.lock").open("w") as lock:
        await _lock(lock.fileno())
        yield
        done.touch()


async def _lock(descriptor: int) -> None:
    """Wait for the lock of an open file; closing the file lets go of it."""
    async with asyncio.timeout(BUILD_TIMEOUT):
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(LOOK_INTERVAL)
            else:
                return
