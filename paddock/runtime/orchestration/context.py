"""What a Python tool gets besides its arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddock.runtime.core.context import RunContext
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.sandboxes import SandboxAccess

__all__ = ["ToolContext", "check_services"]


class ToolContext:
    """What a tool's handler gets as its second argument.

    Each service is an attribute and an item, and so is what the runtime adds: ``ctx.catalog``,
    ``ctx["catalog"]``, ``ctx.services["catalog"]``.

    - `tool_use_id`: the id of the call, as the events have it.
    - `references`: creates and reads references of the tenant.
    - `sandbox`: the agent's, made when it is first used; see `SandboxAccess`.
    - `agent`, `thread_id`: whose call it is, and in which thread that agent works.
    - `cancelled`: whether the caller no longer waits for the result.
    - `idempotency_key`: the same whenever this call is run, also by another process. No other
      call has it.
    """

    def __init__(self, run: TeamRun, context: RunContext[Any], sandbox: SandboxAccess) -> None:
        self._run = run
        self._context = context
        self.sandbox = sandbox
        self.services = run.services
        self.references = run.references

    @property
    def tool_use_id(self) -> str:
        return self._run.ids.of(self._context.session_id, self._context.call_id)

    @property
    def agent(self) -> str:
        return self._context.agent_path[-1]

    @property
    def thread_id(self) -> str:
        return self._run.thread_of(self._context.agent_path)

    @property
    def cancelled(self) -> bool:
        return self._context.cancellation.is_cancelled()

    @property
    def idempotency_key(self) -> str:
        session, call = self._context.session_id, self._context.call_id
        parts = (self._run.tenant, session, call)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def give_up(self) -> None:
        """Note that the caller no longer waits for the result."""
        self._context.cancellation.cancel("the caller no longer waits for the result")

    async def progress(
        self, label: str, index: int, total: int, *, milestone: str | None = None
    ) -> None:
        """Report that phase `index` of `total` has begun, as a ``tool-progress`` event.

        Raises `TypeError` for an invalid text or number.
        """
        for text in (label, milestone or ""):
            if not isinstance(text, str):
                raise TypeError(f"progress: give a text, not {type(text).__name__}")
        for number in (index, total):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"progress: give whole numbers, not {number!r}")
        event = {
            "type": "tool-progress",
            "toolName": self._context.tool_name,
            "label": label,
            "phaseIndex": index,
            "totalPhases": total,
        }
        if milestone is not None:
            event["milestone"] = milestone
        await self._run.emit(self._context.redactor.value(event))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["services"][name]  # which is not there yet when it is copied
        except KeyError:
            raise AttributeError(f"the tool context has no {name!r}{_listed(self)}") from None

    def __getitem__(self, name: str) -> Any:
        if name in _NAMES:
            return getattr(self, name)
        try:
            return self.services[name]
        except KeyError:
            raise KeyError(f"the tool context has no {name!r}{_listed(self)}") from None

    def __contains__(self, name: object) -> bool:
        return name in _NAMES or name in self.services

    def get(self, name: str, default: Any = None) -> Any:
        """Return what is called `name`, or `default`."""
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """Return the names of all that is here."""
        return [*_NAMES, *self.services]

    def as_dict(self) -> dict[str, Any]:
        """Return all that is here, by name."""
        return {name: self[name] for name in self.keys()}


_METHODS = ("as_dict", "get", "give_up", "keys")
_OWN = {name for name in dir(ToolContext) if not name.startswith("_")}
_NAMES = (*sorted(_OWN.difference(_METHODS)), "references", "sandbox", "services")
"""What a tool context has besides the services."""


def _listed(context: ToolContext) -> str:
    known = ", ".join(context.__dict__.get("services", ())) or "none"
    return f"; the services of this runtime are {known}"


def check_services(services: object) -> Mapping[str, Any]:
    """Return `services`, to be read only.

    Raise `TypeError` or `ValueError` for names that a tool context cannot have.
    """
    services = {} if services is None else services
    if not isinstance(services, Mapping):
        raise TypeError(f"services: give a mapping of names, not {type(services).__name__}")
    for name in services:
        if not isinstance(name, str) or not name:
            raise ValueError(f"services: the name {name!r} is not a non-empty string")
        if name in (*_NAMES, *_METHODS) or name.startswith("_"):
            raise ValueError(
                f"services: {name!r} is what the tool context has itself; choose another name"
            )
    return MappingProxyType(dict(services))
