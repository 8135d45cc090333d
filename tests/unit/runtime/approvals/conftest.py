"""Stores of approvals, and requests for them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from paddock.runtime.approvals.directory_store import DirectoryApprovalStore
from paddock.runtime.approvals.sqlite_store import SqliteApprovalStore
from paddock.runtime.approvals.stores import MemoryApprovalStore
from paddock.runtime.core.approval import ApprovalRequest, ApprovalStore
from paddock.runtime.orchestration.store import TenantStore
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2031, 5, 6, 7, 8, 9, tzinfo=dt.UTC)


class Reopen(Protocol):
    def __call__(self) -> ApprovalStore: ...


def request(name: str = "one", **fields: Any) -> ApprovalRequest:
    values: dict[str, Any] = {
        "id": name,
        "call_id": f"call_{name}",
        "tool": "deploy",
        "args": {"where": "here", "count": 2},
        "session_id": "s1",
        "run_id": 3,
        "digest": "d" * 64,
        "asked_at": NOW,
        "agent_path": ("delegate", "critic"),
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string"}, "count": {"type": "integer"}},
        },
    }
    return ApprovalRequest(**values | fields)


@pytest.fixture(params=["memory", "sqlite", "directory", "tenant"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """``reopen()`` is the store as somebody else sees it: of another process, where it lasts."""
    match request.param:
        case "memory":
            only = MemoryApprovalStore()
            return lambda: only
        case "sqlite":
            return lambda: SqliteApprovalStore(tmp_path / "approvals.db")
        case "tenant":
            kept = MemoryRuntimeStore()
            return lambda: TenantStore(kept, "acme").approvals
        case _:
            return lambda: DirectoryApprovalStore(tmp_path / "session")


@pytest.fixture
def store(reopen: Reopen) -> ApprovalStore:
    return reopen()
