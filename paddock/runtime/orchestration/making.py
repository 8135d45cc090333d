"""Making a runtime of its specification: all that can be wrong is said here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.orchestration.catalog.data import open_data
from paddock.runtime.orchestration.catalog.tools import CATALOG_TOOLS
from paddock.runtime.orchestration.context import check_services
from paddock.runtime.orchestration.data_environment import read_data_environment
from paddock.runtime.orchestration.interpreters import (
    Interpreter,
    Mock,
    Models,
    Noop,
    Scripted,
    TestingConfig,
)
from paddock.runtime.orchestration.plans import Plans
from paddock.runtime.orchestration.policy import predicates_of, warn_about_ungated_tools
from paddock.runtime.orchestration.providers import (
    ANTHROPIC,
    OPENAI_COMPATIBLE,
    ProviderModel,
    check_providers,
    model_of,
)
from paddock.runtime.orchestration.references import References
from paddock.runtime.orchestration.runtime import Runtime
from paddock.runtime.orchestration.sandboxes import Sandboxes
from paddock.runtime.orchestration.spec import RuntimeSpec
from paddock.runtime.orchestration.store import TenantStore, open_store
from paddock.runtime.orchestration.stores.base import RuntimeStore
from paddock.runtime.orchestration.team import Team

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import Backend
    from paddock.runtime.core.model import ModelClient
    from paddock.runtime.orchestration.catalog.data import AgentData
    from paddock.runtime.orchestration.data_environment import DataEnvironment
    from paddock.runtime.orchestration.dispatching import ActionDispatcher
    from paddock.runtime.orchestration.fields import SandboxScope
    from paddock.runtime.orchestration.limits import Limits
    from paddock.runtime.orchestration.spec import ToolApprovalPredicate
    from paddock.runtime.orchestration.stream import EventHook

__all__ = ["make_runtime"]

APPROVAL_TTL = 24 * 3600.0
"""Seconds for which an approval waits for somebody to answer: a day, as people work."""
MAX_TTL = 100 * 365 * 24 * 3600.0
"""A hundred years: dates end in the year 9999. None waits for ever."""

_NEEDS = {"anthropic": ANTHROPIC, "openai": OPENAI_COMPATIBLE}
"""The providers that the interpreters of this name need."""


def make_runtime(
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
    approval_ttl: float | None = APPROVAL_TTL,
    backend: str | Backend | None = None,
    sandbox: SandboxScope | None = None,
    limits: Limits | None = None,
) -> Runtime:
    """See `create_runtime`."""
    _check_dispatcher(action_dispatcher)
    _check_ttl(approval_ttl)
    spec = _as_spec(spec, backend=backend, sandbox=sandbox, limits=limits)
    environment = read_data_environment(data_environment or {}, tenant=spec.tenant.resource_id)
    check_providers(spec)
    _check_handlers(spec)
    data = open_data(environment, tenant=spec.tenant.resource_id)
    _check_catalog_tools(spec, data)
    opened = _opened(store, environment)
    kept = TenantStore(opened, spec.tenant.resource_id)
    references = References(kept, spec.references)
    models = {name: ProviderModel(name, each) for name, each in spec.providers.items()}
    team = Team(
        spec=spec,
        sandboxes=Sandboxes(spec),
        store=kept,
        references=references,
        plans=Plans(
            store=kept,
            references=references,
            specs={plan.name: plan for plan in spec.plans},
            dispatcher=action_dispatcher,
        ),
        data=data,
        interpreters=_interpreters(spec, interpreter, testing, models),
        predicates=predicates_of(spec, approval_predicates),
        services=check_services(services),
        approval_ttl=approval_ttl,
    )
    warn_about_ungated_tools(spec)
    return Runtime(
        team,
        models=list(models.values()),
        owned_store=None if opened is store else opened,
        hooks=_hooks(event_hooks),
    )


def _opened(store: str | RuntimeStore | None, environment: DataEnvironment) -> RuntimeStore:
    """Return `store`, else the one that `environment` describes, else one in memory."""
    if store is None:
        return open_store("memory:") if environment.kv is None else environment.kv.open()
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, RuntimeStore):
        raise TypeError(f"store: give a text or a RuntimeStore, not {type(store).__name__}")
    return store


def _check_catalog_tools(spec: RuntimeSpec, data: AgentData) -> None:
    """Raise `ConfigError` for an agent whose tools of the toolkit `catalog` all lack their data.

    A tool that lacks its own beside others that do not says so when it is called.
    """
    for agent in spec.agents:
        tools = [CATALOG_TOOLS[each] for each in spec.builtin_tools(agent) if each in CATALOG_TOOLS]
        lacking = dict.fromkeys(each.needs for each in tools)
        if tools and all(getattr(data, part) is None for part in lacking):
            keys = " and ".join(f"data_environment.{part}" for part in lacking)
            raise ConfigError(
                f"agent {agent.name!r} has the toolkit 'catalog', and its tools need {keys}: this "
                "runtime was given nothing of it"
            )


def _check_dispatcher(dispatcher: object) -> None:
    if dispatcher is not None and not callable(dispatcher):
        raise TypeError(f"action_dispatcher: give a function, not {type(dispatcher).__name__}")


def _check_ttl(seconds: object) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"approval_ttl: give seconds or None, not {type(seconds).__name__}")
    if not 0 <= seconds <= MAX_TTL:
        raise ValueError(f"approval_ttl: give 0 to {MAX_TTL:.0f} seconds, not {seconds}")


def _as_spec(given: RuntimeSpec | Mapping[str, Any], **changes: Any) -> RuntimeSpec:
    """Return the spec that is given, with those of `changes` that are not None."""
    spec = given if isinstance(given, RuntimeSpec) else RuntimeSpec.model_validate(given)
    made = {name: value for name, value in changes.items() if value is not None}
    return RuntimeSpec.model_validate({**dict(spec), **made}) if made else spec


def _interpreters(
    spec: RuntimeSpec,
    interpreter: str | ModelClient,
    testing: TestingConfig | Mapping[str, Any] | None,
    models: Mapping[str, ProviderModel],
) -> dict[str, Interpreter]:
    """Return what answers each agent."""
    if testing is not None:
        config = TestingConfig.of(testing)
        if interpreter != "noop":
            raise ValueError(f"testing= and interpreter={interpreter!r} exclude each other")
        return {agent.name: Mock(config.mock_response) for agent in spec.agents}
    match interpreter:
        case "noop":
            return {agent.name: Noop() for agent in spec.agents}
        case "scripted":
            return {agent.name: Scripted() for agent in spec.agents}
        case "anthropic" | "openai":
            needed = _NEEDS[interpreter]
            if needed not in spec.providers:
                raise ValueError(
                    f"interpreter={interpreter!r} needs the provider {needed!r} in "
                    "define_runtime(providers=)"
                )
            return {agent.name: Models(models[str(model_of(agent)[0])]) for agent in spec.agents}
        case str():
            raise ValueError(
                f"interpreter={interpreter!r}: give 'noop', 'scripted', 'anthropic', 'openai' or "
                "a ModelClient"
            )
    if not callable(getattr(interpreter, "stream", None)):
        raise TypeError(f"interpreter: give a name or a ModelClient, not {interpreter!r}")
    return {agent.name: Models(interpreter) for agent in spec.agents}


def _check_handlers(spec: RuntimeSpec) -> None:
    for agent in spec.agents:
        for tool in agent.tools:
            if tool.handler is None:
                raise ValueError(
                    f"agent {agent.name!r}: the tool {tool.name!r} has no handler; bind one"
                )


def _hooks(given: Sequence[EventHook] | EventHook | None) -> Sequence[EventHook]:
    if given is not None and not callable(given) and not isinstance(given, Iterable):
        raise TypeError(f"event_hooks: give functions, not {type(given).__name__}")
    hooks = [given] if callable(given) else list(given or ())
    for hook in hooks:
        if not callable(hook):
            raise TypeError(f"event_hooks: {hook!r} is not a function")
    return hooks
