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
    │   ├── CommandLost          one call's result cannot be had, though the sandbox lives
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

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.process import ExecResult
    from paddock.redaction import Redactor

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


class PaddockError(Exception):
    """Base of every error of this package."""


class ConfigError(PaddockError, ValueError):
    """A recipe, a profile or a file that a person wrote is not valid."""


class MissingCredentials(ConfigError):
    """A service takes a key, and there is none; the message says where it is looked for."""


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
        sentence = f"isolation={self.level!r} cannot be had here: {self.reason}"
        return f"{sentence}; {self.hint}" if self.hint else sentence


class FenceUnavailable(PaddockError):
    """A command could not be fenced as asked, so it did not run; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the command did not run, because it cannot be fenced: {self.reason}"


class SandboxError(PaddockError):
    """Something went wrong with a sandbox or in it."""


def _last_lines(text: str, count: int = 20) -> str:
    return "\n".join(text.rstrip().splitlines()[-count:])


def _shown(command: str | Sequence[str]) -> str:
    return command if isinstance(command, str) else " ".join(command)


class BuildFailed(SandboxError):
    """A `step` of building an `image` failed, for `reason`; `output` is the end of what it said."""

    def __init__(
        self, image: str, *, step: str, reason: str, output: str = "", hint: str | None = None
    ) -> None:
        super().__init__(image, step, reason)
        self.image = image
        self.step = step
        self.reason = reason
        self.output = output
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"building {self.image} failed at: {self.step}", self.reason.strip()]
        lines += [_last_lines(self.output)] if self.output.strip() else []
        lines += [self.hint] if self.hint else []
        return "\n".join(lines)


class _CommandError(SandboxError):
    """A command and what came of it.

    They are as they were. What `redactor` knows is in neither `str` nor `repr`.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        result: ExecResult,
        *,
        redactor: Redactor | None = None,
    ) -> None:
        super().__init__(command, result)
        self.command = command
        self.result = result
        self._redactor = redactor

    @property
    def exit_code(self) -> int:
        return self.result.exit_code

    @property
    def stdout(self) -> str:
        return self.result.stdout

    @property
    def stderr(self) -> str:
        return self.result.stderr

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _told(self, what: str) -> str:
        """`what` happened to the command, and the end of what it said."""
        command, result = _shown(self.command), self.result
        if self._redactor is not None:
            command = self._redactor.text(command)
            result = result.redacted(self._redactor)
        output = _last_lines(result.stderr or result.stdout)
        sentence = f"{what}: {command}"
        return f"{sentence}\n{output}" if output else sentence


class SetupFailed(_CommandError, RuntimeError):
    """A setup command returned non-zero; the sandbox was deleted."""

    def __str__(self) -> str:
        return self._told(f"Setup command failed (exit {self.exit_code})")


class ExecFailed(_CommandError):
    """A command returned non-zero and ``check=True`` was given."""

    def __str__(self) -> str:
        return self._told(f"command failed (exit {self.exit_code})")


class ExecTimeout(_CommandError, TimeoutError):
    """A command ran past its `timeout` (seconds) and its whole process tree was killed.

    `result` holds the output up to then.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        result: ExecResult,
        *,
        timeout: float,
        redactor: Redactor | None = None,
    ) -> None:
        super().__init__(command, result, redactor=redactor)
        self.timeout = timeout

    def __str__(self) -> str:
        return self._told(f"command timed out after {self.timeout:g} s and was killed")


class CommandLost(SandboxError):
    """The result of one call cannot be had, and `reason` says why. The sandbox lives.

    A command that this is raised for has been killed; whether a request took effect is not
    known.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FileChanged(SandboxError):
    """The file was to be replaced only if still as read, and it was not. It is untouched."""


