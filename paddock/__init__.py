"""Sandboxes for agents: provision, run tool calls in them, take everything down again.

The public names, each imported from its home when it is first used, so that
``import paddock`` costs next to nothing and loads no dependency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.backends.base import (
        Backend,
        Progress,
        ProgressCallback,
        SandboxInfo,
        backend_names,
        get_backend,
    )
    from paddock.backends.daytona import (
        DaytonaBackend,
    )
    from paddock.backends.docker import (
        DockerBackend,
    )
    from paddock.backends.local import (
        LocalBackend,
    )
    from paddock.backends.pool import (
        PoolStats,
        SandboxPool,
    )
    from paddock.errors import (
        BudgetExceeded,
        BuildFailed,
        CommandLost,
        ConfigError,
        ExecFailed,
        ExecTimeout,
        FenceUnavailable,
        FileChanged,
        IsolationUnavailable,
        MissingCredentials,
        MissingDependency,
        ModelError,
        ObservabilityInitializationError,
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
    from paddock.image import (
        Image,
    )
    from paddock.network import (
        Allow,
        NetworkDecision,
    )
    from paddock.runtime.agent import (
        Agent,
    )
    from paddock.runtime.api import (
        AgentRuntime,
        close_runtime,
        create_runtime,
        dispatch_prompt,
        reconfigure_runtime,
        run_prompt,
        session_usage,
        start_runtime,
    )
    from paddock.runtime.approvals import (
        ApprovalCallback,
        ApprovalInterrupt,
        ToolApprovalItem,
        ToolDecision,
    )
    from paddock.runtime.atif import (
        trace_to_atif,
    )
    from paddock.runtime.budget import (
        Budget,
        Ledger,
    )
    from paddock.runtime.cancellation import (
        CancellationToken,
    )
    from paddock.runtime.config import (
        AgentConfig,
    )
    from paddock.runtime.dispatch import (
        JobUpdate,
        Outcome,
        dispatch,
    )
    from paddock.runtime.handle import AgentHandle
    from paddock.runtime.models.base import (
        ModelClient,
        ModelEvent,
        ModelRequest,
        ModelResponse,
        TextDelta,
        ToolCall,
        Usage,
    )
    from paddock.runtime.models.scripted import (
        ScriptedModel,
    )
    from paddock.runtime.observability import (
        ObservabilityConfig,
        TelemetryStorage,
    )
    from paddock.runtime.options import RuntimeOptions
    from paddock.runtime.outlet import (
        EventCallback,
    )
    from paddock.runtime.permissions import (
        ApprovalMode,
        CapabilityProfile,
        DatabaseMode,
        FileWriteMode,
        PermissionProfile,
        ShellFence,
        ShellMode,
        load_profile,
    )
    from paddock.runtime.results import (
        AgentEvent,
        CompactResult,
        RunResult,
    )
    from paddock.runtime.run_state import (
        RunState,
    )
    from paddock.runtime.run_store import (
        RunStore,
        SqliteRunStore,
        run_prompt_stored,
    )
    from paddock.runtime.session import (
        Session,
    )
    from paddock.runtime.state import (
        State,
        StateObserver,
    )
    from paddock.runtime.store import (
        SessionInfo,
        SessionStore,
    )
    from paddock.runtime.stream import (
        RunStream,
    )
    from paddock.runtime.tools.agent_tool import (
        AgentToolHandler,
    )
    from paddock.runtime.tools.base import (
        ToolContext,
        ToolHandler,
        ToolInvocation,
        ToolOutput,
    )
    from paddock.runtime.tools.bash import (
        BashHandler,
    )
    from paddock.runtime.tools.delegate import (
        DelegateHandler,
    )
    from paddock.runtime.tools.edit import (
        EditHandler,
    )
    from paddock.runtime.tools.excel import (
        ReadExcelHandler,
    )
    from paddock.runtime.tools.factory import (
        build_registry,
    )
    from paddock.runtime.tools.files import (
        ListHandler,
        ReadHandler,
        WriteHandler,
    )
    from paddock.runtime.tools.registry import (
        ToolRegistry,
    )
    from paddock.runtime.tools.search import (
        GlobHandler,
        GrepHandler,
    )
    from paddock.sandbox import (
        Capability,
        ExecResult,
        Fence,
        Output,
        Process,
        Resources,
        Sandbox,
        Stats,
    )

    __version__: str

__all__ = [
    "Agent",
    "AgentConfig",
    "AgentEvent",
    "AgentHandle",
    "AgentRuntime",
    "AgentToolHandler",
    "Allow",
    "ApprovalCallback",
    "ApprovalInterrupt",
    "ApprovalMode",
    "Backend",
    "BashHandler",
    "Budget",
    "BudgetExceeded",
    "BuildFailed",
    "CancellationToken",
    "Capability",
    "CapabilityProfile",
    "CommandLost",
    "CompactResult",
    "ConfigError",
    "DatabaseMode",
    "DaytonaBackend",
    "DelegateHandler",
    "DockerBackend",
    "EditHandler",
    "EventCallback",
    "ExecFailed",
    "ExecResult",
    "ExecTimeout",
    "Fence",
    "FenceUnavailable",
    "FileChanged",
    "FileInfo",
    "FileSystem",
    "FileWriteMode",
    "GlobHandler",
    "GrepHandler",
    "Image",
    "IsolationUnavailable",
    "JobUpdate",
    "Ledger",
    "ListHandler",
    "LocalBackend",
    "MissingCredentials",
    "MissingDependency",
    "ModelClient",
    "ModelError",
    "ModelEvent",
    "ModelRequest",
    "ModelResponse",
    "NetworkDecision",
    "ObservabilityConfig",
    "ObservabilityInitializationError",
    "Outcome",
    "Output",
    "PaddockError",
    "PermissionProfile",
    "PoolStats",
    "Process",
    "Progress",
    "ProgressCallback",
    "ReadExcelHandler",
    "ReadHandler",
    "Resources",
    "RunResult",
    "RunState",
    "RunStore",
    "RunStream",
    "RuntimeOptions",
    "Sandbox",
    "SandboxClosed",
    "SandboxError",
    "SandboxInfo",
    "SandboxLost",
    "SandboxPool",
    "ScriptedModel",
    "Session",
    "SessionError",
    "SessionInfo",
    "SessionLocked",
    "SessionStore",
    "SetupFailed",
    "ShellFence",
    "ShellMode",
    "SqliteRunStore",
    "State",
    "StateObserver",
    "Stats",
    "TelemetryStorage",
    "TextDelta",
    "ToolApprovalItem",
    "ToolCall",
    "ToolContext",
    "ToolDecision",
    "ToolHandler",
    "ToolInvocation",
    "ToolOutput",
    "ToolRegistry",
    "TraceError",
    "TraceWriteError",
    "Unsupported",
    "Usage",
    "WriteHandler",
    "__version__",
    "backend_names",
    "build_registry",
    "close_runtime",
    "create_runtime",
    "dispatch",
    "dispatch_prompt",
    "get_backend",
    "load_profile",
    "reconfigure_runtime",
    "run_prompt",
    "run_prompt_stored",
    "session_usage",
    "start_runtime",
    "trace_to_atif",
]

_HOMES = {
    "paddock.backends.base": (
        "Backend",
        "Progress",
        "ProgressCallback",
        "SandboxInfo",
        "backend_names",
        "get_backend",
    ),
    "paddock.backends.daytona": ("DaytonaBackend",),
    "paddock.backends.docker": ("DockerBackend",),
    "paddock.backends.local": ("LocalBackend",),
    "paddock.backends.pool": (
        "PoolStats",
        "SandboxPool",
    ),
    "paddock.errors": (
        "BudgetExceeded",
        "BuildFailed",
        "CommandLost",
        "ConfigError",
        "ExecFailed",
        "ExecTimeout",
        "FenceUnavailable",
        "FileChanged",
        "IsolationUnavailable",
        "MissingCredentials",
        "MissingDependency",
        "ModelError",
        "ObservabilityInitializationError",
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
    "paddock.image": ("Image",),
    "paddock.files": (
        "FileInfo",
        "FileSystem",
    ),
    "paddock.network": (
        "Allow",
        "NetworkDecision",
    ),
    "paddock.runtime.agent": ("Agent",),
    "paddock.runtime.api": (
        "AgentRuntime",
        "close_runtime",
        "create_runtime",
        "dispatch_prompt",
        "reconfigure_runtime",
        "run_prompt",
        "session_usage",
        "start_runtime",
    ),
    "paddock.runtime.approvals": (
        "ApprovalCallback",
        "ApprovalInterrupt",
        "ToolApprovalItem",
        "ToolDecision",
    ),
    "paddock.runtime.atif": ("trace_to_atif",),
    "paddock.runtime.budget": (
        "Budget",
        "Ledger",
    ),
    "paddock.runtime.cancellation": ("CancellationToken",),
    "paddock.runtime.config": ("AgentConfig",),
    "paddock.runtime.dispatch": (
        "JobUpdate",
        "Outcome",
        "dispatch",
    ),
    "paddock.runtime.handle": ("AgentHandle",),
    "paddock.runtime.models.base": (
        "ModelClient",
        "ModelEvent",
        "ModelRequest",
        "ModelResponse",
        "TextDelta",
        "ToolCall",
        "Usage",
    ),
    "paddock.runtime.models.scripted": ("ScriptedModel",),
    "paddock.runtime.observability": (
        "ObservabilityConfig",
        "TelemetryStorage",
    ),
    "paddock.runtime.options": ("RuntimeOptions",),
    "paddock.runtime.outlet": ("EventCallback",),
    "paddock.runtime.permissions": (
        "ApprovalMode",
        "CapabilityProfile",
        "DatabaseMode",
        "FileWriteMode",
        "PermissionProfile",
        "ShellFence",
        "ShellMode",
        "load_profile",
    ),
    "paddock.runtime.results": (
        "AgentEvent",
        "CompactResult",
        "RunResult",
    ),
    "paddock.runtime.run_state": ("RunState",),
    "paddock.runtime.run_store": (
        "RunStore",
        "SqliteRunStore",
        "run_prompt_stored",
    ),
    "paddock.runtime.session": ("Session",),
    "paddock.runtime.state": (
        "State",
        "StateObserver",
    ),
    "paddock.runtime.store": (
        "SessionInfo",
        "SessionStore",
    ),
    "paddock.runtime.stream": ("RunStream",),
    "paddock.runtime.tools.agent_tool": ("AgentToolHandler",),
    "paddock.runtime.tools.base": (
        "ToolContext",
        "ToolHandler",
        "ToolInvocation",
        "ToolOutput",
    ),
    "paddock.runtime.tools.bash": ("BashHandler",),
    "paddock.runtime.tools.delegate": ("DelegateHandler",),
    "paddock.runtime.tools.edit": ("EditHandler",),
    "paddock.runtime.tools.excel": ("ReadExcelHandler",),
    "paddock.runtime.tools.factory": ("build_registry",),
    "paddock.runtime.tools.files": (
        "ListHandler",
        "ReadHandler",
        "WriteHandler",
    ),
    "paddock.runtime.tools.registry": ("ToolRegistry",),
    "paddock.runtime.tools.search": (
        "GlobHandler",
        "GrepHandler",
    ),
    "paddock.sandbox": (
        "Capability",
        "ExecResult",
        "Fence",
        "Output",
        "Process",
        "Resources",
        "Sandbox",
        "Stats",
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
