"""Errors of every part: a request is wrong, something is missing, or not supported."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "FenceUnavailable",
    "IsolationUnavailable",
    "MissingCredentials",
    "MissingDependency",
    "PaddockError",
    "Unsupported",
]


class PaddockError(Exception):
    """Base of every error of this package."""


class ConfigError(PaddockError, ValueError):
    """A recipe, a profile or a file that a person wrote is not valid."""


class MissingCredentials(ConfigError):
    """A service needs a key, and none was found; the message says where it was looked for."""


class MissingDependency(PaddockError, ImportError):
    """An optional package is needed; `extra` is what installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        how = f"pip install 'paddock[{self.extra}]'"
        return f"{self.package} is not installed; install it with: {how}"


class Unsupported(PaddockError):
    """The backend cannot do this. Nothing has been created."""

    def __init__(self, what: str, *, backend: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.backend = backend
        self.hint = hint

    def __str__(self) -> str:
        sentence = f"the {self.backend} backend does not support {self.what}"
        return f"{sentence}; {self.hint}" if self.hint else sentence


class IsolationUnavailable(Unsupported):
    """This machine cannot give the isolation level that was asked for."""

    def __init__(self, level: str, reason: str, *, backend: str, hint: str | None = None) -> None:
        super().__init__(f"isolation={level!r}", backend=backend, hint=hint)
        self.level = level
        self.reason = reason

    def __str__(self) -> str:
        sentence = f"isolation={self.level!r} is not available here: {self.reason}"
        return f"{sentence}; {self.hint}" if self.hint else sentence


class FenceUnavailable(PaddockError):
    """A command could not be fenced as asked, so it did not run; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the command did not run, because it cannot be fenced: {self.reason}"
