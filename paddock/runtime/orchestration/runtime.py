"""The handle of a multi-agent runtime."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any, Self, get_args

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import PaddockError, SessionError
from paddock.runtime.core.approval import ApprovalStatus
from paddock.runtime.core.cancellation import CancellationToken
from paddock.runtime.core.tasks import OwnedTasks
from paddock.runtime.orchestration.approvals import RuntimeApproval, respond
from paddock.runtime.orchestration.drive import error_event
from paddock.runtime.orchestration.fields import AgentLimits
from paddock.runtime.orchestration.lifecycle import begin, take_up
from paddock.runtime.orchestration.limits import run_meter
from paddock.runtime.orchestration.run import TeamRun
from paddock.runtime.orchestration.runs import RuntimeRun
from paddock.runtime.orchestration.served import RuntimeToolbox, list_tools
from paddock.runtime.orchestration.serving import ApprovalWorker
from paddock.runtime.orchestration.stream import EventStream, WireSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from paddock.runtime.core.approval import ApprovalOutcome
    from paddock.runtime.orchestration.limits import Limits
    from paddock.runtime.orchestration.providers import ProviderModel
    from paddock.runtime.orchestration.records import Run
    from paddock.runtime.orchestration.spec import AgentSpec, ReferenceSpec, RuntimeSpec
    from paddock.runtime.orchestration.stores.base import RuntimeStore
    from paddock.runtime.orchestration.stream import EventHook
    from paddock.runtime.orchestration.team import Team

__all__ = ["Runtime"]

_log = get_logger(__name__)


class Runtime:
    """The agents of a `RuntimeSpec`, ready to be prompted. See `create_runtime`.

    Use it as ``async with``, which ends its runs and all that they use. Without that, what a run
    uses ends with its stream. For one event loop.
    """

    def __init__(
        self,
        team: Team,
        *,
        models: Sequence[ProviderModel],
        owned_store: RuntimeStore | None,
        hooks: Sequence[EventHook] = (),
    ) -> None:
        self._team = team
        self._models = models
        self._owned_store = owned_store
        self._hooks = tuple(hooks)
        self._active: dict[asyncio.Task[object], WireSink] = {}
        self._workers = OwnedTasks()
        self._is_entered = False
        self._is_closed = False

    @property
    def spec(self) -> RuntimeSpec:
        return self._team.spec

    def query(
        self,
        prompt: str | None,
        thread_id: str,
        resume: str | RuntimeRun | None = None,
        *,
        limits: Limits | None = None,
        token: CancellationToken | None = None,
    ) -> EventStream:
        """Have the coordinator answer `prompt`, and return the events to iterate.

        The thread remembers its earlier prompts. Nothing runs before the first event is asked for.
        The run ends as one that was cut short when it meets one of `limits`, of the runtime's or of
        the agent's. `token` cancels it, too.

        `resume`, instead of a prompt, continues a run that was left, or whose process has died: its
        id, or what `runs` lists. No call that has a result runs again; the result of one that had
        begun is that its outcome is unknown. What waits for an approval waits for the same one.
        The limits that the run was begun with apply, unless there are new `limits`; what it has
        used counts.
        """
        if resume is None:
            run = self._run(uuid.uuid4().hex, thread_id, limits, token)
            return self._stream(run, self.spec.coordinator, prompt, _NO_COORDINATOR)
        if prompt:
            raise ValueError("a run that is resumed has its prompt; give None for another one")
        run_id = resume.run_id if isinstance(resume, RuntimeRun) else resume
        run = self._run(_require_text(run_id, "resume"), thread_id, limits, token)
        return self._events(run, lambda: take_up(run))

    async def runs(self, thread_id: str | None = None) -> Sequence[RuntimeRun]:
        """Return the runs of a thread, or all of the tenant, oldest first."""
        return [RuntimeRun.of(each) for each in await self._team.runs.list(thread_id)]

    def run_specialist(
        self,
        name: str,
        prompt: str,
        thread_id: str | None = None,
        *,
        limits: Limits | None = None,
        token: CancellationToken | None = None,
    ) -> EventStream:
        """Have the specialist `name` answer `prompt`, without the coordinator. See `query`.

        Without a `thread_id` it is in a thread of its own, which ends with the run.
        """
        specialists = [each for each in self.spec.agents if each.role == "specialist"]
        agent = next((each for each in specialists if each.name == name), None)
        known = ", ".join(each.name for each in specialists) or "none"
        told = error_event(
            f"there is no specialist {name!r}; there are {known}", "unknown_specialist"
        )
        run = self._run(
            uuid.uuid4().hex, uuid.uuid4().hex if thread_id is None else thread_id, limits, token
        )
        run.keeps_sandboxes = thread_id is not None
        return self._stream(run, agent, prompt, told)

    async def create_reference(
        self, spec_or_kind: ReferenceSpec | str, value: Any, glimpse: Any = None
    ) -> dict[str, Any]:
        """Keep `value`, and return its kind, its id and its glimpse; see `References.create`."""
        return await self._team.references.create(spec_or_kind, value, glimpse)

    async def resolve_reference(self, reference: object) -> Any:
        """Return the whole value of a reference: a mapping, or an object, with `kind` and `id`."""
        return await self._team.references.resolve(reference)

    async def reference_glimpse(self, reference: object) -> Any:
        """Return the glimpse of a reference, which is kept with its value."""
        return await self._team.references.glimpse(reference)

    async def respond_to_approval(
        self,
        approval_id: str,
        outcome: ApprovalOutcome,
        feedback: str | None = None,
        *,
        partial: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> RuntimeApproval:
        """Answer an approval that waits: "approve", "reject" or "revise".

        `feedback` reaches the agent, and so does what `partial` says of a plan that is to be
        revised. `by` names the person who answers. The same answer again changes nothing.
        Raises `ValueError` for another outcome, and `ApprovalError` with a `code` for an approval
        that is ``unknown``, ``answered`` otherwise, ``expired`` or ``withdrawn``.
        """
        store = self._team.store.approvals
        return await respond(store, approval_id, outcome, feedback=feedback, partial=partial, by=by)

    async def approvals(
        self, status: ApprovalStatus | None = "pending"
    ) -> Sequence[RuntimeApproval]:
        """Return the approvals of the tenant that have this status, or all, oldest first.

        Raises `ValueError` for another status.
        """
        if status is not None and status not in (known := get_args(ApprovalStatus)):
            raise ValueError(f"status {status!r}: give one of {', '.join(known)}, or None for all")
        found = await self._team.store.approvals.list(status=status)
        return [RuntimeApproval.of(each) for each in found]

    async def serve_approvals(self) -> None:
        """Continue runs that wait, or whose process died, once their approvals are answered or
        have expired, until this is cancelled or the runtime is closed.

        Any number of processes may do this over one store: each run is continued by one of them.
        The events go to the `event_hooks`.
        """
        self._check_open()

        def resumed(run: Run) -> EventStream:
            again = self._run(run.run_id, run.thread_id, None, None)
            again.keeps_sandboxes = (
                False  # the next prompt of the thread may come from another process
            )
            return self._events(again, lambda: take_up(again))

        worker = ApprovalWorker(self._team, resumed)
        await self._workers.run(worker.serve(), name="approval worker")

    def list_mcp_tools(
        self, *, agent: str, expose_agent_tools: bool = False
    ) -> list[dict[str, Any]]:
        """Return ``name``, ``description`` and ``inputSchema`` of the tools of `agent` that MCP
        clients may call.

        Those that have other agents work are among them only if `expose_agent_tools`. Raises
        `ValueError` for an unknown agent.
        """
        return list_tools(self._team, agent, expose_agent_tools=expose_agent_tools)

    async def serve_mcp_stdio(
        self,
        *,
        agent: str,
        thread_id: str | None = None,
        call_timeout_secs: float = 30.0,
        expose_agent_tools: bool = False,
    ) -> None:
        """Serve the tools of `agent` to the MCP client at this process's stdin and stdout, until it
        closes its end or this is cancelled.

        All calls are in the thread `thread_id`, or in one of their own, whose sandbox ends with
        this. A call that takes longer than `call_timeout_secs` is an error. One that needs an
        approval is asked of the client's user, or is an error at once. Raises `MissingDependency`
        without the extra ``mcp``.
        """
        from paddock.runtime.mcp.server import make_server
        from paddock.runtime.mcp.stdio import serve_over_stdio

        async with self._toolbox(agent, thread_id, expose_agent_tools) as toolbox:
            await serve_over_stdio(make_server(toolbox, call_timeout=call_timeout_secs))

    async def serve_mcp_http(
        self,
        *,
        agent: str,
        thread_id: str | None = None,
        call_timeout_secs: float = 30.0,
        expose_agent_tools: bool = False,
        host: str = "127.0.0.1",
        port: int = 8765,
        path: str = "/mcp",
        transport: str = "streamable-http",
        allowed_origins: Sequence[str] | None = None,
        token: str | None = None,
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        """Serve the same over HTTP to any number of clients, until this is cancelled.

        `allowed_origins` are the web pages that may send requests; without them those of this
        machine may, where `host` is a loopback address. Elsewhere a `token` is required, which
        clients send as ``Authorization: Bearer``. `on_ready` is called with the URL; with port 0
        the system chooses one.
        """
        from paddock.runtime.mcp.http import HttpAddress, serve_over_http
        from paddock.runtime.mcp.server import make_server

        if transport != "streamable-http":
            raise ValueError(f"transport {transport!r}: there is 'streamable-http'")
        address = HttpAddress(
            host=host, port=port, path=path, allowed_origins=allowed_origins, token=token
        )
        async with self._toolbox(agent, thread_id, expose_agent_tools) as toolbox:
            server = make_server(toolbox, call_timeout=call_timeout_secs)
            await serve_over_http(server, address, on_ready=on_ready)

    def _toolbox(
        self, agent: str, thread_id: str | None, expose_agent_tools: bool
    ) -> RuntimeToolbox:
        return RuntimeToolbox(
            self._team,
            agent,
            thread_id=thread_id,
            expose_agent_tools=expose_agent_tools,
            start=self._start_served,
        )

    def _start_served(
        self, team: Team, thread_id: str, work: Callable[[TeamRun], Awaitable[None]]
    ) -> EventStream:
        """Begin a run of `team`, a variant of this runtime's."""
        run = TeamRun(
            run_id=uuid.uuid4().hex,
            thread_id=thread_id,
            team=team,
            sink=WireSink(hooks=self._hooks),
            meter=run_meter(self.spec, None),
            keeps_sandboxes=False,
        )
        return self._events(run, lambda: work(run))

    async def end_sandboxes(self, thread_id: str) -> None:
        """End the sandboxes of a thread, which are otherwise kept as long as the runtime.

        The next tool that needs one gets a new one. Raises `SessionError` during a run there.
        """
        await self._team.sandboxes.release(thread_id)

    async def aclose(self) -> None:
        """Cancel what runs, and close all that the runtime has opened. Idempotent."""
        self._is_closed = True
        await finish(self._close())

    async def __aenter__(self) -> Self:
        self._check_open()
        self._is_entered = True
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def _close(self) -> None:
        await self._workers.aclose()
        for sink in self._active.values():
            sink.cancel("the runtime was closed")
        if self._active:
            await asyncio.wait(self._active)
        async with contextlib.AsyncExitStack() as everything:
            if self._owned_store is not None:
                everything.push_async_callback(self._owned_store.aclose)
            everything.push_async_callback(self._release)
            await self._team.sandboxes.aclose()

    def _check_open(self) -> None:
        if self._is_closed:
            raise SessionError("the runtime is closed")

    async def _release(self) -> None:
        for model in self._models:
            await model.aclose()
        await self._team.data.aclose()

    def _stream(
        self,
        run: TeamRun,
        agent: AgentSpec | None,
        prompt: str | None,
        otherwise: dict[str, object],
    ) -> EventStream:
        asked = _require_text(prompt, "prompt")
        if agent is None:
            return self._events(run, lambda: run.emit(otherwise))
        return self._events(run, lambda: begin(run, agent, asked))

    def _run(
        self, run_id: str, thread_id: str, limits: Limits | None, token: CancellationToken | None
    ) -> TeamRun:
        given = None if limits is None else AgentLimits.model_validate(limits)
        if token is not None and not isinstance(token, CancellationToken):
            raise TypeError(f"token: give a CancellationToken, not {type(token).__name__}")
        return TeamRun(
            run_id=run_id,
            thread_id=_require_text(thread_id, "thread_id"),
            team=self._team,
            sink=WireSink(hooks=self._hooks, follows=token),
            meter=run_meter(self.spec, given),
            limits=given,
        )

    def _events(self, run: TeamRun, work: Callable[[], Awaitable[None]]) -> EventStream:
        return EventStream(run.run_id, run.sink, lambda: self._active_while(run, work))

    async def _active_while(self, run: TeamRun, work: Callable[[], Awaitable[None]]) -> None:
        self._check_open()
        task = asyncio.current_task()
        assert task is not None, "async code runs in a task"
        self._active[task] = run.sink
        try:
            keep = self._is_entered and run.keeps_sandboxes
            async with self._team.sandboxes.during_run(run.thread_id, keep=keep):
                await work()
        except PaddockError:
            _log.exception("what run %s used could not be closed", run.run_id)
        finally:
            del self._active[task]
            if not self._active and not self._is_entered:
                await finish(self._release())


def _require_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: give a text, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name}: give a text that says something, not {value!r}")
    return value


_NO_COORDINATOR = error_event(
    "this runtime has no coordinator; define one, or use run_specialist", "no_coordinator"
)
