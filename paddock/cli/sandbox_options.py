"""The options of a sandbox, which several commands have: stated once, taken as one value."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from paddock.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import typer

    from paddock.cli.recipes import Described
    from paddock.redaction import Secrets

__all__ = ["SandboxOptions", "with_sandbox_options"]


_REPLACED = (
    "type", "isolation", "network", "hardening", "host", "runtime", "config", "volumes",
    "uploads", "upload_ignore", "upload_gitignore", "upload_links", "image", "working_dir", "setup",
)  # fmt: skip
"""Keys of a recipe that go when a backend is named."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """The options of a sandbox, as they were given. `project` says to read the project's file."""

    backend: str | None
    image: str | None
    dockerfile: Path | None
    snapshot: str | None
    upload: Sequence[str] | None
    ignore: Sequence[str] | None
    gitignore: bool | None
    links: str | None
    setup: Sequence[str] | None
    env: Sequence[str] | None
    working_dir: str | None
    isolation: str | None
    network: str | None
    no_setup: bool
    secret: Sequence[str] | None
    short_secret: Sequence[str] | None
    project: bool
    trust: bool

    def secrets(self) -> Secrets:
        """Read those that were given, see `read_secrets`."""
        return options.read_secrets(self.secret, self.short_secret)

    def unless_from_environment(self, context: typer.Context) -> SandboxOptions:
        """Return these without a backend that a variable names, and no option."""
        backend = options.unless_from_environment(context, "backend", self.backend)
        return dataclasses.replace(self, backend=backend)

    @property
    def described(self) -> Described:
        """What describes the sandbox beside its backend and its place."""
        from paddock.cli.recipes import Described

        return cast("Described", {name: getattr(self, name) for name in Described.__annotations__})

    @property
    def overridden(self) -> set[str]:
        """The keys of an agent's file that these options decide instead."""
        found = {f"backend.{each}" for each in _REPLACED} if self.backend else set()
        pairs = {
            "backend.image": self.image or self.dockerfile or self.snapshot,
            "backend.uploads": self.upload,
            "backend.upload_gitignore": self.gitignore is not None,
            "backend.upload_links": self.links,
            "backend.setup": self.setup or self.no_setup,
            "backend.isolation": self.isolation,
            "backend.network": self.network,
            "backend.working_dir": self.working_dir,
            "working_dir": self.working_dir,
            "backend": self.backend,
        }
        return found | {key for key, given in pairs.items() if given}


def with_sandbox_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a sandbox; it takes them as its argument `sandbox`."""
    own = inspect.signature(command, eval_str=True).parameters
    added = inspect.signature(_take, eval_str=True).parameters

    @functools.wraps(command)
    def run(**given: Any) -> None:
        sandbox = SandboxOptions(**{name: given.pop(name) for name in added})
        command(**given, sandbox=sandbox)

    parameters = [each for each in (*own.values(), *added.values()) if each.name != "sandbox"]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Typer reads it
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    return run


def _take(
    backend: options.BackendName = None,
    image: options.Image = None,
    dockerfile: options.Dockerfile = None,
    snapshot: options.Snapshot = None,
    upload: options.Upload = None,
    ignore: options.Ignore = None,
    gitignore: options.Gitignore = None,
    links: options.LinksOption = None,
    setup: options.Setup = None,
    env: options.Env = None,
    working_dir: options.WorkingDir = None,
    isolation: options.Isolation = None,
    network: options.Network = None,
    no_setup: options.NoSetup = False,
    secret: options.Secret = None,
    short_secret: options.ShortSecret = None,
    project: options.ProjectFile = True,
    trust: options.Trust = False,
) -> None:
    """Has the parameters that a command is given."""
