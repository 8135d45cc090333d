"""Whose fault it is that an attempt failed. Knows no ledger and makes no sandbox."""

from __future__ import annotations

import re
from typing import Literal

from paddock.errors import (
    BudgetExceeded,
    BuildFailed,
    ConfigError,
    ExecFailed,
    ExecTimeout,
    FileChanged,
    MissingDependency,
    ModelError,
    PaddockError,
    RunNotCompleted,
    SandboxClosed,
    SandboxError,
    SetupFailed,
    Unsupported,
)
from paddock.runtime.fleet.texts import storable

__all__ = [
    "BatchGaveUp",
    "Fault",
    "Stage",
    "TaskFailed",
    "classify",
    "fingerprint",
    "is_infrastructure",
]

Fault = Literal[
    "infra.provision",
    "infra.lost",
    "infra.model",
    "image",
    "config",
    "budget",
    "task.failed",
    "task.timeout",
    "task.oom",
    "cancelled",
    "poison",
]
"""Who failed: the infrastructure, what the user configured, the task itself, or nobody."""

Stage = Literal["queue", "create", "setup", "run", "verify", "collect"]
"""What an attempt does, in this order."""

_VARYING = re.compile(r"[0-9a-f]{6,}|\d+")
"""Ids, addresses and counts, which differ from sandbox to sandbox."""


class TaskFailed(PaddockError):
    """An attempt of a task failed; `fault` classifies it, `__cause__` is what was raised."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(fault, message)
        self.fault = fault
        self.message = storable(message)

    def __str__(self) -> str:
        return f"{self.fault}: {self.message}" if self.message else self.fault


class BatchGaveUp(PaddockError):
    """A batch ended early, for `reason`; nothing is lost, and it can be resumed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the batch gave up and can be resumed: {self.reason}"


def is_infrastructure(fault: Fault | None) -> bool:
    """Return whether neither the task nor what the user configured is to blame."""
    return fault is not None and fault.startswith("infra.")


def classify(error: BaseException, stage: Stage, *, lost: bool) -> TaskFailed:
    """Return `error` as a failure with its fault.

    `lost` says that the sandbox had died when the error was raised: then what the task reported
    is not its own doing.
    """
    if isinstance(error, TaskFailed):
        return error
    fault = _fault(error, stage, lost=lost)
    text = str(error) or type(error).__name__
    if fault == "task.failed" and not isinstance(error, PaddockError):
        text = f"{type(error).__name__}: {error}"
    failed = TaskFailed(fault, text)
    failed.__cause__ = error
    return failed


def _fault(error: BaseException, stage: Stage, *, lost: bool) -> Fault:
    match error:
        case SetupFailed() | BuildFailed():
            return "image"
        case _ if stage in ("create", "setup"):
            return _fault_of_making(error)
        case _ if lost or _is_of_sandbox(error):
            return "infra.lost"
        case ConfigError() | Unsupported() | MissingDependency():
            return "config"
        case _:
            return _fault_of_task(error)


def _is_of_sandbox(error: BaseException) -> bool:
    """Return whether the sandbox or its engine failed, and no command in it nor its caller."""
    own = (ExecFailed, ExecTimeout, FileChanged, SandboxClosed, SetupFailed, BuildFailed)
    return isinstance(error, SandboxError) and not isinstance(error, own)


def _fault_of_making(error: BaseException) -> Fault:
    known = (ConfigError, Unsupported, MissingDependency, FileNotFoundError)
    return "config" if isinstance(error, known) else "infra.provision"


def _fault_of_task(error: BaseException) -> Fault:
    match error:
        case ModelError():
            return "infra.model"
        case BudgetExceeded():
            return "budget"
        case RunNotCompleted(status="budget"):
            return "budget"
        case RunNotCompleted(status="error"):
            return "infra.model"
        case RunNotCompleted(status="cancelled"):
            return "cancelled"
        case ExecFailed() if error.result.oom_killed:
            return "task.oom"
        case ExecTimeout() | TimeoutError():
            return "task.timeout"
        case _:
            return "task.failed"


def fingerprint(failed: TaskFailed) -> str:
    """Return what failures of one cause have in common: the fault and the error without ids."""
    kind = type(failed.__cause__).__name__
    return f"{failed.fault} {kind} {_VARYING.sub('#', failed.message)[:200]}"
