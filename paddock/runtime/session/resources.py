"""What a session holds open: its model client and its sandbox, with the secrets of its commands."""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from paddock.runtime.agents.secret_scope import SecretScope
from paddock.runtime.core.lazy import LazyResource
from paddock.runtime.session.provisioning import provision
from paddock.runtime.session.servers import SessionServers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.base import Progress, ProgressCallback
    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.model import ModelClient
    from paddock.runtime.tools.registry import ToolRegistry
    from paddock.sandbox import Sandbox

__all__ = ["ResourceOwner", "SessionResources"]


class ResourceOwner(Protocol):
    """The session, of which the resources keep no reference: it may be forgotten."""

    on_provision: ProgressCallback | None

    @property
    def out(self) -> Emitter | None:
        """Where the events of its run go now; None while it has no run."""
        ...


class SessionResources:
    """The client and the sandbox of the agent that the session is at the time.

    Both are made when they are first needed. A `client` that is given stays the caller's to
    close, and so does a `sandbox`, which another session keeps.
    """

    def __init__(
        self,
        owner: ResourceOwner,
        agent: Agent,
        *,
        client: ModelClient | None,
        sandbox: LazyResource[Sandbox] | None,
        secrets: Mapping[str, str] | SecretScope | None,
    ) -> None:
        scope = secrets if isinstance(secrets, SecretScope) else SecretScope(agent, secrets or {})
        self.secrets = scope
        self.given_client = client
        self._client = LazyResource(functools.partial(_connect, scope), name="model client")
        making = functools.partial(_provision, scope, weakref.ref(owner))
        self._own_sandbox: LazyResource[Sandbox] = LazyResource(making, name="sandbox")
        self.sandbox = self._own_sandbox if sandbox is None else sandbox
        self._stale: set[LazyResource[Any]] = set()
        self._mcp = SessionServers(scope, self.get_sandbox)
        weakref.finalize(owner, self._mcp.release).atexit = False
        for lazy in (self._client, self._own_sandbox):
            # Only a word to the task that owns the thing; that one closes it.
            weakref.finalize(owner, lazy.release).atexit = False

    async def connect(self) -> ModelClient:
        return self.given_client or await self._client.get()

    async def connect_mcp_servers(self) -> None:
        """Connect to the servers of the agent. Raises `ConfigError` for one that cannot be
        reached."""
        await self._mcp.connect()

    def with_mcp_tools(self, registry: ToolRegistry) -> ToolRegistry:
        """Return `registry` with the tools of the servers that it is connected to."""
        return self._mcp.added_to(registry)

    async def get_sandbox(self) -> Sandbox:
        """Return the sandbox, whose commands get the secrets that there are now."""
        return self.secrets.lend(await self.sandbox.get())

    def use(self, before: Agent, agent: Agent) -> None:
        """Be those of `agent` instead of `before`, from the next `renew_stale` on."""
        self.secrets.use(agent)
        if before.endpoint != agent.endpoint:
            self._stale.add(self._client)
        if before.workplace != agent.workplace:
            self._stale.add(self.sandbox)

    def give_up_sandbox(self) -> None:
        """Have another sandbox from the next `renew_stale` on."""
        self._stale.add(self.sandbox)

    def renew_stale(self) -> None:
        """Let the next call have new ones. The caller knows that no run uses the old ones."""
        while self._stale:
            self._stale.pop().renew()

    async def aclose(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._client.aclose)
            stack.push_async_callback(self._own_sandbox.aclose)
            await self._mcp.aclose()


async def _connect(scope: SecretScope) -> ModelClient:
    return await scope.agent.connect()  # the agent may be another one by now


async def _provision(scope: SecretScope, owner: weakref.ref[ResourceOwner]) -> Sandbox:
    def current() -> Emitter | None:
        known = owner()
        return None if known is None else known.out

    def tell(progress: Progress) -> None:
        known = owner()
        if known is not None and known.on_provision is not None:
            known.on_provision(progress)

    return await provision(scope, current, tell)
