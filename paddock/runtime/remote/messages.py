"""The messages of the wire: one JSON object each, with `message_type`.

A field that is null counts as absent, and fields that are not known are ignored. Knows no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "TERMINALS",
    "AckMessage",
    "AgentRuntimeMessageInterface",
    "ArtifactUploadFailedMessage",
    "ArtifactUploadRequestMessageInterface",
    "ArtifactUploadResponseMessageInterface",
    "ArtifactUploadResult",
    "AssistantMessageInterface",
    "AttachMessage",
    "CancelMessage",
    "CommandExecutionMessage",
    "CommandExecutionResultMessageInterface",
    "CommandInterface",
    "CommandOutputMessageInterface",
    "CommandResultItem",
    "EndSessionConfirmMessage",
    "EndSessionMessage",
    "ErrorMessageInterface",
    "HeartbeatMessageInterface",
    "InvocationMessage",
    "Negotiation",
    "Request",
    "ResultMessageInterface",
    "RuntimeEnvironmentDownloadableInterface",
    "StructuredOutputResult",
    "TextResult",
    "WarningMessageInterface",
    "is_terminal",
]

TERMINALS = frozenset({"result_message", "command_execution_result_message", "error_message"})
"""The types of message that end a request."""


def is_terminal(frame: Mapping[str, Any]) -> bool:
    """Whether `frame` ends a request; its type may be anything that JSON has."""
    kind = frame.get("message_type")
    return isinstance(kind, str) and kind in TERMINALS


LEAST_FRAME = 1024 * 1024
"""Bytes of a frame that each client takes: the limit of the library of those that say nothing of
it. A larger one closes their connection, and the result is lost."""
MOST_COMMANDS = 1000
"""Commands, downloads or folders of one request: more than that is a script's work."""
MOST_SECRETS = 1000
"""Secrets of one request: each is looked for in all that goes out."""


class _Message(BaseModel):
    model_config = ConfigDict(
        extra="ignore", populate_by_name=True, coerce_numbers_to_str=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value is not None}


# ------------------------------------------------------------------- parts of requests


class CommandInterface(_Message):
    """A shell command. `cwd` is made if it is missing; `env` is added to the environment."""

    command: str
    cwd: str | None = None
    env: dict[str, str] | None = None


class RuntimeEnvironmentDownloadableInterface(_Message):
    """A file to download into `working_dir` before the agent begins. Archives are unpacked."""

    download_url: str
    working_dir: str
    sha256: str | None = None
    headers: dict[str, str] | None = None


class Negotiation(_Message):
    """What a client of ours says of itself; see `docs/in-sandbox.md`."""

    v: int = 1
    run_id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    max_frame: int = Field(default=LEAST_FRAME, ge=LEAST_FRAME)


_Commands = Annotated[list[CommandInterface], Field(max_length=MOST_COMMANDS)]
_Downloads = Annotated[
    list[RuntimeEnvironmentDownloadableInterface], Field(max_length=MOST_COMMANDS)
]
_Folders = Annotated[list[str], Field(max_length=MOST_COMMANDS)]


class Request(_Message):
    """What the two kinds of request have in common."""

    source_id: str | None = None
    secrets_to_redact: list[str] = Field(default_factory=list, max_length=MOST_SECRETS)
    artifacts_dir: str | None = None
    artifacts_dirs: _Folders | None = None
    artifacts_ignore_content: str | None = None
    artifacts_required: bool = False
    workspace_diff: bool = False
    paddock: Negotiation | None = None

    @property
    def folders(self) -> list[str]:
        """The folders of artifacts, however they are given."""
        given = self.artifacts_dirs or ([self.artifacts_dir] if self.artifacts_dir else [])
        return list(dict.fromkeys(given))


class InvocationMessage(Request):
    """Start the agent. The result of the request is what the agent returns."""

    message_type: Literal["invocation_message"] = "invocation_message"
    system_prompt: str
    user_prompt: str
    agent_env: dict[str, str] | None = None
    output_format_json_schema_str: str | None = None
    pre_agent_invocation_commands: _Commands | None = None
    post_agent_invocation_commands: _Commands | None = None
    model: str = Field(validation_alias=AliasChoices("model", "preferred_model"))
    pre_agent_downloadables: _Downloads | None = Field(
        default=None,
        validation_alias=AliasChoices(
            "pre_agent_downloadables", "runtime_environment_downloadables"
        ),
    )

    @property
    def downloads(self) -> list[RuntimeEnvironmentDownloadableInterface]:
        return self.pre_agent_downloadables or []


class CommandExecutionMessage(Request):
    """Run commands, one after the other, until one fails."""

    message_type: Literal["command_execution_message"] = "command_execution_message"
    commands: _Commands
    pre_execution_downloadables: _Downloads | None = None

    @property
    def downloads(self) -> list[RuntimeEnvironmentDownloadableInterface]:
        return self.pre_execution_downloadables or []


