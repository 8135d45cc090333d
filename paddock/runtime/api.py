"""The service's face: a runtime that is made, started, prompted and closed by functions.

A projection of `Agent` and `Session`: an `AgentRuntime` bundles one of each. It holds no
loop and no conversation of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Never, Self

from paddock._concurrency import finish
from paddock.errors import SessionError
from paddock.runtime.agent import Agent
from paddock.runtime.cancellation import CancellationToken
from paddock.runtime.config import DEFAULT_MODEL, AgentConfig
from paddock.runtime.permissions import PermissionProfile, load_profile
from paddock.runtime.records import usage_fields
from paddock.runtime.run_state import RunState
from paddock.runtime.session import Session
from paddock.runtime.tools.delegate import DelegateHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from paddock.backends.base import Backend
    from paddock.runtime.approvals import ApprovalCallback
    from paddock.runtime.observability import Observability
    from paddock.runtime.outlet import EventCallback
    from paddock.runtime.results import RunResult
    from paddock.runtime.tools.registry import ToolRegistry

__all__ = [
    "AgentHandle",
    "AgentRuntime",
    "RuntimeOptions",
    "close_runtime",
    "create_runtime",
    "dispatch_prompt",
    "reconfigure_runtime",
    "run_prompt",
    "session_usage",
    "start_runtime",
    "take_over",
]

_OF_A_SPEC = (
    "tool_bindings",
    "services",
    "approval_predicates",
    "action_dispatcher",
    "event_hooks",
    "data_environment",
    "target_database_url",
    "testing",
    "interpreter",
)
"""The keywords of a runtime that is made from a specification of several agents."""


def _env(name: str, default: str | None = None) -> Callable[[], Any]:
    return lambda: os.environ.get(name) or default


@dataclass(kw_only=True)
class RuntimeOptions:
    """What a runtime is made with; the environment is read when an instance is made.

    - `model` (OPENAI_MODEL), `base_url` (OPENAI_BASE_URL), `reasoning_effort`
      (PADDOCK_REASONING_EFFORT): see `AgentConfig`.
    - `profile` (PADDOCK_PROFILE): a name, a file or a `PermissionProfile`; None is
      ``readonly``. `backend` (PADDOCK_BACKEND): a name or a recipe.
    - `working_dir`: where the tools work. `auto_approve`: whether what needs approval is
      approved when there is no callback; otherwise it is rejected.
    - `team_id`, `project_id` (PADDOCK_TEAM_ID, PADDOCK_PROJECT_ID): with both, telemetry is
      kept, as `observability_config` (PADDOCK_OBSERVABILITY_CONFIG, a file) says;
      `telemetry_metadata` goes with the session.
    - `session_id`: a new one unless given. `enable_delegate`: whether the agent has the
      tool ``delegate``, whatever its profile; the profile decides whether calls need
      approval.
    """

    model: str = field(default_factory=_env("OPENAI_MODEL", DEFAULT_MODEL))
    base_url: str | None = field(default_factory=_env("OPENAI_BASE_URL"))
    reasoning_effort: str | None = field(default_factory=_env("PADDOCK_REASONING_EFFORT"))
    working_dir: str | None = None
    profile: str | PermissionProfile | None = field(default_factory=_env("PADDOCK_PROFILE"))
    backend: str | Backend = field(default_factory=_env("PADDOCK_BACKEND", "local"))
    auto_approve: bool = True
    team_id: str | None = field(default_factory=_env("PADDOCK_TEAM_ID"))
    project_id: str | None = field(default_factory=_env("PADDOCK_PROJECT_ID"))
    observability_config: str | None = field(default_factory=_env("PADDOCK_OBSERVABILITY_CONFIG"))
    session_id: str | None = None
    telemetry_metadata: dict[str, Any] = field(default_factory=dict)
    enable_delegate: bool = True


@dataclass(kw_only=True)
class AgentRuntime:
    """An agent, its session, and what they were made with. Use it as ``async with`` to start
    and close it; `close_status` is what it is closed with then, unless the block fails."""

    agent: Agent
    session: Session
    registry: ToolRegistry
    model: str
    profile_name: str
    session_id: str
    options: RuntimeOptions
    approval_callback: ApprovalCallback | None = None
    cancel_check: Callable[[], bool] | None = None
    observability: Observability | None = None
    close_status: str = "completed"
    _owns_session: bool = field(default=True, repr=False)
    _closed: bool = field(default=False, repr=False)

    async def __aenter__(self) -> Self:
        await start_runtime(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        status = self.close_status
        if exc is not None:
            status = "cancelled" if isinstance(exc, asyncio.CancelledError) else "error"
        await close_runtime(self, status)


@dataclass(kw_only=True, eq=False)
class AgentHandle:
    """A prompt that was dispatched."""

    runtime: AgentRuntime
    prompt: str
    task: asyncio.Task[RunResult]
    token: CancellationToken | None = None

    def done(self) -> bool:
        return self.task.done()

    @property
    def status(self) -> str:
        """``running``, or how it ended: as `RunResult.status`, ``error`` after an exception."""
        if not self.task.done():
            return "running"
        if self.task.cancelled():
            return "cancelled"
        if self.task.exception() is not None:
            return "error"
        return self.task.result().status

    def cancel(self, reason: str = "requested") -> None:
        """Ask the run to stop; `wait` returns its result. Only the first reason is kept."""
        assert self.token is not None, "made by dispatch_prompt"
        if self.done() or self.token.is_cancelled():
            return
        if self.runtime.observability is not None:
            self.runtime.observability.note(cancel_source="programmatic", cancel_reason=reason)
        self.token.cancel(reason)

    async def wait(self) -> RunResult:
        """The result; raises what the run raised. A wait that is cancelled leaves the run be."""
        return await asyncio.shield(self.task)


def create_runtime(
    system_prompt: str,
    *,
    options: RuntimeOptions | None = None,
    session: Session | None = None,
    approval_callback: ApprovalCallback | None = None,
    cancel_check: Callable[[], bool] | None = None,
    **others: Never,
) -> AgentRuntime:
    """A runtime for an agent that is told `system_prompt`.

    `session` goes on with its own history, agent and system prompt, and stays the caller's
    to close; of the tools of its agent, ``delegate`` is taken away if `options` say so.
    `approval_callback` is asked when a call needs approval; without one,
    `options.auto_approve` approves all or rejects all. Telemetry is kept from
    `start_runtime` on, where a team and a project are known. Raises `ConfigError` for a
    profile that is none, and `ObservabilityInitializationError`.
    """
    _check_form(system_prompt, others)
    options = RuntimeOptions() if options is None else options
    profile = load_profile(options.profile)
    if session is None:
        options = replace(
            options, profile=profile, session_id=options.session_id or str(uuid.uuid4())
        )
        session = Session(Agent(_config(system_prompt, options)), session_id=options.session_id)
        if options.enable_delegate:
            _add_delegate(session.registry)
        owned = True
    else:
        options = replace(options, profile=profile, session_id=session.id)
        owned = False
    if not options.enable_delegate:
        session.registry.unregister(DelegateHandler.name)
    session.approval_callback = _approval(approval_callback, options)
    session.cancel_check = cancel_check
    return AgentRuntime(
        agent=session.agent,
        session=session,
        registry=session.registry,
        model=session.agent.config.model,
        profile_name=profile.name,
        session_id=session.id,
        options=options,
        approval_callback=approval_callback,
        cancel_check=cancel_check,
        observability=_observability(session, options),
        _owns_session=owned,
    )


def _check_form(system_prompt: object, others: Mapping[str, object]) -> None:
    """Raise `TypeError` for a call that is not of this form, told apart by the first argument."""
    if foreign := [name for name in others if name in _OF_A_SPEC]:
        raise TypeError(
            f"create_runtime(system_prompt, *, options, session, approval_callback, cancel_check) "
            f"has no {', '.join(foreign)}; that is of create_runtime(spec, *, "
            f"{', '.join(_OF_A_SPEC)})"
        )
    if others:
        raise TypeError(f"create_runtime() has no {', '.join(others)}")
    if not isinstance(system_prompt, str):
        kind = type(system_prompt).__name__
        raise TypeError(f"create_runtime() takes the text of a system prompt, not a {kind}")


def _observability(session: Session, options: RuntimeOptions) -> Observability | None:
    from paddock.runtime.observability import attach  # most runtimes have none

    return attach(
        session,
        options.observability_config,
        team_id=options.team_id,
        project_id=options.project_id,
        metadata=options.telemetry_metadata,
    )


def _add_delegate(registry: ToolRegistry) -> None:
    if DelegateHandler.name not in registry:
        registry.register(DelegateHandler())


def _config(system_prompt: str, options: RuntimeOptions) -> AgentConfig:
    return AgentConfig(
        system_prompt=system_prompt,
        model=options.model,
        base_url=options.base_url,
        reasoning_effort=options.reasoning_effort,
        working_dir=options.working_dir,
        profile=options.profile,
        backend=options.backend,
        auto_approve=options.auto_approve,
    )


def _approval(given: ApprovalCallback | None, options: RuntimeOptions) -> ApprovalCallback | None:
    if given is not None or options.auto_approve:
        return given
    return _reject_all


def _reject_all(name: str, arguments: dict[str, Any]) -> bool:
    return False


async def start_runtime(runtime: AgentRuntime) -> None:
    """Begin to keep telemetry, where there is some. Idempotent.

    Raises `ObservabilityInitializationError` if it has no place to go to.
    """
    if runtime.observability is not None:
        await runtime.observability.start()


async def run_prompt(
    runtime: AgentRuntime,
    prompt: str | RunState,
    *,
    on_event: EventCallback | None = None,
    approval_decisions: Mapping[str, bool] | None = None,
) -> RunResult:
    """Run one prompt to its end; see `Session.run`. `on_event` may be async.

    A result whose status is ``interrupted`` has a `state`. Given that instead of a prompt,
    the run goes on with `approval_decisions`, by the ids of the calls; see `Session.resume`.
    The runtime is the one that was interrupted, or one that had no run yet: that takes over
    the conversation, with its system prompt, under the runtime's own session id. Raises
    `SessionError` for decisions without a state, and for a runtime with another
    conversation.
    """
    if isinstance(prompt, RunState):
        take_over(runtime.session, prompt)
        return await runtime.session.resume(approval_decisions or {}, on_event=on_event)
    if approval_decisions:
        raise SessionError("approval decisions are about a run's state; there is a prompt only")
    return await runtime.session.run(prompt, on_event=on_event)


def take_over(session: Session, run: RunState) -> None:
    """Let `session` have the conversation of `run`, if it has none yet. Raises `SessionError`."""
    state = session.state
    if (state.messages, state.pending_approvals) == (run.history, run.pending_approvals):
        return
    if state.messages or state.runs_started:
        raise SessionError(f"session {session.id} has another conversation than this run")
    run.restore(state)
    session.system_prompt = run.system_prompt


def session_usage(session: Session) -> dict[str, Any]:
    """What all runs of `session` used up, named as in `RunResult.usage`: ``total_...`` for
    tokens and US dollars, and `context_size`, in tokens."""
    total = {f"total_{name}": value for name, value in usage_fields(session.state.total).items()}
    return {**total, "context_size": session.state.estimate_tokens()}


def dispatch_prompt(
    runtime: AgentRuntime,
    prompt: str,
    *,
    on_event: EventCallback | None = None,
    token: CancellationToken | None = None,
) -> AgentHandle:
    """Run a prompt in the background, in the running event loop; returns at once.

    Cancelling `token`, from any thread, cancels the run.
    """
    token = CancellationToken() if token is None else token
    running = runtime.session.run(prompt, on_event=on_event, token=token)
    task = asyncio.get_running_loop().create_task(running, name=f"prompt of {runtime.session_id}")
    return AgentHandle(runtime=runtime, prompt=prompt, task=task, token=token)


async def close_runtime(runtime: AgentRuntime, status: str = "completed") -> None:
    """Cancel what runs, take the sandbox down, and end the telemetry with `status`, which is
    one that `RunResult` may have.

    Idempotent, and fine for a runtime that was never started. Runs to its end if cancelled.
    """
    await finish(_close(runtime, status))


async def _close(runtime: AgentRuntime, status: str) -> None:
    if runtime._closed:
        return
    runtime._closed = True
    async with contextlib.AsyncExitStack() as stack:
        if runtime.observability is not None:
            stack.push_async_callback(runtime.observability.close, status)
        if runtime._owns_session:
            stack.push_async_callback(runtime.session.close)


def reconfigure_runtime(
    runtime: AgentRuntime,
    *,
    profile: str | PermissionProfile | None = None,
    working_dir: str | None = None,
    auto_approve: bool | None = None,
    enable_delegate: bool | None = None,
) -> PermissionProfile:
    """Change what is given and keep the rest; returns the profile that holds now.

    The conversation goes on, with the new tools from the next model call. Tools that were
    registered beside the profile's stay. With another `working_dir` the next tool call gets a
    new sandbox.
    """
    told: dict[str, Any] = {
        "profile": None if profile is None else load_profile(profile),
        "working_dir": working_dir,
        "auto_approve": auto_approve,
        "enable_delegate": enable_delegate,
    }
    options = replace(
        runtime.options, **{key: value for key, value in told.items() if value is not None}
    )
    assert isinstance(options.profile, PermissionProfile), "resolved when the runtime was made"
    config = replace(
        runtime.agent.config,
        profile=options.profile,
        working_dir=options.working_dir,
        auto_approve=options.auto_approve,
    )
    delegating = DelegateHandler.name in runtime.registry
    runtime.agent.reconfigure(config)
    if not options.enable_delegate:
        runtime.agent.registry.unregister(DelegateHandler.name)
    elif delegating or enable_delegate:
        _add_delegate(runtime.agent.registry)
    if working_dir is not None and working_dir != runtime.options.working_dir:
        runtime.session.renew_sandbox()
    runtime.options = options
    runtime.registry = runtime.agent.registry
    runtime.profile_name = options.profile.name
    if runtime.observability is not None:
        runtime.observability.profile_changed(options.profile.name)
    runtime.session.approval_callback = _approval(runtime.approval_callback, options)
    return options.profile
