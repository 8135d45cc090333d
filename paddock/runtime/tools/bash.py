"""The tool that runs a shell command in the sandbox."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from paddock._long_commands import program_by_stdin
from paddock.errors import ExecTimeout, FenceUnavailable
from paddock.runtime.core.output import BYTES_PER_TOKEN, MAX_OUTPUT_TOKENS, truncate_output
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.permissions.paths import parse_path, show_path
from paddock.runtime.permissions.restricted_shell import RESTRICTED_ENV, Blocked, check_command
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.sandbox import Fence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.tool import ToolInvocation
    from paddock.sandbox import ExecResult, Sandbox

__all__ = ["BashHandler"]

MAX_TIMEOUT: Final = 3600.0
"""Seconds; what needs longer belongs in the background."""

KEPT_BYTES: Final = 64 * 1024
"""Output fetched of each stream; the model reads a third of that, the spill file has the rest."""

_MAX_CONTENT: Final = MAX_OUTPUT_TOKENS * BYTES_PER_TOKEN
_RESULT_TOKENS: Final = MAX_OUTPUT_TOKENS - 250
"""What is left for the output itself beside the JSON around it."""

_IN_ORDER: Final = (
    'exec 2>&1; if command -v bash >/dev/null; then exec bash -c "$1"; fi; exec sh -c "$1"'
)
"""One pipe for both streams keeps their order; bash where there is one, since models write it."""


_READS_ONLY: Final = Fence()
_NOT_FENCED: Final = (
    "Command not run: this profile runs commands only where the sandbox's kernel keeps them from "
    "changing anything, and here it cannot: {reason}. The other tools work. The user can accept "
    "the list of allowed programs as the only fence with 'shell: {{fence: allow-list}}' in the "
    "profile."
)


class BashHandler(ToolHandler):
    """Runs a command line and returns its output and exit code as JSON.

    stdout and stderr come in the order in which they were written. With `restricted` a command
    has to pass `paddock.runtime.permissions.restricted_shell.check_command`, and what runs is
    the command line as that function understood it, inside `fence`; where a sandbox has no such
    fence, no command runs. None leaves the allow-list alone. `timeout` (seconds) is for calls that
    give none; a command that takes longer is killed with all its children.
    `working_dir` is where commands start if the sandbox has such a directory.
    """

    name = "bash"
    description = (
        "Run a shell command in the sandbox and return its output and exit code. Each call is a "
        "new shell: directories and variables do not carry over. stdin is empty."
    )
    parameters = object_schema(
        required=["command"],
        command={"type": "string", "description": "The command line to run."},
        working_dir={"type": "string", "description": "The directory to run it in."},
        timeout={
            "type": "number",
            "description": "Seconds after which the command is killed.",
            "minimum": 0.1,
            "maximum": MAX_TIMEOUT,
        },
    )

    def __init__(
        self,
        *,
        restricted: bool = True,
        fence: Fence | None = _READS_ONLY,
        timeout: float = 120.0,
        working_dir: str | None = None,
    ) -> None:
        self._restricted = restricted
        self._fence = fence if restricted else None
        self._timeout = timeout
        self._working_dir = working_dir

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        command = invocation.arguments["command"]
        timeout = float(invocation.arguments.get("timeout", self._timeout))
        prepared = self._prepared(command)
        if isinstance(prepared, Blocked):
            return ToolOutput(
                content=f"Command blocked: {prepared.reason}",
                success=False,
                metadata={"command": command, "blocked": prepared.reason},
            )
        argv, env, program = prepared
        sandbox = await invocation.context.sandbox()
        cwd = await self._directory(sandbox, invocation.arguments.get("working_dir"))
        facts = {"command": command, "working_dir": cwd}
        try:
            result = await sandbox.exec(
                argv,
                cwd=cwd,
                env=env and _with_absolute_path(env, sandbox),
                stdin=program or None,
                timeout=timeout,
                max_output=KEPT_BYTES,
                fence=self._fence,
            )
        except FenceUnavailable as error:
            content = _NOT_FENCED.format(reason=error.reason)
            metadata = facts | {"unfenced": error.reason}
            return ToolOutput(content=content, success=False, metadata=metadata)
        except ExecTimeout as error:
            note = f"[Command timed out after {timeout:g}s and was killed]"
            result = error.result.redacted(sandbox.redactor)
            return _output(result, -1, facts | {"timed_out": True}, note=note)
        except (FileNotFoundError, NotADirectoryError):
            return ToolOutput(
                content=f"Working directory not found: {show_path(cwd)}", success=False
            )
        # Here, since what is cut in the middle of a secret could not be redacted later.
        return _output(result.redacted(sandbox.redactor), result.exit_code, facts)

    def _prepared(
        self, command: str
    ) -> tuple[Sequence[str], Mapping[str, str] | None, bytes] | Blocked:
        """The argv, environment and stdin to run `command` with."""
        if not self._restricted:
            text, program = program_by_stdin(command)
            return ("sh", "-c", _IN_ORDER, "sh", text), None, program
        decision = check_command(command)
        if isinstance(decision, Blocked):
            return decision
        return ("sh", "-c", f"exec 2>&1; {decision.command}"), RESTRICTED_ENV, b""

    async def _directory(self, sandbox: Sandbox, asked: str | None) -> str:
        if asked is not None:
            return str(sandbox.path(parse_path(asked)))
        if self._working_dir is not None and await sandbox.fs.exists(self._working_dir):
            return self._working_dir
        return str(sandbox.working_dir)


def _with_absolute_path(env: Mapping[str, str], sandbox: Sandbox) -> Mapping[str, str]:
    """`env`, with no directory on PATH that depends on where a command runs."""
    folders = sandbox.env.get("PATH", "").split(":")
    if all(folder.startswith("/") for folder in folders):
        return env
    absolute = [folder for folder in folders if folder.startswith("/")]
    return {**env, "PATH": ":".join(absolute)} if absolute else env


def _output(
    result: ExecResult, exit_code: int, facts: Mapping[str, Any], *, note: str = ""
) -> ToolOutput:
    if result.oom_killed:
        note = note or "[The command ran out of memory and was killed]"
    parts = (result.stdout, result.stderr, note)
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    told = {"exit_code": exit_code, "duration_seconds": round(result.duration, 1)}
    spill = {} if result.out.spill is None else {"full_output": show_path(result.out.spill)}
    return ToolOutput(
        content=_as_json(text, told | spill), success=exit_code == 0, metadata={**told, **facts}
    )


def _as_json(text: str, facts: Mapping[str, Any]) -> str:
    """The result as JSON that is within the limit of a tool's output, however `text` escapes."""
    tokens = _RESULT_TOKENS
    while True:
        output = truncate_output(text, max_tokens=tokens)
        content = json.dumps({"output": output, "metadata": facts}, ensure_ascii=False)
        if len(content.encode()) <= _MAX_CONTENT:
            return content
        tokens = tokens * 3 // 4
