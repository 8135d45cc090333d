"""One request from its beginning to its one terminal message.

Downloads, commands before, the agent, commands after, artifacts. A run outlives its connection
where the client can come back for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from paddock._concurrency import cancel
from paddock._logs import get_logger, redact_logs
from paddock.errors import PaddockError
from paddock.redaction import Redactor
from paddock.runtime.remote.artifacts import Artifacts
from paddock.runtime.remote.commands import CommandRunner
from paddock.runtime.remote.downloads import download_all
from paddock.runtime.remote.failures import RequestFailed, bounded, cancelled, describe
from paddock.runtime.remote.formats import check_output, output_format
from paddock.runtime.remote.frames import RunFrames
from paddock.runtime.remote.handler import (
    AgentInvocation,
    HandlerFunction,
    HandlerThread,
    Outcome,
    Posted,
    Sender,
    outcome_of,
)
from paddock.runtime.remote.messages import CommandExecutionMessage, InvocationMessage
from paddock.runtime.remote.workplace import server_environment
from paddock.runtime.remote.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from paddock.runtime.remote.framelog import FrameLog
    from paddock.runtime.remote.settings import ServerSettings
    from paddock.runtime.remote.wire import Peer
    from paddock.runtime.remote.workplace import Workplace

__all__ = ["MARK", "Follower", "Run"]

MARK = "[REDACTED]"
"""What stands for a secret, as the published programs have it."""
MAX_SECRET_BYTES = 64 * 1024
"""Bytes of all secrets of a request: what finds them takes some 2,000 times as much memory."""
MAX_BEHIND = 256
"""Frames that a client may be behind before the output of commands waits for it."""
MAX_UNREAD = 128 * 1024 * 1024
"""Bytes of unread frames that cannot be dropped; beyond this the run is ended."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """The agent's."""

    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commands:
    results: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    error: str
    metadata: Mapping[str, Any]


_Ending = _Result | _Commands | _Failure


class Follower(Protocol):
    """A connection that writes the frames of a run."""

    def give_up(self) -> None:
        """Stop writing them: another connection does."""


