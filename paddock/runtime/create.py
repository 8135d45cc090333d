"""Making a runtime: of one agent, or of a specification of several."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, overload

from paddock.runtime.service import runtime as service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.backends.base import Backend
    from paddock.runtime.core.approval import ApprovalCallback
    from paddock.runtime.core.cancellation import CancelCheck
    from paddock.runtime.core.model import ModelClient
    from paddock.runtime.orchestration.dispatching import ActionDispatcher
    from paddock.runtime.orchestration.fields import AgentLimits, SandboxScope
    from paddock.runtime.orchestration.interpreters import TestingConfig
    from paddock.runtime.orchestration.runtime import Runtime
    from paddock.runtime.orchestration.spec import RuntimeSpec, ToolApprovalPredicate
    from paddock.runtime.orchestration.stores.base import RuntimeStore
    from paddock.runtime.orchestration.stream import EventHook
    from paddock.runtime.service.options import RuntimeOptions
    from paddock.runtime.service.runtime import AgentRuntime
    from paddock.runtime.session.session import Session

__all__ = ["close_runtime", "create_runtime", "start_runtime"]


@overload
def create_runtime(
    system_prompt: str,
    *,
    options: RuntimeOptions | None = None,
    session: Session | None = None,
    approval_callback: ApprovalCallback | None = None,
    cancel_check: CancelCheck | None = None,
) -> AgentRuntime: ...


@overload
def create_runtime(
    spec: RuntimeSpec | Mapping[str, Any],
    *,
    interpreter: str | ModelClient = "noop",
    testing: TestingConfig | Mapping[str, Any] | None = None,
    services: Mapping[str, Any] | None = None,
    data_environment: Mapping[str, Any] | None = None,
    action_dispatcher: ActionDispatcher | None = None,
    approval_predicates: Mapping[str, ToolApprovalPredicate] | None = None,
    event_hooks: EventHook | Sequence[EventHook] | None = None,
    store: str | RuntimeStore | None = None,
    approval_ttl: float | None = 24 * 3600.0,
    backend: str | Backend | None = None,
    sandbox: SandboxScope | None = None,
    limits: AgentLimits | Mapping[str, Any] | None = None,
) -> Runtime: ...


def create_runtime(*args: Any, **given: Any) -> Any:
    """Return a runtime, which the first argument tells the kind of. Starts nothing.

    With the text of a system prompt it is an `AgentRuntime`, for an agent with this prompt.
    `session` continues with its own history, agent and system prompt, and stays the caller's
    to close; of the tools of its agent, ``delegate`` is taken away if `options` say so. The
    runtime's options then have the profile and the working directory of its agent, and,
    where `options` are not given, its `auto_approve`.
    `approval_callback` is asked when a call needs approval; without one the callback of
    `session` is, if it has one, and otherwise `options.auto_approve` approves all or rejects
    all, or `options.approval_store` is where requests wait. `cancel_check` also takes the place
    of the session's only if it is given. Telemetry is kept from `start_runtime` on, where a team
    and a project are known.

    Raises `ConfigError` for an unknown profile, and for `secrets` or a `budget` with a
    session that is there already; and `ObservabilityInitializationError`.

    With a `RuntimeSpec`, or a mapping that has its fields, it is a `Runtime`.

    - `interpreter`: what answers the agents. ``noop`` calls no model, ``scripted`` makes the calls
      that the prompt lists, ``anthropic`` and ``openai`` call the models, each at its provider. A
      `ModelClient` answers all of them.
    - `testing`: a `TestingConfig` with the text of each answer, instead of an `interpreter`.
    - `services`: what handlers of tools find by name in their context.
    - `action_dispatcher`: carries out the actions of an approved plan.
    - `approval_predicates`: functions by the ids that ``{"kind": "dynamic"}`` rules name.
    - `event_hooks`: called with a copy of each event before it is given out.
    - `store`: where plans, references, approvals, histories and runs are kept: ``memory:``,
      ``sqlite:`` and the path of a file, the URL of a PostgreSQL or Redis server, or a
      `RuntimeStore`, which stays the caller's to close. Else it is the `kv` of
      `data_environment`, else ``memory:``.
    - `approval_ttl`: seconds until an approval that nobody answers is rejected; None for never.
    - `backend`: makes the sandboxes of all agents that have none of their own; ``local`` where
      neither this nor the spec says one. `sandbox` says what shares one: ``thread``, ``agent`` or
      ``call``. `limits` bound each run. All three replace what the spec says.

    Raises `ValueError` or `TypeError` for what cannot work, before anything is made.

    A keyword of the other kind is a `TypeError`.
    """
    first = _first(args, given)
    if isinstance(first, str):
        _check_keywords(given, service.create_runtime, _make())
        return service.create_runtime(first, **given)
    if not isinstance(first, Mapping) and not hasattr(first, "tenant"):
        kind = type(first).__name__
        raise TypeError(
            f"create_runtime() takes the text of a system prompt or a RuntimeSpec, not a {kind}"
        )
    _check_keywords(given, _make(), service.create_runtime)
    return _make()(first, **given)


async def start_runtime(runtime: AgentRuntime | Runtime) -> None:
    """Begin to keep telemetry, where there is some, or what ``async with`` begins. Idempotent.

    Raises `ObservabilityInitializationError` if telemetry has no place to go to.
    """
    if isinstance(runtime, service.AgentRuntime):
        await service.start_runtime(runtime)
    else:
        await runtime.__aenter__()


async def close_runtime(runtime: AgentRuntime | Runtime, status: str = "completed") -> None:
    """Cancel what runs, take the sandbox down, and end the telemetry with `status`, which is
    one that `RunResult` may have. A session that the runtime was given is left as it is, a
    run of it and its sandbox included.

    Idempotent, and fine for a runtime that was never started. A prompt that is run later
    makes a new sandbox, which closing once more takes down. Runs to its end if cancelled; in a
    callback or a tool of a run it is as `Session.close` there. A `Runtime` stays closed.
    Raises `ValueError`, with nothing closed, for an unknown status.
    """
    if isinstance(runtime, service.AgentRuntime):
        await service.close_runtime(runtime, status)
    else:
        await runtime.aclose()


def _make() -> Callable[..., Runtime]:
    from paddock.runtime.orchestration.making import make_runtime  # many programs need none of it

    return make_runtime


def _check_keywords(
    given: Mapping[str, Any], asked: Callable[..., Any], other: Callable[..., Any]
) -> None:
    """Raise `TypeError` for a keyword that `asked` does not have, and say if `other` has it."""
    known, others = _keywords(asked), _keywords(other)
    for name in given:
        if name in others and name not in known:
            raise TypeError(
                f"create_runtime({_form(asked)}) has no {name}; that is of "
                f"create_runtime({_form(other)})"
            )
        if name not in known:
            raise TypeError(f"create_runtime() has no {name}; there are {', '.join(known)}")


def _first(args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """Return the one argument without a keyword, or take it out of `given` by its name."""
    named = [given.pop(name) for name in ("system_prompt", "spec") if name in given]
    if len(args) + len(named) != 1:
        raise TypeError(
            "create_runtime() takes one argument before its keywords: the text of a system "
            "prompt, or a RuntimeSpec"
        )
    return (*args, *named)[0]


def _keywords(function: Callable[..., Any]) -> list[str]:
    return [*signature(function).parameters][1:]


def _form(function: Callable[..., Any]) -> str:
    first, *others = signature(function).parameters
    return f"{first}, *, {', '.join(others)}"
