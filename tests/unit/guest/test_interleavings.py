"""A host and an honest guest, with any interleaving of frames, breaks, pauses and closes.

No socket and no process: hypothesis decides which frame arrives next, when the stream
breaks and takes with it what was on its way, who gives up waiting, and when all ends. The
guest here keeps to docs/guest-protocol.md, so it must never be accused; each answer says
which question it belongs to, so none may ever reach another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.inside import wire
from paddock.backends.guest.link import State
from paddock.errors import CommandLost, SandboxClosed, SandboxError
from paddock.process import Command
from tests.unit.guest.honest import HonestGuest, Stream
from tests.unit.guest.puppet import RecordingTransport

if TYPE_CHECKING:
    from paddock.backends.guest.connection import Connection
    from paddock.backends.guest.process import GuestProcess
    from paddock.sandbox import ExecResult

ENOUGH = 8
"""Questions after which a sandbox may be lost or closed: before, there is little to lose."""
TURNS = 12
"""Turns of the loop after each step: more than any chain of callbacks is long."""


class Conversation(RuleBasedStateMachine):
    """The rules are what may happen; the invariants are what holds after each."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self.on_loop_error)
        self.loop_errors: list[object] = []
        self.guest = HonestGuest()
        self.asked = 0
        self.broke = self.was_paused = False
        self.processes: dict[str, GuestProcess] = {}
        self.waiting: dict[str, asyncio.Task[Any]] = {}
        self.advance(self.begin())

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.loop_errors.append(context)

    def advance(self, work: Any = None) -> None:
        async def turns() -> None:
            if work is not None:
                await work
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    async def begin(self) -> None:
        self.client = GuestClient()
        self.stream = self.open(self.client.connect())
        self.reconnecting: asyncio.Task[None] | None = None

    def open(self, connection: Connection) -> Stream:
        return Stream(connection, RecordingTransport(connection))

    @property
    def over(self) -> bool:
        return self.client.link.over

    def name(self) -> str:
        self.asked += 1
        return str(self.asked)

    # what the host's owner does

    @precondition(lambda self: not self.over)
    @rule(streamed=st.booleans(), heard=st.booleans())
    def start(self, streamed: bool, heard: bool) -> None:
        self.advance(self.starting(self.name(), streamed=streamed))
        if heard and self.stream.alive and not self.guest.paused:
            self.deliver_all()

    async def starting(self, name: str, *, streamed: bool) -> None:
        process = self.client.exec(
            Command(argv=(name,), cwd=PurePosixPath("/"), env={}, streamed=streamed, keep=100)
        )
        self.processes[name] = process
        self.waiting[name] = asyncio.ensure_future(process.wait())

    @precondition(lambda self: not self.over)
    @rule(operation=st.sampled_from(["stat", "mkdir"]))
    def ask(self, operation: str) -> None:
        async def work() -> None:
            name = self.name()
            asking = asyncio.ensure_future(self.client.request(operation, name=name))
            self.waiting[f"?{name}"] = asking

        self.advance(work())

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        if self.processes:
            name = data.draw(st.sampled_from(sorted(self.processes)))
            key = f"kill {name}"
            if key not in self.waiting:

                async def work() -> None:
                    self.waiting[key] = asyncio.ensure_future(self.processes[name].kill(grace=0))

                self.advance(work())

    @rule(data=st.data())
    def stop_waiting(self, data: st.DataObject) -> None:
        questions = sorted(key for key in self.waiting if key.startswith("?"))
        if questions:
            self.waiting[data.draw(st.sampled_from(questions))].cancel()
            self.advance()

    @precondition(lambda self: self.client.link.state is State.RUNNING)
    @rule()
    def pause(self) -> None:
        self.guest.paused = self.was_paused = True
        self.client.link.pause()
        self.advance()

    @precondition(lambda self: self.client.link.state is State.PAUSED)
    @rule()
    def resume(self) -> None:
        self.guest.paused = False
        self.client.link.resume(connected=self.client.channels.connected)
        self.advance()

    @rule()
    def beat(self) -> None:
        self.advance(self.beating())

    async def beating(self) -> None:
        self.client.channels.beat()

    # what happens on the way, and inside

    @precondition(lambda self: self.stream.alive and not self.guest.paused)
    @rule(count=st.integers(1, 5))
    def deliver_to_guest(self, count: int) -> None:
        frames = self.stream.transport.frames
        for frame in frames[:count]:
            self.guest.take(self.stream, *frame)
        del frames[:count]
        self.advance()

    @precondition(lambda self: self.stream.alive)
    @rule(count=st.integers(1, 5))
    def deliver_to_host(self, count: int) -> None:
        async def work() -> None:
            count_now = min(count, len(self.stream.to_host))
            frames = [wire.frame(*self.stream.to_host.popleft()) for _ in range(count_now)]
            self.stream.connection.data_received(b"".join(frames))

        self.advance(work())

    @precondition(lambda self: self.stream.alive and not self.guest.paused)
    @rule()
    def deliver_all(self) -> None:
        while self.stream.transport.frames or self.stream.to_host:
            self.deliver_to_guest(100)
            self.deliver_to_host(100)

    @precondition(lambda self: not self.guest.paused)
    @rule(data=st.data(), size=st.sampled_from([1, 60, 100, 200_000]), heard=st.booleans())
    def prints(self, data: st.DataObject, size: int, heard: bool) -> None:
        if self.stream.alive and self.stream.commands:
            channel = data.draw(st.sampled_from(sorted(self.stream.commands)))
            self.guest.print(self.stream, channel, size)
            if heard:
                self.deliver_all()

    @precondition(lambda self: not self.guest.paused)
    @rule(data=st.data(), background=st.booleans())
    def ends(self, data: st.DataObject, background: bool) -> None:
        if self.stream.commands:
            channel = data.draw(st.sampled_from(sorted(self.stream.commands)))
            self.guest.end(self.stream, channel, background=background)

    @precondition(lambda self: self.stream.alive and not self.over)
    @rule(shortly=st.booleans())
    def breaks(self, shortly: bool) -> None:
        async def work() -> None:
            self.broke = True
            self.stream.alive = False
            self.stream.to_host.clear()
            self.stream.transport.frames.clear()
            self.guest.broken = self.stream
            self.stream.connection.connection_lost(None)

        self.advance(work())
        if shortly and self.client.link.state is State.RECONNECTING:
            self.reconnects(killed=True)

    @precondition(
        lambda self: self.client.link.state is State.RECONNECTING and not self.stream.alive
    )
    @rule(killed=st.booleans())
    def reconnects(self, killed: bool) -> None:
        """To the end: one that is broken off is asked for again, which this does not model."""

        async def work() -> None:
            joining = GuestClient()
            self.stream = self.open(joining.connect())
            await asyncio.sleep(0)
            self.reconnecting = asyncio.ensure_future(
                self.client.reconnect(self.stream.connection, "host")
            )
            await asyncio.sleep(0)

        self.advance(work())
        assert self.reconnecting is not None
        while not self.reconnecting.done():
            self.deliver_to_guest(100)
            if killed:  # what the guest does at once is in the same piece as its answer
                for channel in tuple(self.stream.commands):
                    if self.stream.commands[channel].killing:
                        self.guest.end(self.stream, channel, background=False)
            self.deliver_to_host(100 if killed else 1)

    @precondition(lambda self: not self.over and self.asked >= ENOUGH)
    @rule(lost=st.booleans())
    def end_all(self, lost: bool) -> None:
        async def work() -> None:
            if lost:
                self.client.link.fail("taken away")
            else:
                self.client.link.close()

        self.advance(work())

    # what holds

    @invariant()
    def nothing_escapes(self) -> None:
        assert not self.loop_errors

    @invariant()
    def an_honest_guest_is_not_accused(self) -> None:
        error = self.client.link.ended
        assert not error.done() or "protocol violation" not in str(error.result())

    @invariant()
    def every_answer_is_to_its_own_question(self) -> None:
        for key, task in self.waiting.items():
            if task.done() and not task.cancelled() and task.exception() is None:
                if key.startswith("?"):
                    assert task.result()[0] == {"name": key[1:]}
                elif not key.startswith("kill"):
                    self.check_result(key, task.result())

    def check_result(self, name: str, result: ExecResult) -> None:
        killed = self.waiting.get(f"kill {name}") is not None and result.exit_code == 137
        assert killed or result.exit_code == int(name) % 200
        assert set(result.stdout_bytes) <= {ord(name[-1])}

    @invariant()
    def what_changes_something_is_done_once(self) -> None:
        changes = [one for one in self.guest.done if one[0] == "mkdir"]
        assert len(changes) == len(set(changes))

    @invariant()
    def what_was_killed_is_gone(self) -> None:
        running = {command.name for command in self.stream.commands.values()}
        for key, task in self.waiting.items():
            if key.startswith("kill") and task.done() and not (self.over or self.was_paused):
                assert key.removeprefix("kill ") not in running

    @invariant()
    def output_with_a_gap_is_no_result(self) -> None:
        for name in self.guest.cut_off:
            task = self.waiting[name]
            if f"kill {name}" not in self.waiting and task.done():
                assert isinstance(task.exception(), SandboxError)

    @invariant()
    def a_result_is_lost_only_with_a_stream(self) -> None:
        for task in self.waiting.values():
            if task.done() and not task.cancelled():
                assert self.broke or not isinstance(task.exception(), CommandLost)

    @invariant()
    def nobody_waits_for_what_is_over(self) -> None:
        if self.over:
            assert all(task.done() for task in self.waiting.values())
            assert not self.client.channels._table

    def teardown(self) -> None:
        """Let everything that is under way come to its end: nothing may wait for ever."""
        try:
            if not self.over:
                self.finish_all()
        finally:
            self.advance(self.close())
            for task in self.waiting.values():
                with contextlib.suppress(BaseException):
                    task.exception()
            self.loop.close()

    async def close(self) -> None:
        self.client.link.close()

    def finish_all(self) -> None:
        if self.client.link.state is State.PAUSED:
            self.resume()
        if not self.stream.alive:
            self.reconnects(killed=False)
        for _ in range(1000):
            self.deliver_to_guest(100)
            for channel in tuple(self.stream.commands):
                self.guest.end(self.stream, channel, background=False)
            self.deliver_to_host(100)
            if all(task.done() for task in self.waiting.values()):
                break
        self.nothing_escapes()
        self.an_honest_guest_is_not_accused()
        self.every_answer_is_to_its_own_question()
        left = [key for key, task in self.waiting.items() if not task.done()]
        assert not left, json.dumps(left)
        assert not any(
            isinstance(task.exception(), SandboxClosed)
            for task in self.waiting.values()
            if not task.cancelled()
        )


Conversation.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestConversation = Conversation.TestCase