class Run:
    """One request. `start` begins it; it ends by itself or by `cancel`."""

    def __init__(
        self,
        request: InvocationMessage | CommandExecutionMessage,
        peer: Peer,
        run_id: str,
        *,
        handler: HandlerFunction,
        uses_sandbox: bool,
        workplace: Workplace,
        settings: ServerSettings,
        save: Callable[[str], str],
        keep: Callable[[str, FrameLog], None],
    ) -> None:
        self.id = run_id
        self.request = request
        self._too_many_secrets = sum(map(len, request.secrets_to_redact)) > MAX_SECRET_BYTES
        secrets = () if self._too_many_secrets else request.secrets_to_redact
        self.redactor = Redactor.marking(secrets, MARK)
        redact_logs(self)
        self.changed = asyncio.Event()
        """Set when there is a new frame."""
        self.frames = RunFrames(peer, self.redactor, run_id=run_id, tell=self._told, save=save)
        folders = dict.fromkeys(
            os.path.normpath(os.path.join(workplace.working_dir, each)) for each in request.folders
        )
        self.artifacts = Artifacts(
            list(folders), request.artifacts_ignore_content, self.frames, settings
        )
        self.sent = 0
        """The number of the last frame that was written to the client."""
        self.follower: Follower | None = None
        """The connection that takes its frames."""
        self.departures = 0
        """How often its client has left."""
        self.is_working = True
        """Whether commands or the agent run, rather than artifacts leave."""
        self._workspace = Workspace(
            workplace.working_dir,
            with_diff=request.workspace_diff,
            is_wanted=peer.negotiated or request.workspace_diff,
        )
        self._handler = handler
        self._uses_sandbox = uses_sandbox
        self._workplace = workplace
        self._settings = settings
        self._keep = keep
        self._room = asyncio.Event()
        self._began = time.monotonic()
        self._step: asyncio.Task[Any] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._cancelled: str | None = None
        self._may_ask = True
        self._reported: list[tuple[str, Mapping[str, Any]]] = []
        self._agent_gave: Outcome | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task of its own."""
        self._task = asyncio.create_task(self._execute())

    async def wait(self) -> None:
        """Wait until the terminal message is among the frames, and kept."""
        if self._task is not None:
            await asyncio.wait([self._task])

    @property
    def ended(self) -> bool:
        """Whether the terminal message is among the frames."""
        return self.frames.ended

    def cancel(self, code: str = "", *, bring_out: bool = False) -> None:
        """Cancel what runs now and report `code`; with `bring_out`, still collect artifacts."""
        if self.ended or self._cancelled is not None:
            return
        self._cancelled, self._may_ask = code, bring_out
        if self._step is not None:
            self._step.cancel()

    # ---------------------------------------------------------------------- the client

    def written(self, number: int) -> None:
        """Note that the frames up to `number` were written to the client."""
        self.sent = number
        if not self.frames.peer.negotiated:
            self.frames.log.acknowledge(number)
        if self.frames.log.last - number <= MAX_BEHIND:
            self._room.set()

    def detach(self) -> None:
        """Note that no connection takes the frames; what waits for one continues."""
        self.follower = None
        self.departures += 1
        self._room.set()

    def _told(self) -> None:
        self.changed.set()
        if self.frames.log.size > MAX_UNREAD:
            self.cancel("client_too_slow")

    async def _drained(self) -> None:
        """Wait while a client that is there is far behind."""
        while self.follower is not None and self.frames.log.last - self.sent > MAX_BEHIND:
            self._room.clear()
            await self._room.wait()

    # ------------------------------------------------------------------------ its life

    async def _execute(self) -> None:
        beating = asyncio.create_task(self._beat())
        try:
            ending = await self._outcome(self._work())
            self.is_working = False
            if self._may_ask:
                ending = await self._after(ending)
            await cancel(beating)
            self._end(ending)
        except Exception:
            _log.exception("run %s: a defect of the runtime", self.id)
            self.frames.error("the runtime failed", {"error_name": "Error", "code": "internal"})
        finally:
            await cancel(beating, *([] if self._watching is None else [self._watching]))
            self._workspace.close()
        if self.frames.peer.negotiated:
            await asyncio.to_thread(self._keep, self.id, self.frames.log)

    async def _beat(self) -> None:
        if self.frames.peer.negotiated:
            self.frames.heartbeat(0.0)  # which says that we negotiate, before anything is lost
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            self.frames.heartbeat(time.monotonic() - self._began)

    async def _outcome(self, work: Any) -> _Ending:
        """Run a step that `cancel` can end; return how it ended."""
        self._step = asyncio.create_task(work)
        if self._cancelled is not None:
            self._step.cancel()
        await asyncio.wait([self._step])
        if self._step.cancelled():
            told, metadata = cancelled(self._cancelled or None)
            return _Failure(error=told, metadata={**metadata, **self._given()})
        error = self._step.exception()
        if error is None:
            return self._step.result()  # type: ignore[no-any-return]
        return self._failure(error)

    def _failure(self, error: BaseException) -> _Failure:
        by_handler = isinstance(error, _HandlerFailed)
        if isinstance(error, _HandlerFailed):
            error = error.cause
        if not isinstance(error, RequestFailed | PaddockError):
            _log.error("run %s failed", self.id, exc_info=error)
        told, metadata = describe(error)
        if by_handler and self._reported:
            told, reported = self._reported.pop()
            metadata = {**metadata, **bounded(reported)}
        return _Failure(error=told, metadata={**metadata, **self._given()})

    def _given(self) -> dict[str, Any]:
        """Return what an error says of a result that the agent gave before it."""
        return {} if self._agent_gave is None else {"result": _told_result(self._agent_gave)}

    async def _work(self) -> _Ending:
        request = self.request
        if self._too_many_secrets:
            raise RequestFailed(f"secrets_to_redact: more than {MAX_SECRET_BYTES} bytes in all")
        await asyncio.to_thread(self.redactor.text, "")  # what finds them takes time to make
        wanted = None
        if isinstance(request, InvocationMessage):
            wanted = output_format(request.output_format_json_schema_str)
        await self.artifacts.begin()
        self._watching = asyncio.create_task(self.artifacts.watch())
        await self._workspace.begin()
        await download_all(
            request.downloads,
            working_dir=self._workplace.working_dir,
            timeout=self._settings.download_timeout,
        )
        commands = CommandRunner(self._workplace, self.frames, self._drained)
        if isinstance(request, CommandExecutionMessage):
            return _Commands(results=await commands.run(request.commands))
        await commands.run_all(request.pre_agent_invocation_commands, when="pre-agent")
        outcome = await self._invoke(request, wanted)
        self._agent_gave = outcome
        await commands.run_all(request.post_agent_invocation_commands, when="post-agent")
        self._agent_gave = None
        return _Result(outcome=outcome)

    async def _invoke(
        self, request: InvocationMessage, wanted: Mapping[str, Any] | None
    ) -> Outcome:
        invocation = AgentInvocation(
            system_prompt=request.system_prompt,
            user_prompt=request.user_prompt,
            model=request.model,
            output_format=wanted,
            secrets=tuple(request.secrets_to_redact),
            env={**server_environment(), **(request.agent_env or {})},
            agent_env=request.agent_env or {},
            source_id=request.source_id,
            working_dir=self._workplace.working_dir,
        )
        thread = HandlerThread(
            self._handler, invocation, self._sender(), uses_sandbox=self._uses_sandbox
        )
        try:
            returned = await thread.run(self._settings.handler_grace)
        except Exception as error:
            raise _HandlerFailed(error) from error
        outcome = outcome_of(returned)
        return outcome if wanted is None else check_output(outcome, wanted)

    def _sender(self) -> Sender:
        loop, posted = asyncio.get_running_loop(), Posted(self._said)

        def post(kind: str, first: Any, second: Any) -> None:
            posted.add(loop, (kind, first, second))

        return Sender(post, lambda: posted.count + self._behind())

    def _behind(self) -> int:
        return self.frames.log.last - self.sent if self.follower is not None else 0

    def _said(self, kind: str, first: Any, second: Any) -> None:
        """Take what the handler says. One that was left behind is not heard."""
        if not self.is_working or self._cancelled is not None:
            return
        if kind == "assistant":
            self.frames.assistant(first)
        else:
            self._reported.append((first, second))
            self.frames.warning(first, second)

    # ------------------------------------------------------------------------- the end

    async def _after(self, ending: _Ending) -> _Ending:
        """Bring artifacts out; that the client cancels now is how the run ends."""
        self._may_ask, self._cancelled = False, None
        if isinstance(ending, _Result):
            self._agent_gave = ending.outcome  # reported whatever happens from here on
        return await self._outcome(self._bring_out(ending))

    async def _bring_out(self, ending: _Ending) -> _Ending:
        if self._watching is not None:
            self.artifacts.stop()
            await asyncio.wait([self._watching])
        extra = await self._workspace.finish(self.redactor)
        await self.artifacts.bring_out(extra)
        missing = self.artifacts.missing
        if self.request.artifacts_required and missing and not isinstance(ending, _Failure):
            first = missing[0]
            told = f"artifact {first.relative_path} did not arrive: {first.status}, {first.error}"
            return _Failure(error=told, metadata={"code": "artifacts_missing", **self._given()})
        return ending

    def _end(self, ending: _Ending) -> None:
        more = {**self.artifacts.metadata(), **self._workspace.metadata(self.artifacts.changes)}
        if self._reported:
            more["warnings"] = [
                {"error": error, "metadata": bounded(metadata)}
                for error, metadata in self._reported
            ]
        try:
            self._tell_end(ending, more)
        except ValueError as error:
            self.frames.error(f"the result cannot be sent: {error}", {"error_name": "Error"})

    def _tell_end(self, ending: _Ending, more: Mapping[str, Any]) -> None:
        match ending:
            case _Result(outcome=outcome):
                self.frames.result(outcome.data, {**outcome.metadata, **more})
            case _Commands(results=results):
                self.frames.command_results(results, more)
            case _Failure(error=error, metadata=metadata):
                self.frames.error(error, {**metadata, **more})


class _HandlerFailed(Exception):
    """Has what the handler raised as `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _told_result(outcome: Outcome) -> dict[str, Any]:
    return {**outcome.data, "metadata": dict(outcome.metadata)}
