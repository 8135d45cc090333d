"""The approvals and the conversations of one tenant, over the rows of a `RuntimeStore`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from paddock.errors import SessionError
from paddock.runtime.approvals.records import approval_json, read_approval
from paddock.runtime.approvals.stores import TransactionalStore
from paddock.runtime.conversation.claimed import ClaimedConversationStore
from paddock.runtime.conversation.store import range_below
from paddock.runtime.core.claims import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from paddock.runtime.approvals.stores import Rows as ApprovalRows
    from paddock.runtime.conversation.claimed import ConversationRows
    from paddock.runtime.core.approval import Approval
    from paddock.runtime.orchestration.stores.base import Rows, RuntimeStore

__all__ = ["TenantApprovalStore", "TenantConversationStore"]

T = TypeVar("T")


class TenantApprovalStore(TransactionalStore):
    """The approvals of one tenant; an `ApprovalStore`."""

    def __init__(self, store: RuntimeStore, tenant: str) -> None:
        super().__init__(store.waiters)
        self._store = store
        self._tenant = tenant

    def _stamp(self) -> object:
        return self._store.stamp()

    async def _do(self, work: Callable[[ApprovalRows], T], *, writing: bool) -> T:
        return await self._store.do(
            self._tenant, lambda rows: work(_ApprovalRows(rows)), writing=writing
        )


class _ApprovalRows:
    _table = "approvals"

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, approval_id: str) -> Approval | None:
        data = self._rows.get(self._table, approval_id)
        return None if data is None else read_approval(data)

    def all(self, session_id: str | None) -> Iterable[Approval]:
        return [read_approval(data) for _, data in self._rows.all(self._table, session_id)]

    def put(self, approval: Approval) -> None:
        request = approval.request
        data = approval_json(approval).encode()
        self._rows.put(self._table, request.id, data, group=request.session_id)


class TenantConversationStore(ClaimedConversationStore):
    """The conversations of one tenant; a `ConversationStore`."""

    def __init__(self, store: RuntimeStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant

    @property
    def path(self) -> Path | None:
        return self._store.path

    def transact(self, work: Callable[[ConversationRows], T], *, writing: bool = True) -> T:
        return self._store.transact(
            self._tenant, lambda rows: work(_ConversationRows(rows)), writing=writing
        )


class _ConversationRows:
    """A row of `_heads` is the claim on a conversation and its number of records."""

    _heads = "conversations"
    _table = "records"

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def claim(self, conversation_id: str) -> Claim | None:
        return self._head(conversation_id)[0]

    def set_claim(self, conversation_id: str, claim: Claim | None) -> None:
        self._set_head(conversation_id, claim, self.count(conversation_id))

    def count(self, conversation_id: str) -> int:
        return self._head(conversation_id)[1]

    def lines(self, conversation_id: str, start: int) -> Iterable[bytes]:
        return (line for _, line in self._rows.all(self._table, conversation_id, skip=start))

    def add(self, conversation_id: str, number: int, lines: Sequence[bytes]) -> None:
        for n, line in enumerate(lines, number):
            self._rows.put(self._table, _key(conversation_id, n), line, group=conversation_id)
        self._set_head(conversation_id, self.claim(conversation_id), number + len(lines))

    def delete(self, conversation_id: str) -> None:
        first, end = range_below(conversation_id)
        beside = [key for key, _ in self._rows.all(self._heads, _top(conversation_id))]
        for each in [conversation_id, *(key for key in beside if first <= key < end)]:
            claim, count = self._head(each)
            for n in range(count):
                self._rows.delete(self._table, _key(each, n))
            self._set_head(each, claim, 0)

    def _head(self, conversation_id: str) -> tuple[Claim | None, int]:
        data = self._rows.get(self._heads, conversation_id)
        if data is None:
            return None, 0
        try:
            found = json.loads(data)
            claim = found["claim"]
            return (None if claim is None else Claim(**claim)), int(found["count"])
        except (KeyError, TypeError, ValueError) as error:
            raise SessionError(f"this is not the head of a conversation: {error!r}") from error

    def _set_head(self, conversation_id: str, claim: Claim | None, count: int) -> None:
        if claim is None and not count:
            self._rows.delete(self._heads, conversation_id)
            return
        head = {"claim": None if claim is None else asdict(claim), "count": count}
        top = _top(conversation_id)
        self._rows.put(self._heads, conversation_id, json.dumps(head).encode(), group=top)


def _top(conversation_id: str) -> str:
    """Return the conversation that this one is below of, at any depth, or itself."""
    return conversation_id.partition(range_below("")[0])[0] or conversation_id


def _key(conversation_id: str, number: int) -> str:
    return f"{conversation_id}#{number}"
