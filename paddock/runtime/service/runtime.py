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
from typing import TYPE_CHECKING, Any, Self

from paddock._concurrency import finish
from paddock.errors import ConfigError, SessionError
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation.records import usage_fields
from paddock.runtime.conversation.run_state import RunState
from paddock.runtime.core.cancellation import CancellationToken
from paddock.runtime.core.events import check_run_status
from paddock.runtime.permissions.profile import PermissionProfile, load_profile
from paddock.runtime.service.handle import AgentHandle
from paddock.runtime.service.options import RuntimeOptions
from paddock.runtime.session.session import Session
from paddock.runtime.tools.delegate import DelegateHandler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from paddock.runtime.conversation.results import EventCallback, RunResult
    from paddock.runtime.core.approval import ApprovalCallback
    from paddock.runtime.core.cancellation import CancelCheck
    from paddock.runtime.core.content import Prompt
    from paddock.runtime.core.emitter import EventSink
    from paddock.runtime.telemetry import Observability
    from paddock.runtime.tools.registry import ToolRegistry

__all__ = [
    "AgentRuntime",
    "close_runtime",
    "create_runtime",
    "dispatch_prompt",
    "reconfigure_runtime",
    "run_prompt",
    "session_usage",
    "start_runtime",
]


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
    cancel_check: CancelCheck | None = None
    observability: Observability | None = None
    close_status: str = "completed"
    _owns_session: bool = field(default=True, repr=False)

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
        try:
            check_run_status(status)
        except ValueError:
            await close_runtime(self, "error")
            raise
        await close_runtime(self, status)


def create_runtime(
    system_prompt: str,
    *,
    options: RuntimeOptions | None = None,
    session: Session | None = None,
    approval_callback: ApprovalCallback | None = None,
    cancel_check: CancelCheck | None = None,
) -> AgentRuntime:
    """Return a runtime for an agent with `system_prompt`; see `create.create_runtime`."""
    owned = session is None
    if session is None:
        options = _named(RuntimeOptions() if options is None else options)
        session = _open(system_prompt, options)
    else:
        options = _as_given(session, options)
        approval_callback = approval_callback or _own_callback(session)
        cancel_check = cancel_check or session.cancel_check
    if not options.enable_delegate:
        session.registry.unregister(DelegateHandler.name)
    if options.approval_store is not None:
        session.approval_store = options.approval_store
    session.approval_callback = _approval(approval_callback, session, options)
    session.cancel_check = cancel_check
    return AgentRuntime(
        agent=session.agent,
        session=session,
        registry=session.registry,
        model=session.agent.config.model,
        profile_name=_profile(options).name,
        session_id=session.id,
        options=options,
        approval_callback=approval_callback,
        cancel_check=cancel_check,
        observability=_observability(session, options),
        _owns_session=owned,
    )


def _observability(session: Session, options: RuntimeOptions) -> Observability | None:
    from paddock.runtime.telemetry import attach  # most runtimes have none

    file = options.observability_config
    if file == os.environ.get("PADDOCK_OBSERVABILITY_CONFIG"):
        file = None  # found again, but with less say than what was given in code
    return attach(
        session,
        file,
        team_id=options.team_id,
        project_id=options.project_id,
        metadata=options.telemetry_metadata,
    )


def _named(options: RuntimeOptions) -> RuntimeOptions:
    """With the profile itself, and with the id of a session."""
    return replace(
        options,
        profile=load_profile(options.profile),
        session_id=options.session_id or str(uuid.uuid4()),
    )


def _open(system_prompt: str, options: RuntimeOptions) -> Session:
    session = Session(
        Agent(_config(system_prompt, options)),
        session_id=options.session_id,
        budget=options.budget,
        secrets=options.secrets,
    )
    if options.enable_delegate:
        _add_delegate(session.registry)
    return session


def _as_given(session: Session, options: RuntimeOptions | None) -> RuntimeOptions:
    """The options of a runtime for `session`, where that decides what they say."""
    config = session.agent.config
    if options is None:
        options = RuntimeOptions(auto_approve=config.auto_approve)
    if options.secrets or options.budget is not None:
        raise ConfigError("secrets and a budget are given to a session when it is made")
    return replace(
        options,
        profile=load_profile(config.profile),
        working_dir=config.working_dir,
        session_id=session.id,
    )


def _profile(options: RuntimeOptions) -> PermissionProfile:
    assert isinstance(options.profile, PermissionProfile), "resolved when the runtime was made"
    return options.profile


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


