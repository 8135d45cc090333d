"""Stores of approvals: what a store promises, written once over transactions, and one in memory.

A store says how a transaction is made. What is decided in it is the same for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import threading
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from paddock.errors import ApprovalError
from paddock.runtime.approvals.revising import check_revision
from paddock.runtime.approvals.waiters import Waiters
from paddock.runtime.core.approval import Approval, ApprovalStatus, Decision
from paddock.runtime.tools.arguments import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from paddock.runtime.core.approval import ApprovalRequest

__all__ = ["MemoryApprovalStore", "Rows", "Table", "TransactionalStore"]

T = TypeVar("T")

POLL_INTERVAL = 0.25
"""Seconds between two looks whether another process has answered. A person does not feel it, and a
thousand that wait at once cost some per cent of a core: most looks are at the file's size."""

LOOKS = 20
"""Polls until a store is read though its files look unchanged: two changes within one tick of the
file system's clock may look like one."""


class Rows(Protocol):
    """What a transaction sees. Blocks."""

    def get(self, approval_id: str) -> Approval | None:
        """Return the approval of this id."""
        ...

    def all(self, session_id: str | None) -> Iterable[Approval]:
        """Return the approvals of one session, or all, in the order in which they came."""
        ...

    def put(self, approval: Approval) -> None:
        """Add an approval, or replace the one of its id."""
        ...


class TransactionalStore(ABC):
    """An `ApprovalStore` over transactions that exclude each other.

    Who waits is woken at once by an answer that is given to this object, or to one with the same
    `waiters`, and looks for those of other processes.
    """

    def __init__(self, waiters: Waiters | None = None) -> None:
        self._waiters = Waiters() if waiters is None else waiters

    @abstractmethod
    async def _do(self, work: Callable[[Rows], T], *, writing: bool) -> T:
        """Do `work` in one transaction, to its end if cancelled.

        What it has put is kept when this returns, and nothing of it if it raises. Without
        `writing` it puts nothing.
        """

    def _stamp(self) -> object:
        """Return what changes when the store is written; None if it is as cheap to read it."""
        return None

    async def ask(self, request: ApprovalRequest) -> Approval:
        """See `ApprovalStore.ask`."""

        def ask(rows: Rows) -> Approval:
            known = rows.get(request.id)
            if known is not None and known.status != "withdrawn":
                return known
            rows.put(asked := Approval(request=request))
            return asked

        return await self._do(ask, writing=True)

    async def get(self, approval_id: str) -> Approval | None:
        """See `ApprovalStore.get`."""
        return await self._do(lambda rows: rows.get(approval_id), writing=False)

    async def list(
        self, *, session_id: str | None = None, status: ApprovalStatus | None = None
    ) -> Sequence[Approval]:
        """See `ApprovalStore.list`."""
        found = await self._do(lambda rows: [*rows.all(session_id)], writing=False)
        return [each for each in found if status in (None, each.status)]

    async def resolve(self, approval_id: str, decision: Decision) -> Approval:
        """See `ApprovalStore.resolve`."""

        def resolve(rows: Rows) -> Approval:
            known = rows.get(approval_id)
            if known is not None and known.decision == decision:
                return known
            known = _open(approval_id, known)
            _check(known.request, decision)
            answered = replace(known, decision=decision, decided_at=dt.datetime.now(dt.UTC))
            rows.put(answered)
            return answered

        try:
            return await self._do(resolve, writing=True)
        finally:  # it may be kept although this was cancelled
            self._waiters.wake(approval_id)

    async def withdraw(self, approval_ids: Iterable[str]) -> None:
        """See `ApprovalStore.withdraw`."""
        wanted = list(approval_ids)

        def withdraw(rows: Rows) -> None:
            for known in map(rows.get, wanted):
                if known is not None and known.status == "pending":
                    rows.put(replace(known, withdrawn=True))

        if wanted:
            try:
                await self._do(withdraw, writing=True)
            finally:
                self._waiters.wake(*wanted)

    async def wait(self, approval_id: str) -> Decision:
        """See `ApprovalStore.wait`."""
        known, seen, polls = None, None, itertools.count()
        with self._waiters.waiting(approval_id) as woken:
            while True:
                stamp, is_due = self._stamp(), next(polls) % LOOKS == 0
                if is_due or woken.is_set() or stamp is None or stamp != seen:
                    woken.clear()
                    known, seen = await self.get(approval_id), stamp
                if known is not None and known.answer is not None:
                    return known.answer
                _open(approval_id, known)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL):
                        await woken.wait()


def _check(request: ApprovalRequest, decision: Decision) -> None:
    try:
        check_revision(request.args, decision, request.parameters)
    except ArgumentError as error:
        reason = f"the revised arguments do not fit the tool {request.tool!r}: {error}"
        raise ApprovalError(request.id, "arguments", reason) from error


def _open(approval_id: str, known: Approval | None) -> Approval:
    """Return `known` if it can still be answered; raise `ApprovalError` that says why not."""
    if known is None:
        raise ApprovalError(approval_id, "unknown", "there is no such approval")
    match known.status:
        case "pending":
            return known
        case "answered":
            raise ApprovalError(approval_id, "answered", f"it was answered already: {_told(known)}")
        case "expired":
            when = f"{known.request.expires_at:%F %T}"
            raise ApprovalError(approval_id, "expired", f"it expired at {when} UTC")
        case "withdrawn":
            reason = "it is no longer needed: its run continued or ended without it"
            raise ApprovalError(approval_id, "withdrawn", reason)


def _told(known: Approval) -> str:
    decision = known.decision
    assert decision is not None, "it was answered"
    by = f" by {decision.by}" if decision.by else ""
    return f"{decision.outcome}{by}, {known.decided_at:%F %T} UTC"


class Table:
    """`Rows` in a dictionary; `added` has what was put, oldest first."""

    def __init__(self, known: dict[str, Approval]) -> None:
        self.known = known
        self.added: list[Approval] = []

    def get(self, approval_id: str) -> Approval | None:
        return self.known.get(approval_id)

    def all(self, session_id: str | None) -> Iterable[Approval]:
        known = self.known.values()
        return [each for each in known if session_id in (None, each.request.session_id)]

    def put(self, approval: Approval) -> None:
        self.known[approval.request.id] = approval
        self.added.append(approval)


class MemoryApprovalStore(TransactionalStore):
    """Approvals in this process, for any of its threads."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Approval] = {}
        self._lock = threading.Lock()

    async def _do(self, work: Callable[[Rows], T], *, writing: bool) -> T:
        with self._lock:  # for some microseconds
            return work(Table(self._known))
