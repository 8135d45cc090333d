from .backends.base import (
    Backend as Backend,
    Progress as Progress,
    ProgressCallback as ProgressCallback,
    SandboxInfo as SandboxInfo,
    backend_names as backend_names,
    get_backend as get_backend,
)
from .backends.daytona import DaytonaBackend as DaytonaBackend
from .backends.docker import DockerBackend as DockerBackend
from .backends.images import (
    ImageInfo as ImageInfo,
    Images as Images,
)
from .backends.local import LocalBackend as LocalBackend
from .backends.podman import PodmanBackend as PodmanBackend
from .backends.group import SandboxGroup as SandboxGroup
from .backends.pool import (
    PoolStats as PoolStats,
    SandboxPool as SandboxPool,
)
from .backends.posix.files import PosixFileSystem as PosixFileSystem
from .backends.posix.sandbox import ShellSandbox as ShellSandbox
from .backends.ssh import SshBackend as SshBackend
from .errors import (
    ApprovalError as ApprovalError,
    BudgetExceeded as BudgetExceeded,
    BuildFailed as BuildFailed,
    CommandLost as CommandLost,
    ConfigError as ConfigError,
    ContextOverflow as ContextOverflow,
    ExecFailed as ExecFailed,
    ExecTimeout as ExecTimeout,
    FenceUnavailable as FenceUnavailable,
    FileChanged as FileChanged,
    IsolationUnavailable as IsolationUnavailable,
    MissingCredentials as MissingCredentials,
    MissingDependency as MissingDependency,
    ModelError as ModelError,
    ObservabilityInitializationError as ObservabilityInitializationError,
    PaddockError as PaddockError,
    PlanError as PlanError,
    ReferenceFailed as ReferenceFailed,
    RunClaimed as RunClaimed,
    RunNotCompleted as RunNotCompleted,
    SandboxClosed as SandboxClosed,
    SandboxError as SandboxError,
    SandboxLost as SandboxLost,
    SessionError as SessionError,
    SessionLocked as SessionLocked,
    SetupFailed as SetupFailed,
    ToolError as ToolError,
    TraceError as TraceError,
    TraceWriteError as TraceWriteError,
    Unsupported as Unsupported,
)
from .files import (
    FileChange as FileChange,
    FileInfo as FileInfo,
    FileReader as FileReader,
    FileSystem as FileSystem,
    FileWriter as FileWriter,
)
from .image import Image as Image
from .image.settings import RegistryLogin as RegistryLogin
from .network import (
    Allow as Allow,
    NetworkDecision as NetworkDecision,
)
from .process import CommandFinished as CommandFinished
from .redaction import Redactor as Redactor
from .runtime.agents.agent import Agent as Agent
from .runtime.create import (
    close_runtime as close_runtime,
    create_runtime as create_runtime,
    start_runtime as start_runtime,
)
from .runtime.service.runtime import (
    AgentRuntime as AgentRuntime,
    dispatch_prompt as dispatch_prompt,
    reconfigure_runtime as reconfigure_runtime,
    run_prompt as run_prompt,
    session_usage as session_usage,
)
from .runtime.approvals.directory_store import DirectoryApprovalStore as DirectoryApprovalStore
from .runtime.approvals.policies import (
    AskAlso as AskAlso,
    AskAlways as AskAlways,
    AskByProfile as AskByProfile,
    AskNever as AskNever,
    AskWhen as AskWhen,
)
from .runtime.approvals.sqlite_store import SqliteApprovalStore as SqliteApprovalStore
from .runtime.approvals.stores import MemoryApprovalStore as MemoryApprovalStore
from .runtime.core.approval import (
    Approval as Approval,
    ApprovalCallback as ApprovalCallback,
    ApprovalInterrupt as ApprovalInterrupt,
    ApprovalPolicy as ApprovalPolicy,
    ApprovalRequest as ApprovalRequest,
    ApprovalStore as ApprovalStore,
    Decision as Decision,
    ProposedCall as ProposedCall,
    ToolApprovalItem as ToolApprovalItem,
    ToolDecision as ToolDecision,
)
from .runtime.telemetry.atif import trace_to_atif as trace_to_atif
from .runtime.core.budget import (
    Budget as Budget,
    UsageMeter as UsageMeter,
)
from .runtime.core.cancellation import CancellationToken as CancellationToken
from .runtime.agents.config import AgentConfig as AgentConfig
from .runtime.fleet.dispatch import (
    TaskUpdate as TaskUpdate,
    dispatch as dispatch,
)
from .runtime.fleet.cluster.placement import RayPlacement as RayPlacement
from .runtime.fleet.retries import Retries as Retries
from .runtime.fleet.faults import (
    BatchGaveUp as BatchGaveUp,
    TaskFailed as TaskFailed,
)
from .runtime.fleet.exports import BatchReport as BatchReport
from .runtime.fleet.fleet import (
    Fleet as Fleet,
    FleetProgress as FleetProgress,
)
from .runtime.fleet.ordering import Ordering as Ordering
from .runtime.fleet.placement import (
    Node as Node,
    Placement as Placement,
)
from .runtime.fleet.results import TaskResult as TaskResult
from .runtime.service.handle import AgentHandle as AgentHandle
from .runtime.core.emitter import (
    Envelope as Envelope,
    EventSink as EventSink,
    Origin as Origin,
)
from .runtime.core.events import (
    AnswerCut as AnswerCut,
    ApprovalRequested as ApprovalRequested,
    ApprovalResolved as ApprovalResolved,
    ChildModelFinished as ChildModelFinished,
    CompactionFinished as CompactionFinished,
    CompactionStarted as CompactionStarted,
    Event as Event,
    MessageAdded as MessageAdded,
    ModelFinished as ModelFinished,
    ModelStarted as ModelStarted,
    ProvisionFinished as ProvisionFinished,
    ProvisionStarted as ProvisionStarted,
    RulesChanged as RulesChanged,
    RunCancelled as RunCancelled,
    RunFailed as RunFailed,
    RunFinished as RunFinished,
    RunStarted as RunStarted,
    RunStatus as RunStatus,
    ReasoningAdded as ReasoningAdded,
    TextAdded as TextAdded,
    ToolBlocked as ToolBlocked,
    ToolFinished as ToolFinished,
    ToolProgress as ToolProgress,
    ToolStarted as ToolStarted,
    TraceRepaired as TraceRepaired,
    TurnFinished as TurnFinished,
)
from .runtime.core.content import ImagePart as ImagePart
from .runtime.core.content import Prompt as Prompt
from .runtime.core.context import RunContext as RunContext
from .runtime.core.model import (
    ModelClient as ModelClient,
    ModelEvent as ModelEvent,
    ModelRequest as ModelRequest,
    ModelResponse as ModelResponse,
    ModelRetry as ModelRetry,
    ReasoningDelta as ReasoningDelta,
    TextDelta as TextDelta,
    ToolCall as ToolCall,
    Usage as Usage,
    UsageSoFar as UsageSoFar,
)
from .runtime.core.tool import (
    RunAborted as RunAborted,
    ToolInvocation as ToolInvocation,
    ToolOutput as ToolOutput,
)
from .runtime.models import create_model as create_model
from .runtime.models.scripted import ScriptedModel as ScriptedModel
from .runtime.telemetry import (
    ObservabilityConfig as ObservabilityConfig,
    TelemetryStorage as TelemetryStorage,
)
from .runtime.service.options import RuntimeOptions as RuntimeOptions
from .runtime.orchestration.data_environment import (
    normalize_data_environment as normalize_data_environment,
)
from .runtime.orchestration.define import (
    define_coordinator as define_coordinator,
    define_executor as define_executor,
    define_plan as define_plan,
    define_planner as define_planner,
    define_reference as define_reference,
    define_runtime as define_runtime,
    define_specialist as define_specialist,
    define_tenant as define_tenant,
    define_tool as define_tool,
)
from .runtime.orchestration.approvals import RuntimeApproval as RuntimeApproval
from .runtime.orchestration.interpreters import TestingConfig as TestingConfig
from .runtime.orchestration.prompts import (
    LayeredPrompt as LayeredPrompt,
    layered_prompt as layered_prompt,
)
from .runtime.orchestration.runs import RuntimeRun as RuntimeRun
from .runtime.orchestration.runtime import Runtime as Runtime
from .runtime.orchestration.schemas import (
    TaggedUnion as TaggedUnion,
    glimpse as glimpse,
    normalize_schema as normalize_schema,
)
from .runtime.orchestration.store import open_store as open_store
from .runtime.orchestration.stores.base import RuntimeStore as RuntimeStore
from .runtime.orchestration.fields import (
    ModelSpec as ModelSpec,
    PlanDisplayAlias as PlanDisplayAlias,
    TenantIdentity as TenantIdentity,
)
from .runtime.orchestration.spec import (
    AgentSpec as AgentSpec,
    PlanSpec as PlanSpec,
    ReferenceSpec as ReferenceSpec,
    RuntimeSpec as RuntimeSpec,
    ToolSpec as ToolSpec,
)
from .runtime.orchestration.stream import EventStream as EventStream
from .runtime.permissions.profile import (
    ApprovalMode as ApprovalMode,
    CapabilityProfile as CapabilityProfile,
    DatabaseMode as DatabaseMode,
    FileWriteMode as FileWriteMode,
    PermissionProfile as PermissionProfile,
    ShellFence as ShellFence,
    ShellMode as ShellMode,
    load_profile as load_profile,
)
from .runtime.remote.client import (
    RuntimeUseClient as RuntimeUseClient,
    RuntimeUseSession as RuntimeUseSession,
)
from .runtime.remote.handler import (
    AgentInvocation as AgentInvocation,
    Sender as Sender,
)
from .runtime.remote.messages import (
    AgentRuntimeMessageInterface as AgentRuntimeMessageInterface,
    ArtifactUploadRequestMessageInterface as ArtifactUploadRequestMessageInterface,
    ArtifactUploadResponseMessageInterface as ArtifactUploadResponseMessageInterface,
    ArtifactUploadResult as ArtifactUploadResult,
    AssistantMessageInterface as AssistantMessageInterface,
    CancelMessage as CancelMessage,
    CommandExecutionMessage as CommandExecutionMessage,
    CommandExecutionResultMessageInterface as CommandExecutionResultMessageInterface,
    CommandInterface as CommandInterface,
    CommandOutputMessageInterface as CommandOutputMessageInterface,
    CommandResultItem as CommandResultItem,
    EndSessionConfirmMessage as EndSessionConfirmMessage,
    EndSessionMessage as EndSessionMessage,
    ErrorMessageInterface as ErrorMessageInterface,
    HeartbeatMessageInterface as HeartbeatMessageInterface,
    InvocationMessage as InvocationMessage,
    ResultMessageInterface as ResultMessageInterface,
    RuntimeEnvironmentDownloadableInterface as RuntimeEnvironmentDownloadableInterface,
    StructuredOutputResult as StructuredOutputResult,
    TextResult as TextResult,
)
from .runtime.remote.options import (
    AgentRuntimeError as AgentRuntimeError,
    CancelledException as CancelledException,
    CommandExecutionResult as CommandExecutionResult,
    ExecuteCommandsOptions as ExecuteCommandsOptions,
    IsCancelledCallback as IsCancelledCallback,
    OnArtifactUploadRequestCallback as OnArtifactUploadRequestCallback,
    OnAssistantMessageCallback as OnAssistantMessageCallback,
    OnCommandOutputCallback as OnCommandOutputCallback,
    QueryOptions as QueryOptions,
    QueryResult as QueryResult,
)
from .runtime.remote.outside import serve as serve
from .runtime.remote.server import RuntimeServer as RuntimeServer
from .runtime.remote.settings import ServerSettings as ServerSettings
from .runtime.remote.transports import (
    ConnectedTransport as ConnectedTransport,
    ConnectedWebSocketTransport as ConnectedWebSocketTransport,
    PersistentTransport as PersistentTransport,
    Transport as Transport,
    WebSocketTransport as WebSocketTransport,
)
from .runtime.conversation.results import (
    AgentEvent as AgentEvent,
    AgentEventType as AgentEventType,
    CompactResult as CompactResult,
    EventCallback as EventCallback,
    RunResult as RunResult,
)
from .runtime.conversation.run_state import RunState as RunState
from .runtime.service.run_store import (
    SqliteRunStore as SqliteRunStore,
    run_prompt_stored as run_prompt_stored,
)
from .runtime.session.session import Session as Session
from .runtime.conversation.sqlite import SqliteConversationStore as SqliteConversationStore
from .runtime.conversation.store import (
    ConversationLog as ConversationLog,
    ConversationStore as ConversationStore,
    MemoryConversationStore as MemoryConversationStore,
)
from .runtime.conversation.directory import SessionDirectory as SessionDirectory
from .runtime.conversation.state import (
    State as State,
    StateObserver as StateObserver,
)
from .runtime.session.store import (
    SessionInfo as SessionInfo,
    SessionStore as SessionStore,
)
from .runtime.session.stream import RunStream as RunStream
from .runtime.agents.agent_tool import AgentToolHandler as AgentToolHandler
from .runtime.tools.base import ToolHandler as ToolHandler
from .runtime.tools.bash import BashHandler as BashHandler
from .runtime.tools.delegate import DelegateHandler as DelegateHandler
from .runtime.tools.edit import EditHandler as EditHandler
from .runtime.tools.excel import ReadExcelHandler as ReadExcelHandler
from .runtime.tools.factory import build_registry as build_registry
from .runtime.tools.files import (
    ListHandler as ListHandler,
    ReadHandler as ReadHandler,
    WriteHandler as WriteHandler,
)
from .runtime.tools.function import (
    FunctionTool as FunctionTool,
    tool as tool,
)
from .runtime.tools.mcp.config import McpServer as McpServer
from .runtime.tools.registry import ToolRegistry as ToolRegistry
from .runtime.tools.search import (
    GlobHandler as GlobHandler,
    GrepHandler as GrepHandler,
)
from .sandbox import (
    Capability as Capability,
    ExecResult as ExecResult,
    Fence as Fence,
    Output as Output,
    Process as Process,
    ProcessInfo as ProcessInfo,
    Pty as Pty,
    Resources as Resources,
    Sandbox as Sandbox,
    Stats as Stats,
)
from .shell import Shell as Shell
from .transfers import (
    LeftOut as LeftOut,
    Transfer as Transfer,
)

__version__: str