def _own_callback(session: Session) -> ApprovalCallback | None:
    """The callback of `session`, unless an earlier runtime's options put it there."""
    own = session.approval_callback
    return None if own in (_approve_all, _reject_all) else own


def _approval(
    given: ApprovalCallback | None, session: Session, options: RuntimeOptions
) -> ApprovalCallback | None:
    if given is not None:
        return given
    if not options.auto_approve:
        return _reject_all if options.approval_store is None else None
    return None if session.agent.config.auto_approve else _approve_all


def _approve_all(name: str, arguments: dict[str, Any]) -> bool:
    return True


def _reject_all(name: str, arguments: dict[str, Any]) -> bool:
    return False


async def start_runtime(runtime: AgentRuntime) -> None:
    """Begin to keep telemetry, where there is some; see `create.start_runtime`."""
    if runtime.observability is not None:
        await runtime.observability.start()


async def run_prompt(
    runtime: AgentRuntime,
    prompt: Prompt | RunState,
    *,
    on_event: EventCallback | None = None,
    approval_decisions: Mapping[str, bool] | None = None,
    sinks: Sequence[EventSink] = (),
) -> RunResult:
    """Run one prompt to its end; see `Session.run`. `on_event` may be async.

    A result whose status is ``interrupted`` has a `state`. Given that instead of a prompt,
    the run continues with `approval_decisions`, by the ids of the calls; see `Session.resume`.
    The runtime is the one that was interrupted, or one that had no run yet: that takes over
    the conversation, with its system prompt, under the runtime's own session id. Raises
    `SessionError` for decisions without a state, and for a runtime with another
    conversation.
    """
    if isinstance(prompt, RunState):
        _take_over(runtime.session, prompt)
        return await runtime.session.resume(
            approval_decisions or {}, on_event=on_event, sinks=sinks
        )
    if approval_decisions:
        raise SessionError("approval decisions are about a run's state; there is a prompt only")
    return await runtime.session.run(prompt, on_event=on_event, sinks=sinks)


def _take_over(session: Session, run: RunState) -> None:
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
    prompt: Prompt,
    *,
    on_event: EventCallback | None = None,
    token: CancellationToken | None = None,
) -> AgentHandle:
    """Run a prompt in the background, in the running event loop; returns at once.

    Cancelling `token`, from any thread, cancels the run, and all others that share it.
    """
    own = CancellationToken()
    forget = own.follow(token)
    running = runtime.session.run(prompt, on_event=on_event, token=own)
    task = asyncio.get_running_loop().create_task(running, name=f"prompt of {runtime.session_id}")
    task.add_done_callback(lambda _: forget())
    return AgentHandle(runtime=runtime, prompt=prompt, task=task, token=token or own, _own=own)


async def close_runtime(runtime: AgentRuntime, status: str = "completed") -> None:
    """Close what the runtime has made; see `create.close_runtime`."""
    check_run_status(status)
    if runtime.session.is_inside_run:
        await _close(runtime, status)
    else:
        await finish(_close(runtime, status))


async def _close(runtime: AgentRuntime, status: str) -> None:
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

    The conversation continues, with the new tools from the next call on, also of a run that is
    going on; its trace tells of the change. A call that was decided already runs as decided.
    Tools that were registered beside the profile's stay. With another `working_dir` the
    next run gets a new sandbox. The agent that the runtime was made with, and its other sessions,
    stay as they are: `runtime.agent` is another one then.
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
    delegates = enable_delegate or DelegateHandler.name in runtime.registry
    runtime.session.use(_reconfigured(runtime.agent, options, delegates=delegates))
    profile = _profile(options)
    runtime.options, runtime.agent = options, runtime.session.agent
    runtime.registry = runtime.agent.registry
    runtime.profile_name = profile.name
    if runtime.observability is not None:
        runtime.observability.profile_changed(profile.name)
    runtime.session.approval_callback = _approval(
        runtime.approval_callback, runtime.session, options
    )
    return profile


def _reconfigured(agent: Agent, options: RuntimeOptions, *, delegates: bool) -> Agent:
    """Return `agent` as `options` say; it `delegates` unless they forbid it."""
    config = replace(
        agent.config,
        profile=_profile(options),
        working_dir=options.working_dir,
        auto_approve=options.auto_approve,
    )
    agent = agent.replace(config)
    if not options.enable_delegate:
        agent.registry.unregister(DelegateHandler.name)
    elif delegates:
        _add_delegate(agent.registry)
    return agent