class SandboxLost(SandboxError):
    """The sandbox is gone, and `reason` says how. Never the output of a command."""

    def __init__(self, reason: str, *, sandbox_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sandbox_id = sandbox_id

    def __str__(self) -> str:
        name = f"sandbox {self.sandbox_id}" if self.sandbox_id else "the sandbox"
        return f"{name} was lost: {self.reason}"


class SandboxClosed(SandboxError):
    """The sandbox was used after its own `aclose()`."""


class ToolError(PaddockError):
    """Raise it in a tool that cannot do what it was asked, to tell the model what to do better.

    The model reads the text and nothing else; any other exception is reported to it as a failure
    of the tool.
    """


class ModelError(PaddockError):
    """The model's service failed and retrying did not help.

    `status` is the HTTP status, or None when no answer came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ContextOverflow(ModelError):
    """The service says that the request has more tokens than the model takes."""


class ObservabilityInitializationError(PaddockError, RuntimeError):
    """Telemetry was asked for and cannot be kept; `details` says why.

    `config_path` is the file that asked for it, where one did.
    """

    def __init__(
        self,
        details: str,
        *,
        config_path: str | None = None,
        team_id: str | None = None,
        project_id: str | None = None,
    ) -> None:
        super().__init__(details)
        self.details = details
        self.config_path = config_path
        self.team_id = team_id
        self.project_id = project_id

    def __str__(self) -> str:
        return f"telemetry cannot be kept: {self.details}"


class PlanError(PaddockError, RuntimeError):
    """A plan cannot be stored or executed as asked; `code` says why."""

    def __init__(
        self,
        plan_id: str,
        code: Literal["unknown", "invalid", "not_draft", "changed", "busy", "ended", "dispatcher"],
        reason: str,
    ) -> None:
        super().__init__(plan_id, code, reason)
        self.plan_id = plan_id
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"plan {self.plan_id!r}: {self.reason}"


class ReferenceFailed(PaddockError, RuntimeError):
    """A reference of the kind `kind` cannot be made or resolved; `code` says why.

    Models read the same text for the last three codes, so that nobody learns of other tenants.
    """

    def __init__(
        self,
        kind: str,
        code: Literal["unknown_kind", "schema", "gone", "expired", "other_tenant"],
        reason: str,
    ) -> None:
        super().__init__(kind, code, reason)
        self.kind = kind
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"reference of kind {self.kind!r}: {self.reason}"


_UNITS = {
    "turns": "model calls",
    "tokens": "tokens",
    "cost": "US dollars",
    "seconds": "seconds",
}


class SessionError(PaddockError, RuntimeError):
    """A session could not be opened, written or read."""


class ApprovalError(SessionError):
    """An approval cannot be answered, or waited for, as asked; `code` says why."""

    def __init__(
        self,
        approval_id: str,
        code: Literal["unknown", "answered", "expired", "withdrawn", "arguments"],
        reason: str,
    ) -> None:
        super().__init__(approval_id, code, reason)
        self.approval_id = approval_id
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"approval {self.approval_id}: {self.reason}"


class SessionLocked(SessionError):
    """Another process holds this session: `pid` on `host`, `since` (UTC, ISO 8601).

    They are None where they were not noted.
    """

    def __init__(
        self,
        session_id: str,
        *,
        pid: int | None = None,
        host: str | None = None,
        since: str | None = None,
    ) -> None:
        super().__init__(session_id)
        self.session_id = session_id
        self.pid = pid
        self.host = host
        self.since = since

    def __str__(self) -> str:
        holder = "another process"
        if self.pid is not None:
            holder = f"process {self.pid} on {self.host} since {self.since}"
        return f"session {self.session_id} is in use by {holder}"


class BudgetExceeded(SessionError):
    """No more is to be spent: of `what` (turns, tokens, cost, seconds) `limit` was reached."""

    def __init__(self, what: str, *, limit: float, spent: float) -> None:
        super().__init__(what, limit, spent)
        self.what = what
        self.limit = limit
        self.spent = spent

    def __str__(self) -> str:
        return f"the budget of {self.limit:,g} {_UNITS[self.what]} is used up: {self.spent:,.6g}"


class RunClaimed(SessionLocked):
    """Another worker has claimed the run `run_id`; its claim holds for `seconds` more unless it
    is renewed."""

    def __init__(self, run_id: str, *, seconds: float) -> None:
        super().__init__(run_id)
        self.run_id = run_id
        self.seconds = seconds

    def __str__(self) -> str:
        again = f"; if it has died, try again in {self.seconds:.0f} s" if self.seconds else ""
        return f"another worker has claimed the run {self.run_id!r}{again}"


class RunNotCompleted(SessionError):
    """A run ended, and not by an answer: `status` says how, `reason` why where that is known."""

    def __init__(self, status: str, reason: str | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"the run ended as {self.status!r}" + (f": {self.reason}" if self.reason else "")


class TraceError(SessionError):
    """A trace holds something that is not a trace."""


class TraceWriteError(SessionError):
    """An event could not be written to the trace, so the run was stopped."""
