"""Sandboxes for agents: provision, run tool calls in them, take everything down again.

The public names, each imported from its home when it is first used, so that
``import paddock`` costs next to nothing and loads no dependency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.errors import (
        ConfigError,
        ExecFailed,
        ExecTimeout,
        FileChanged,
        IsolationUnavailable,
        MissingDependency,
        ModelError,
        PaddockError,
        SandboxClosed,
        SandboxError,
        SandboxLost,
        SessionError,
        SessionLocked,
        SetupFailed,
        TraceError,
        TraceWriteError,
        Unsupported,
    )
    from paddock.files import (
        FileInfo,
        FileSystem,
    )
    from paddock.sandbox import (
        Capability,
        ExecResult,
        Output,
        Process,
        Resources,
        Sandbox,
    )

    __version__: str

__all__ = [
    "Capability",
    "ConfigError",
    "ExecFailed",
    "ExecResult",
    "ExecTimeout",
    "FileChanged",
    "FileInfo",
    "FileSystem",
    "IsolationUnavailable",
    "MissingDependency",
    "ModelError",
    "Output",
    "PaddockError",
    "Process",
    "Resources",
    "Sandbox",
    "SandboxClosed",
    "SandboxError",
    "SandboxLost",
    "SessionError",
    "SessionLocked",
    "SetupFailed",
    "TraceError",
    "TraceWriteError",
    "Unsupported",
    "__version__",
]

_HOMES = {
    "paddock.errors": (
        "ConfigError",
        "ExecFailed",
        "ExecTimeout",
        "FileChanged",
        "IsolationUnavailable",
        "MissingDependency",
        "ModelError",
        "PaddockError",
        "SandboxClosed",
        "SandboxError",
        "SandboxLost",
        "SessionError",
        "SessionLocked",
        "SetupFailed",
        "TraceError",
        "TraceWriteError",
        "Unsupported",
    ),
    "paddock.files": (
        "FileInfo",
        "FileSystem",
    ),
    "paddock.sandbox": (
        "Capability",
        "ExecResult",
        "Output",
        "Process",
        "Resources",
        "Sandbox",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("paddock")
    elif name in _HOME_OF:
        from importlib import import_module

        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
