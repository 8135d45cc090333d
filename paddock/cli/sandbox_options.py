"""The options of a sandbox, which several commands have, as one value."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from paddock.cli import options

if TYPE_CHECKING:
    import typer

    from paddock.redaction import Secrets

__all__ = ["SandboxOptions"]


_REPLACED = (
    "type", "isolation", "network", "hardening", "host", "runtime", "config", "volumes", "dirs",
    "uploads", "upload_ignore", "upload_gitignore", "upload_links", "image", "working_dir", "setup",
)  # fmt: skip
"""Keys of a recipe that go when a backend is named."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """The options of a sandbox, as they were given. `project` says to read the project's file."""

    backend: options.BackendName = None
    image: options.Image = None
    dockerfile: options.Dockerfile = None
    snapshot: options.Snapshot = None
    upload: options.Upload = None
    ignore: options.Ignore = None
    gitignore: options.Gitignore = None
    links: options.LinksOption = None
    setup: options.Setup = None
    env: options.Env = None
    working_dir: options.WorkingDir = None
    dirs: options.Dirs = None
    isolation: options.Isolation = None
    network: options.Network = None
    no_setup: options.NoSetup = False
    secret: options.Secret = None
    short_secret: options.ShortSecret = None
    project: options.ProjectFile = True
    trust: options.Trust = False

    def secrets(self) -> Secrets:
        """Read those that were given, see `read_secrets`."""
        return options.read_secrets(self.secret, self.short_secret)

    def unless_from_environment(self, context: typer.Context) -> SandboxOptions:
        """Return these without a backend that a variable names, and no option."""
        source = context.get_parameter_source("backend")
        is_given = source is None or source.name != "ENVIRONMENT"
        return self if is_given else dataclasses.replace(self, backend=None)

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
            "backend.dirs": self.dirs,
            "backend.network": self.network,
            "backend.working_dir": self.working_dir,
            "working_dir": self.working_dir,
            "backend": self.backend,
        }
        return found | {key for key, given in pairs.items() if given}
