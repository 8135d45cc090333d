"""Every error that Paddock raises on purpose.

::

    PaddockError
    ├── ConfigError              a recipe, profile or file is not valid (ValueError)
    │   └── MissingCredentials   there is no key for a service
    ├── MissingDependency        an optional package is not installed (ImportError)
    ├── Unsupported              the backend cannot do what was asked; nothing has been made
    │   └── IsolationUnavailable this machine cannot give the isolation asked for
    ├── FenceUnavailable         a command could not be fenced as asked, and did not run
    ├── SandboxError
    │   ├── BuildFailed          a step of building an image failed
    │   ├── SetupFailed          a setup command returned non-zero (RuntimeError)
    │   ├── ExecFailed           ``check=True`` and a non-zero exit code
    │   ├── ExecTimeout          the command was killed at its deadline (TimeoutError)
    │   ├── CommandLost          the result of one call is lost, though the sandbox lives
    │   ├── FileChanged          a file was not what its writer expected
    │   ├── SandboxLost          the sandbox died or was taken away under us
    │   └── SandboxClosed        we closed it ourselves, earlier
    ├── ToolError                a tool says what its caller should do better
    ├── ModelError               the model's service failed for good, after retries
    │   └── ContextOverflow      the request has more tokens than the model takes
    ├── ObservabilityInitializationError  telemetry was asked for and cannot be (RuntimeError)
    ├── PlanError                a plan cannot be stored or executed (RuntimeError)
    ├── ReferenceFailed          a reference cannot be made or resolved (RuntimeError)
    └── SessionError
        ├── ApprovalError        an approval cannot be answered so
        ├── BudgetExceeded       the budget of a run is used up
        ├── SessionLocked        another process writes this session
        ├── TraceError           a trace cannot be read
        └── TraceWriteError      the trace could not be written; the run stops

A missing file, a directory where a file was meant, or a lack of rights raise the
builtin `FileNotFoundError`, `IsADirectoryError`, `PermissionError`, as pathlib does.

Data is on the exception; the sentence is made in ``__str__``.
"""

from paddock.errors.base import (
    ConfigError,
    FenceUnavailable,
    IsolationUnavailable,
    MissingCredentials,
    MissingDependency,
    PaddockError,
    Unsupported,
)
from paddock.errors.runs import (
    ApprovalError,
    BudgetExceeded,
    ContextOverflow,
    ModelError,
    ObservabilityInitializationError,
    PlanError,
    ReferenceFailed,
    RunClaimed,
    RunNotCompleted,
    SessionError,
    SessionLocked,
    ToolError,
    TraceError,
    TraceWriteError,
)
from paddock.errors.sandboxes import (
    BuildFailed,
    CommandLost,
    ExecFailed,
    ExecTimeout,
    FileChanged,
    SandboxClosed,
    SandboxError,
    SandboxLost,
    SetupFailed,
)

__all__ = [
    "ApprovalError",
    "BudgetExceeded",
    "BuildFailed",
    "CommandLost",
    "ConfigError",
    "ContextOverflow",
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
    "PlanError",
    "ReferenceFailed",
    "RunClaimed",
    "RunNotCompleted",
    "SandboxClosed",
    "SandboxError",
    "SandboxLost",
    "SessionError",
    "SessionLocked",
    "SetupFailed",
    "ToolError",
    "TraceError",
    "TraceWriteError",
    "Unsupported",
]
