"""A backend is a frozen recipe; a sandbox is what it makes.

Provisioning has one order everywhere: create, environment, uploads, setup commands,
ready. This module knows the order and no way of making a sandbox.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar, cast, get_args

from paddock._arguments import check_choice, check_limit, check_patterns, check_variables
from paddock._frozen import FrozenMapping
from paddock._logs import get_logger
from paddock.errors import ConfigError, MissingDependency, SandboxError, SetupFailed, Unsupported
from paddock.redaction import Redactor, Secrets
from paddock.transfers import DEFAULT_IGNORE, Links

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from paddock.backends.group import SandboxGroup
    from paddock.backends.images import Images
    from paddock.backends.pool import SandboxPool
    from paddock.process import CommandCallback
    from paddock.sandbox import Sandbox
    from paddock.transfers import TransferCallback

__all__ = [
    "Backend",
    "Progress",
    "ProgressCallback",
    "SandboxInfo",
    "backend_names",
    "get_backend",
]

T = TypeVar("T", bound="Sandbox")

GROUP = "paddock.backends"
"""Entry points of this group are backends, by name; any package may add one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of making a sandbox: `step` begins, with `detail` for a person to read.

    `milestone` marks a coarse step, such as an instruction of a build. `done` is the number of
    bytes of an upload that were sent, of `total` if that is known; None before the first. With
    `warning` the `detail` may surprise the user, such as the entries that an upload left out;
    a display keeps it.
    """

    step: Literal["create", "image", "upload", "setup", "ready"]
    detail: str = ""
    milestone: bool = False
    done: int | None = None
    total: int | None = None
    warning: bool = False


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxInfo:
    """A sandbox as it is seen from outside, of any owner.

    `image` and `working_dir` are None if the backend has none or cannot see it. `created` is in
    UTC. `owner` says whether the process that made the sandbox still holds it; `"unknown"` is
    an owner on another machine, or with another directory for its locks.
    """

    id: str
    backend: str
    state: Literal["starting", "running", "paused", "ended"]
    owner: Literal["alive", "gone", "unknown"]
    created: datetime
    image: str | None = None
    working_dir: str | None = None
    labels: Mapping[str, str] = field(default_factory=FrozenMapping)


@dataclass(frozen=True, kw_only=True)
class Backend(ABC):
    """A recipe for sandboxes: a value without connections, safe to share and to compare.

    Vary one with `dataclasses.replace`.

    - `env_vars`: the environment of every command.
    - `secrets`: more variables, which only the commands get, not the engine or service that
      makes the sandbox. They are redacted in progress, errors and what an agent reads.
      `ConfigError` for values that cannot be redacted, such as those of less than 8 bytes.
    - `uploads`: pairs of a path on this machine and a path in the sandbox.
    - `upload_ignore`, `upload_gitignore`, `upload_links`: how trees are uploaded, see
      `FileSystem.upload`.
    - `setup`: shell commands run in `working_dir` in order, each within
      `setup_timeout` seconds; the first that fails stops the provisioning.
    - `working_dir`: where commands run and relative paths begin.
    - `labels`: any pairs, to tell sandboxes apart.
    - `lifetime`, `idle_timeout`: seconds after which a sandbox ends by itself, see
      `Sandbox.limit_time`; the lifetime begins before uploads and setup.

    `working_dir` defaults to `default_working_dir`. A backend without a default works with
    directories of this machine, and gives each sandbox a fresh one.
    """

    name: ClassVar[str]
    default_working_dir: ClassVar[str | None] = None

    env_vars: Mapping[str, str] = field(default_factory=FrozenMapping)
    secrets: Mapping[str, str] = field(default_factory=Secrets, repr=False)
    uploads: Sequence[tuple[str, str]] = ()
    upload_ignore: Sequence[str] = DEFAULT_IGNORE
    upload_gitignore: bool = False
    upload_links: Links = "keep"
    setup: Sequence[str] = ()
    setup_timeout: float | None = 1800.0
    working_dir: str | None = None
    labels: Mapping[str, str] = field(default_factory=FrozenMapping)
    lifetime: float | None = None
    idle_timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("setup", "uploads"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} takes a list, not one string")
        variables = check_variables("env_vars", self.env_vars)
        object.__setattr__(self, "env_vars", FrozenMapping(variables))
        object.__setattr__(self, "secrets", Secrets(self.secrets))
        object.__setattr__(self, "labels", FrozenMapping(self.labels))
        object.__setattr__(self, "setup", tuple(self.setup))
        object.__setattr__(
            self, "uploads", tuple((str(here), str(there)) for here, there in self.uploads)
        )
        ignore = check_patterns("upload_ignore", self.upload_ignore)
        object.__setattr__(self, "upload_ignore", ignore)
        check_choice("upload_links", self.upload_links, get_args(Links))
        check_limit("lifetime", self.lifetime)
        check_limit("idle_timeout", self.idle_timeout)

    @property
    def known_working_dir(self) -> str | None:
        """The directory of commands, if it is known before a sandbox is made."""
        return self.working_dir or self.default_working_dir

    @property
    def images(self) -> Images:
        """The images of the place where this recipe makes sandboxes.

        Raise `Unsupported` if the backend's sandboxes do not start from images.
        """
        raise Unsupported("images", backend=self.name)

    def engines(self) -> Sequence[Backend]:
        """Return this recipe once for each engine that it names."""
        return (self,)

    async def is_here(self) -> bool:
        """Return whether the sandboxes run on this machine and use its memory."""
        return False

    @contextlib.asynccontextmanager
    async def sandbox(
        self, *, on_progress: ProgressCallback | None = None
    ) -> AsyncIterator[Sandbox]:
        """Make a sandbox, provision it, and take it down at the end of the block.

        Raises what `create` raises. The sandbox is taken down completely even if cancelled.
        """
        sandbox = await self.create(on_progress=on_progress)
        try:
            yield sandbox
        finally:
            await sandbox.aclose()

    async def create(
        self,
        *,
        on_progress: ProgressCallback | None = None,
        on_command: CommandCallback | None = None,
    ) -> Sandbox:
        """Make a sandbox and provision it; the caller owns it and must `aclose()` it.

        `on_command` becomes `Sandbox.on_command`, before the setup commands run.

        Raise `Unsupported`, before anything is made, if the backend cannot do here what the
        recipe asks for, and `SetupFailed` for a setup command that returned non-zero or ran too
        long. On any failure or cancellation, whatever was made is removed before the exception
        arrives.
        """
        tell = self._discreet(on_progress or unwatched)
        tell(Progress(step="create"))
        sandbox = self.set_secrets(await self._make(tell))
        sandbox.on_command = on_command
        try:
            if self.lifetime is not None or self.idle_timeout is not None:
                await sandbox.limit_time(lifetime=self.lifetime, idle_timeout=self.idle_timeout)
            for here, there in self.uploads:
                upload = Progress(step="upload", detail=f"{here} -> {there}")
                tell(upload)
                transfer = await sandbox.fs.upload(
                    here,
                    there,
                    ignore=self.upload_ignore,
                    gitignore=self.upload_gitignore,
                    links=self.upload_links,
                    on_progress=_told(upload, tell),
                )
                if transfer.left_out_total:
                    tell(Progress(step="upload", detail=f"{here}: {transfer}", warning=True))
            for command in self.setup_commands():
                tell(Progress(step="setup", detail=command))
                result = await sandbox.exec(command, timeout=self.setup_timeout)
                if not result.ok:
                    raise SetupFailed(command, result, redactor=self.redactor)
            tell(Progress(step="ready"))
        except BaseException:
            await sandbox.aclose()
            raise
        return sandbox

    @cached_property
    def redactor(self) -> Redactor:
        """Redacts the recipe's secrets."""
        return Redactor(self.secrets)

    def set_secrets(self, sandbox: T) -> T:
        """Give `sandbox` the recipe's secrets, and return it."""
        sandbox.secrets = Secrets(self.secrets)
        sandbox.redactor = self.redactor
        return sandbox

    def _discreet(self, tell: ProgressCallback) -> ProgressCallback:
        """Return `tell` with secrets redacted in the details."""
        if not self.redactor or tell is unwatched:
            return tell
        redactor = self.redactor
        return lambda progress: tell(replace(progress, detail=redactor.text(progress.detail)))

    def setup_commands(self) -> Sequence[str]:
        """Return the commands to run in a new sandbox: `setup`, after others of the recipe."""
        return self.setup

    def pool(self, *, size: int, concurrency: int = 4, max_age: float | None = None) -> SandboxPool:
        """Keep sandboxes of this recipe ready: ``async with backend.pool(size=8) as pool:``.

        The pool keeps `size` unused ones and replaces those that are taken; it makes at most
        `concurrency` at once. One that was not taken within `max_age` seconds is replaced too.
        """
        from paddock.backends.pool import SandboxPool

        return SandboxPool(self.create, size=size, concurrency=concurrency, max_age=max_age)

    def group(self, size: int) -> SandboxGroup:
        """Make sandboxes of one prepared state: ``async with backend.group(8) as group:``.

        If the backend can fork, the recipe is carried out only once. `SandboxGroup.reset` brings
        a sandbox back to that state.
        """
        from paddock.backends.group import SandboxGroup

        return SandboxGroup(self.create, size=size)

    async def attach(self, sandbox_id: str) -> Sandbox:
        """Join a sandbox that another process made; see `Sandbox.detach`.

        The caller has to close it, which takes the sandbox down, or to detach from it. A paused
        sandbox is resumed. Raise `Unsupported` if only its maker can use a sandbox of this
        backend, and `ConfigError` for one that Paddock did not make.
        """
        raise Unsupported("attach()", backend=self.name)

    async def delete(self, sandbox_id: str) -> bool:
        """Take down the sandbox of this id, of any owner; return False if it does not exist.

        Its owner, if any, gets `SandboxLost`. What Paddock did not make is never touched, as if
        it did not exist. Deleting twice is fine.
        """
        raise Unsupported("deleting by id", backend=self.name)

    async def gc(self) -> Sequence[str]:
        """Remove what dead owners left behind; return the ids of what was removed.

        Making the first sandbox in a process does the same.
        """
        raise Unsupported("collecting what was left behind", backend=self.name)

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[SandboxInfo]:
        """Return the sandboxes of all owners, oldest first; only those with all of `labels` if
        given. Of this recipe, only the fields that say where to look matter."""
        raise Unsupported("listing sandboxes", backend=self.name)

    async def _collect_once(self, place: str = "") -> None:
        """Call `gc` the first time that this process makes sandboxes at `place`; log what cannot
        be removed."""
        if (self.name, place) in _collected:
            return
        _collected.add((self.name, place))
        try:
            await self.gc()
        except SandboxError as error:
            _log.warning("could not remove everything that dead processes left behind: %s", error)

    @abstractmethod
    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        """Return an empty sandbox, ready for commands; on failure or cancellation leave nothing."""


_collected: set[tuple[str, str]] = set()
_log = get_logger(__name__)


def _told(upload: Progress, tell: ProgressCallback) -> TransferCallback | None:
    if tell is unwatched:
        return None
    return lambda done, total: tell(replace(upload, done=done, total=total))


def unwatched(progress: Progress) -> None:
    """The progress callback if the user gave none; a backend then need not report anything."""


def backend_names() -> list[str]:
    """Return the names of all installed backends."""
    return sorted(entry_points(group=GROUP).names)


def get_backend(name: str) -> type[Backend]:
    """Return the backend called `name`; raise `ConfigError` if there is none."""
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise ConfigError(f"no backend is called {name!r}; there are: {', '.join(backend_names())}")
    try:
        return cast("type[Backend]", next(iter(found)).load())
    except ImportError as error:
        if isinstance(error, MissingDependency):
            raise
        raise ConfigError(f"the backend {name!r} cannot be loaded: {error}") from error
