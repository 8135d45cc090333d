"""What sandboxes, their commands and their images raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.errors.base import PaddockError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.process import ExecResult
    from paddock.redaction import Redactor

__all__ = [
    "BuildFailed",
    "CommandLost",
    "ExecFailed",
    "ExecTimeout",
    "FileChanged",
    "SandboxClosed",
    "SandboxError",
    "SandboxLost",
    "SetupFailed",
]


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
    """The result of one call is lost, and `reason` says why. The sandbox lives.

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
