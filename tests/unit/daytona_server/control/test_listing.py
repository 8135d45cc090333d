"""What the conformance server's lists are filtered by."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    AsyncDaytona,
    CreateSandboxFromSnapshotParams,
    CreateSnapshotParams,
    ListSandboxesQuery,
    SandboxState,
)
from daytona_api_client_async import SnapshotsApi

EARLIER, LATER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (ListSandboxesQuery(name="ONE"), ["one"]),
        (ListSandboxesQuery(states=[SandboxState.STOPPED]), ["two"]),
        (ListSandboxesQuery(states=[SandboxState.STARTED, SandboxState.STOPPED]), ["one", "two"]),
        (ListSandboxesQuery(is_recoverable=True), []),
        (ListSandboxesQuery(is_public=True), ["two"]),
        (ListSandboxesQuery(min_cpu=2), []),
        (ListSandboxesQuery(created_at_after=EARLIER), ["one", "two"]),
        (ListSandboxesQuery(created_at_after=LATER), []),
        (ListSandboxesQuery(created_at_before=EARLIER), []),
        (ListSandboxesQuery(last_activity_after=LATER), []),
        (ListSandboxesQuery(last_activity_before=LATER), ["one", "two"]),
        (ListSandboxesQuery(auto_destroy_at_before=LATER), ["one"]),
        (ListSandboxesQuery(auto_destroy_at_after=LATER), []),
    ],
)
async def test_a_list_holds_what_is_asked_for(
    daytona: AsyncDaytona, query: ListSandboxesQuery, found: list[str]
) -> None:
    one = await daytona.create(CreateSandboxFromSnapshotParams(name="one"))
    await one.set_ttl(30)
    two = await daytona.create(CreateSandboxFromSnapshotParams(name="two", public=True))
    await two.stop()
    assert sorted([sandbox.name async for sandbox in daytona.list(query)]) == found


async def test_snapshots_are_found_by_a_part_of_their_names(daytona: AsyncDaytona) -> None:
    for name in ("first", "second"):
        await daytona.snapshot.create(CreateSnapshotParams(name=name, image="debian:12"))
    found = await SnapshotsApi(daytona._api_client).get_all_snapshots(name="IRS")
    assert ([each.name for each in found.items], found.total) == (["first"], 1)