class ArtifactUploadResponseMessageInterface(_Message):
    """Where the artifact goes that was asked for under this name and path."""

    message_type: Literal["artifact_upload_response_message"] = "artifact_upload_response_message"
    filename: str
    filepath: str
    presigned_url: str
    content_type: str


class CancelMessage(_Message):
    """Cancel the request that runs."""

    message_type: Literal["cancel_message"] = "cancel_message"


class AckMessage(_Message):
    """All frames of the run up to `seq` have arrived. Of clients that negotiated."""

    message_type: Literal["ack_message"] = "ack_message"
    run_id: str
    seq: int


class AttachMessage(_Message):
    """Continue a run on this connection, with its frames `after` that number."""

    message_type: Literal["attach_message"] = "attach_message"
    run_id: str
    after: int = 0


class ArtifactUploadFailedMessage(_Message):
    """The client cannot say where the artifact goes. Of clients that negotiated."""

    message_type: Literal["artifact_upload_failed_message"] = "artifact_upload_failed_message"
    filename: str
    filepath: str
    error: str = "the client did not say where to upload it"


class EndSessionMessage(_Message):
    """No further request comes on this connection."""

    message_type: Literal["end_session_message"] = "end_session_message"


# ------------------------------------------------------------------ from the runtime


class AgentRuntimeMessageInterface(_Message):
    """Any message of a runtime."""

    message_type: str


class TextResult(_Message):
    """A result that is a text."""

    type: Literal["text"] = "text"
    text: str


class StructuredOutputResult(_Message):
    """A result that is an object."""

    type: Literal["structured_output"] = "structured_output"
    structured_output: dict[str, Any]


_Data = Annotated[TextResult | StructuredOutputResult, Field(discriminator="type")]


class ResultMessageInterface(AgentRuntimeMessageInterface):
    """What the agent returned, on the old wire (`structured_output`) and the new one (`data`).

    Fields of a subclass are taken from the top level of the message.
    """

    message_type: Literal["result_message"] = "result_message"
    metadata: dict[str, Any] = Field(default_factory=dict)
    structured_output: dict[str, Any] = Field(default_factory=dict)
    data: _Data

    EMPTY: ClassVar[dict[str, Any]] = {"type": "structured_output", "structured_output": {}}

    @model_validator(mode="before")
    @classmethod
    def _both_wires(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        found = dict(given)
        top, data = found.get("structured_output"), found.get("data")
        if data is None:
            found["data"] = {**cls.EMPTY, "structured_output": {} if top is None else top}
        return found

    @model_validator(mode="after")
    def _object_of_data(self) -> Self:
        match self.data:
            case StructuredOutputResult(structured_output=found):
                self.structured_output = found
            case _:
                self.structured_output = {}
        return self


class CommandResultItem(_Message):
    """How a command ended."""

    command: str
    exit_code: int
    stdout: str | None = None
    stderr: str | None = None


class CommandExecutionResultMessageInterface(AgentRuntimeMessageInterface):
    """How the commands ended that ran, in their order."""

    message_type: Literal["command_execution_result_message"] = "command_execution_result_message"
    results: list[CommandResultItem]
    metadata: dict[str, Any] = Field(default_factory=dict)


class AssistantMessageInterface(AgentRuntimeMessageInterface):
    """What the agent says while it works."""

    message_type: Literal["assistant_message"] = "assistant_message"
    text_blocks: list[str]


class CommandOutputMessageInterface(AgentRuntimeMessageInterface):
    """A piece of a command's output."""

    message_type: Literal["command_output_message"] = "command_output_message"
    stream: Literal["stdout", "stderr"]
    text: str
    command: str


class ArtifactUploadRequestMessageInterface(AgentRuntimeMessageInterface):
    """The runtime asks where to upload an artifact.

    Use `relative_path`, where it is given, to tell apart files of one name.
    """

    message_type: Literal["artifact_upload_request_message"] = "artifact_upload_request_message"
    filename: str
    filepath: str
    artifact_type: str | None = None
    relative_path: str | None = None
    size: int | None = None
    sha256: str | None = None
    content_type_guess: str | None = None


class ErrorMessageInterface(AgentRuntimeMessageInterface):
    """The request failed."""

    message_type: Literal["error_message"] = "error_message"
    error: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class WarningMessageInterface(AgentRuntimeMessageInterface):
    """The agent reports an error that may not be the end. To clients that negotiated."""

    message_type: Literal["warning_message"] = "warning_message"
    error: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class HeartbeatMessageInterface(AgentRuntimeMessageInterface):
    """The request still runs."""

    message_type: Literal["heartbeat_message"] = "heartbeat_message"
    phase: str
    elapsed_ms: float


class EndSessionConfirmMessage(AgentRuntimeMessageInterface):
    """The answer to `EndSessionMessage`; nothing comes after it."""

    message_type: Literal["end_session_confirm_message"] = "end_session_confirm_message"


class ArtifactUploadResult(_Message):
    """Where an artifact goes; what `on_artifact_upload_request` returns."""

    presigned_url: str
    content_type: str
