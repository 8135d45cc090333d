"""What the real service was seen to do with requests that are wrong, early or too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    AsyncDaytona,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    CreateSnapshotParams,
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaError,
    DaytonaNotFoundError,
    DaytonaRateLimitError,
    VolumeMount,
)

from paddock.testing.daytona import FailWith, RefuseStart, StuckIn, Throttler

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona import DaytonaServer

CREATE = "POST /api/sandbox"


async def test_a_limit_is_told_by_headers_of_its_name(
    other_server: Callable[..., DaytonaServer], connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    throttler = Throttler(name="sandbox-create", match=CREATE, limit=1, seconds=60)
    async with other_server(throttlers=[throttler]) as server, connected(server) as daytona:
        await daytona.create()
        with pytest.raises(DaytonaRateLimitError) as caught:
            await daytona.create()
        headers = {name.lower(): value for name, value in dict(caught.value.headers).items()}
        assert 0 < int(headers["retry-after-sandbox-create"]) <= 60
        assert headers["x-ratelimit-limit-sandbox-create"] == "1"
        assert headers["x-ratelimit-remaining-sandbox-create"] == "0"
        assert "retry-after" not in headers
        server.clock.advance(60)
        await daytona.create()


async def test_one_that_is_being_made_is_not_deleted(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    server.faults.add(match=CREATE, kind=StuckIn(state="creating"))
    with pytest.raises(DaytonaError):
        await daytona.create(CreateSandboxFromSnapshotParams(name="one"), timeout=1)
    sandbox = await daytona.get("one")
    with pytest.raises(DaytonaConflictError):
        await sandbox.delete()
    server.release()
    await server.settled()
    await sandbox.delete(wait=True)
    assert not server.sandboxes


async def test_an_unknown_region_is_not_found(daytona: AsyncDaytona) -> None:
    params = CreateSandboxFromSnapshotParams()
    params.target = "mars"
    with pytest.raises(DaytonaNotFoundError, match="Region not found"):
        await daytona.create(params)


@pytest.mark.parametrize(
    "wrong",
    [
        {"autoStopInterval": -1},
        {"autoArchiveInterval": -1},
        {"ttlMinutes": -1},
        {"domainAllowList": "localhost"},
        {"domainAllowList": ",".join(f"n{number}.example.org" for number in range(11))},
        {"networkAllowList": ",".join(f"192.0.2.{number}/32" for number in range(11))},
        {"networkAllowList": "somewhere"},
    ],
    ids=str,
)
async def test_a_create_that_is_wrong_is_refused(
    server: DaytonaServer, wrong: dict[str, object]
) -> None:
    assert await _post(server, "/sandbox", wrong) == 400
    assert not server.sandboxes


async def test_a_field_that_nobody_knows_is_ignored(
    other_server: Callable[..., DaytonaServer],
) -> None:
    async with other_server() as server:
        assert await _post(server, "/sandbox", {"colour": "red"}) == 200
        assert len(server.sandboxes) == 1
        assert len(server.violations) == 1


async def test_an_interval_below_none_is_refused(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create()
    for name in ("autostop", "autopause", "autoarchive", "ttl"):
        assert await _post(server, f"/sandbox/{sandbox.id}/{name}/-1") == 400
    assert await _post(server, f"/sandbox/{sandbox.id}/autodelete/-1") == 200


@pytest.mark.parametrize(
    "query",
    [
        *(f"{kind}?limit={limit}" for kind in ("sandbox", "snapshots") for limit in (0, 201, 1000)),
        "snapshots?page=0",
        "sandbox?states=asleep",
        "sandbox?sort=colour",
        "sandbox?order=none",
        "sandbox?labels=%5B%5D",
        "sandbox?minCpu=many",
        "sandbox?createdAtAfter=once",
    ],
)
async def test_a_list_is_asked_for_by_what_there_is(server: DaytonaServer, query: str) -> None:
    assert await _post(server, "/sandbox", {}) == 200
    url = f"{server.api_url}/{query}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=_headers(server)) as answer,
    ):
        assert answer.status == 400


@pytest.mark.parametrize("image", ["debian", "debian:", "debian:latest"])
async def test_a_snapshot_is_of_an_image_that_stays_as_it_is(
    daytona: AsyncDaytona, image: str
) -> None:
    with pytest.raises(DaytonaBadRequestError):
        await daytona.snapshot.create(CreateSnapshotParams(name="mine", image=image))


async def test_a_volume_that_is_used_stays(server: DaytonaServer, daytona: AsyncDaytona) -> None:
    volume = await daytona.volume.create("data")
    with pytest.raises(DaytonaBadRequestError, match="already exists"):
        await daytona.volume.create("data")
    mount = VolumeMount(volume_id=volume.id, mount_path="/data")
    sandbox = await daytona.create(CreateSandboxFromSnapshotParams(volumes=[mount]))
    with pytest.raises(DaytonaConflictError, match="in use"):
        await daytona.volume.delete(volume)
    await sandbox.delete()
    await daytona.volume.delete(volume)


async def test_a_start_while_it_is_archived_is_taken(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create()
    await sandbox.stop()
    server._fleet.delays["archiving"] = 3600.0
    await sandbox.archive()
    await sandbox.start()
    assert server.sandboxes[sandbox.id].state == "started"


async def test_a_name_is_free_at_once_and_found_again_later(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    first = await daytona.create(CreateSandboxFromSnapshotParams(name="one"))
    server._fleet.delays["destroying"] = 3600.0
    await first.delete()
    assert first.name.startswith("DESTROYED_one_")
    with pytest.raises(DaytonaNotFoundError):
        await daytona.get("one")
    second = await daytona.create(CreateSandboxFromSnapshotParams(name="one"))
    with pytest.raises(DaytonaNotFoundError):
        await daytona.get("one")
    assert (await daytona.get(second.id)).name == "one"
    server.clock.advance(11)
    assert (await daytona.get("one")).id == second.id


async def test_a_start_that_is_refused_leaves_one_in_an_error(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    server.faults.add(match=CREATE, kind=RefuseStart(reason="no shell"))
    with pytest.raises(DaytonaBadRequestError, match="Sandbox failed to start: no shell"):
        await daytona.create()
    await server.settled()
    (left,) = server.sandboxes.values()
    assert (left.state, left.error_reason) == ("error", "no shell")


async def test_a_snapshot_that_fails_or_whose_name_is_taken_is_told_to_nobody(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create()
    match = "POST /api/sandbox/.*/snapshot"
    server.faults.add(match=match, kind=FailWith(state="error", reason="no room"))
    await sandbox.create_snapshot("mine")
    assert sandbox.state == "started"
    with pytest.raises(DaytonaNotFoundError):
        await daytona.snapshot.get("mine")
    await sandbox.create_snapshot("mine")
    before = (await daytona.snapshot.get("mine")).id
    await sandbox.create_snapshot("mine")
    assert (await daytona.snapshot.get("mine")).id == before


async def test_the_index_of_the_list_lags(
    other_server: Callable[..., DaytonaServer], connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    async with other_server(index_lag=30.0) as server, connected(server) as daytona:
        sandbox = await daytona.create()
        assert [each.id async for each in daytona.list()] == []
        server.clock.advance(31)
        assert [each.id async for each in daytona.list()] == [sandbox.id]
        await sandbox.set_labels({"own": "1"})
        await sandbox.delete(wait=True)
        assert [each.labels async for each in daytona.list()] == [
            {"code-toolbox-language": "python"}
        ]
        server.clock.advance(31)
        assert [each.id async for each in daytona.list()] == []


async def test_an_image_is_built_once_a_day(server: DaytonaServer, daytona: AsyncDaytona) -> None:
    logs: list[list[str]] = []
    for seconds in (0, 3600, 25 * 3600):
        server.clock.advance(seconds)
        told: list[str] = []
        await daytona.create(
            CreateSandboxFromImageParams(image="debian:12"), on_snapshot_create_logs=told.append
        )
        logs.append(told)
    assert [bool(told) for told in logs] == [True, False, True]


async def test_a_warm_pool_serves_creates_without_variables_until_one_misses(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    snapshot = (await daytona.snapshot.list()).items[0].name
    pool = await daytona.warm_pool.create(snapshot, 2)
    assert [each.id for each in await daytona.warm_pool.list()] == [pool.id]
    states: list[str] = []

    async def create(**wanted: object) -> str:
        body = {"snapshot": snapshot, **wanted}
        return str((await _answer(server, "/sandbox", body))["state"])

    states.append(await create())
    states.append(await create(env={"A": "1"}))
    states.append(await create())
    server.clock.advance(61)
    states.append(await create())
    assert states == ["started", "creating", "creating", "started"]
    await daytona.warm_pool.delete(pool.id)
    await server.settled()


async def _post(server: DaytonaServer, path: str, body: object = None) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.api_url + path, headers=_headers(server), json=body) as answer,
    ):
        return answer.status


async def _answer(server: DaytonaServer, path: str, body: object) -> dict[str, object]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.api_url + path, headers=_headers(server), json=body) as answer,
    ):
        return dict(await answer.json())


def _headers(server: DaytonaServer) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {server.api_key}",
        "X-Daytona-Source": "test",
        "X-Daytona-SDK-Version": "0",
    }
