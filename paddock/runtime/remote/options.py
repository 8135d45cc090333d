"""What a caller of a client gives, and gets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from paddock.errors import PaddockError
from paddock.runtime.remote.messages import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    CommandExecutionMessage,
    CommandInterface,
    CommandOutputMessageInterface,
    CommandResultItem,
    InvocationMessage,
    RuntimeEnvironmentDownloadableInterface,
    StructuredOutputResult,
    TextResult,
)

if TYPE_CHECKING:
    import logging

__all__ = [
    "AgentRuntimeError",
    "CancelledException",
    "CommandExecutionResult",
    "ExecuteCommandsOptions",
    "IsCancelledCallback",
    "OnArtifactUploadRequestCallback",
    "OnAssistantMessageCallback",
    "OnCommandOutputCallback",
    "QueryOptions",
    "QueryResult",
]

OnAssistantMessageCallback = Callable[[AssistantMessageInterface], Awaitable[None]]
OnCommandOutputCallback = Callable[[CommandOutputMessageInterface], Awaitable[None]]
OnArtifactUploadRequestCallback = Callable[
    [ArtifactUploadRequestMessageInterface], Awaitable[ArtifactUploadResult | tuple[str, str]]
]
IsCancelledCallback = Callable[[], Awaitable[bool]]


class CancelledException(Exception):
    """A call was cancelled by its caller."""


class AgentRuntimeError(PaddockError):
    """The runtime reported an error, or the call failed for the reason that `error` says."""

    def __init__(self, error: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.metadata = metadata

    def __str__(self) -> str:
        if not self.metadata:
            return self.error
        return f"{self.error}\nmetadata: {json.dumps(self.metadata, sort_keys=True, default=str)}"


class QueryResult(BaseModel):
    """What an agent returned."""

    metadata: dict[str, Any] | None = None
    data: TextResult | StructuredOutputResult = Field(discriminator="type")


class CommandExecutionResult(BaseModel):
    """How commands ended: an item for each that ran."""

    results: list[CommandResultItem]
    metadata: dict[str, Any] | None = None


def _check_artifacts(folders: list[str] | None, callback: object) -> None:
    if bool(folders) != (callback is not None):
        raise ValueError("artifacts_dirs and on_artifact_upload_request must be specified together")


@dataclass
class QueryOptions:
    """Options of a query. Durations are in seconds; None sets no limit.

    `artifacts_dirs` and `on_artifact_upload_request` are given together. With
    `artifacts_required`, an artifact that does not arrive is an error. With `workspace_diff`, what
    changed in the working directory is an artifact ``workspace.diff``.
    """

    system_prompt: str
    model: str
    output_format_json_schema_str: str | None = None
    source_id: str | None = None
    agent_env: dict[str, str] | None = None
    secrets_to_redact: list[str] = field(default_factory=list)
    artifacts_dirs: list[str] | None = None
    artifacts_ignore_content: str | None = None
    pre_agent_invocation_commands: list[CommandInterface] | None = None
    post_agent_invocation_commands: list[CommandInterface] | None = None
    pre_agent_downloadables: list[RuntimeEnvironmentDownloadableInterface] | None = None
    on_assistant_message: OnAssistantMessageCallback | None = None
    on_command_output: OnCommandOutputCallback | None = None
    on_artifact_upload_request: OnArtifactUploadRequestCallback | None = None
    timeout: float | None = None
    idle_timeout: float | None = None
    assistant_callback_timeout: float | None = None
    artifact_upload_callback_timeout: float | None = None
    logger: logging.Logger | None = None
    artifacts_required: bool = False
    workspace_diff: bool = False

    def __post_init__(self) -> None:
        if not self.workspace_diff:
            _check_artifacts(self.artifacts_dirs, self.on_artifact_upload_request)

    def request(self, prompt: str) -> InvocationMessage:
        """Return the message that asks for `prompt`."""
        return InvocationMessage(
            user_prompt=prompt,
            system_prompt=self.system_prompt,
            model=self.model,
            output_format_json_schema_str=self.output_format_json_schema_str,
            source_id=self.source_id,
            agent_env=self.agent_env,
            secrets_to_redact=self.secrets_to_redact,
            artifacts_dirs=self.artifacts_dirs or None,
            artifacts_ignore_content=self.artifacts_ignore_content,
            pre_agent_invocation_commands=self.pre_agent_invocation_commands,
            post_agent_invocation_commands=self.post_agent_invocation_commands,
            pre_agent_downloadables=self.pre_agent_downloadables,
            artifacts_required=self.artifacts_required,
            workspace_diff=self.workspace_diff,
        )


@dataclass
class ExecuteCommandsOptions:
    """Options of the execution of commands; see `QueryOptions`."""

    secrets_to_redact: list[str] = field(default_factory=list)
    source_id: str | None = None
    artifacts_dirs: list[str] | None = None
    artifacts_ignore_content: str | None = None
    pre_execution_downloadables: list[RuntimeEnvironmentDownloadableInterface] | None = None
    on_assistant_message: OnAssistantMessageCallback | None = None
    on_command_output: OnCommandOutputCallback | None = None
    on_artifact_upload_request: OnArtifactUploadRequestCallback | None = None
    timeout: float | None = None
    idle_timeout: float | None = None
    assistant_callback_timeout: float | None = None
    artifact_upload_callback_timeout: float | None = None
    logger: logging.Logger | None = None
    artifacts_required: bool = False

    def __post_init__(self) -> None:
        _check_artifacts(self.artifacts_dirs, self.on_artifact_upload_request)

    def request(self, commands: list[CommandInterface]) -> CommandExecutionMessage:
        """Return the message that asks for `commands`."""
        return CommandExecutionMessage(
            source_id=self.source_id,
            secrets_to_redact=self.secrets_to_redact,
            commands=commands,
            artifacts_dirs=self.artifacts_dirs or None,
            artifacts_ignore_content=self.artifacts_ignore_content,
            pre_execution_downloadables=self.pre_execution_downloadables,
            artifacts_required=self.artifacts_required,
        )
