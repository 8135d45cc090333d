"""The unmodified SDK against the control plane of the conformance server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
    DaytonaUnprocessableEntityError,
    Image,
    ListSandboxesQuery,
    Resources,
    VolumeMount,
)

from paddock.testing.daytona import DaytonaServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
DEADLINE = 60.0  # seconds for what takes milliseconds
HOUR = 3600.0


def named(name: str, **labels: str) -> CreateSandboxFromSnapshotParams:
    return CreateSandboxFromSnapshotParams(name=name, labels=labels)


async def gone(server: DaytonaServer) -> None:
    async with asyncio.timeout(DEADLINE):
        await server.settled()


async def names(daytona: AsyncDaytona, query: ListSandboxesQuery | None = None) -> list[str]:
    return [sandbox.name async for sandbox in daytona.list(query)]


async def test_a_sandbox_is_created_as_asked_and_runs_commands(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create(
        CreateSandboxFromSnapshotParams(
            name="one",
            labels={"k": "v"},
            env_vars={"A": "1"},
            auto_stop_interval=0,
            auto_delete_interval=30,
            network_allow_list="10.0.0.0/8",
        )
    )
    await sandbox.refresh_data()  # an answer older than the event may have come after it
    assert (sandbox.name, sandbox.state) == ("one", "started")
    assert sandbox.labels == {"k": "v", "code-toolbox-language": "python"}
    assert (sandbox.env, sandbox.auto_stop_interval) == ({"A": "1"}, 0)
    assert sandbox.network_allow_list == "10.0.0.0/8"
    assert (await sandbox.process.exec("echo")).result == "echo"
    assert server.count("POST", "/process/execute") == 1
    assert (await daytona.get("one")).id == sandbox.id


async def test_an_event_ends_a_wait_before_the_next_poll(
    other_server: Callable[..., DaytonaServer],
    connected: Callable[[DaytonaServer], AsyncDaytona],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_for = asyncio.wait_for
    async with other_server(delay=0.2) as server, connected(server) as daytona:
        first = await daytona.create()  # by now the events are connected
        # By this the SDK waits for an event until it polls again, now for longer than we do.
        monkeypatch.setattr(asyncio, "wait_for", lambda work, timeout: wait_for(work, HOUR))
        async with asyncio.timeout(DEADLINE):
            await first.stop()


async def test_a_name_is_taken_until_its_sandbox_is_being_destroyed(daytona: AsyncDaytona) -> None:
    first = await daytona.create(named("one"))
    with pytest.raises(DaytonaConflictError, match="Sandbox with name one already exists"):
        await daytona.create(named("one"))
    await first.delete()
    second = await daytona.create(named("one"))
    assert second.id != first.id


async def test_what_cannot_be_made_is_refused_in_the_words_of_the_service(
    daytona: AsyncDaytona,
) -> None:
    big = CreateSandboxFromImageParams(image="debian:12", resources=Resources(cpu=99))
    refused: dict[str, CreateSandboxFromSnapshotParams | CreateSandboxFromImageParams] = {
        "Snapshot none not found": CreateSandboxFromSnapshotParams(snapshot="none"),
        "CIDR": CreateSandboxFromSnapshotParams(network_allow_list="10.0.0.0/99"),
        r"CPU request 99 exceeds maximum allowed per sandbox \(4\)": big,
    }
    for words, params in refused.items():
        with pytest.raises(DaytonaBadRequestError, match=words):
            await daytona.create(params)
    assert await names(daytona) == []


async def test_a_build_shows_its_log_and_starts(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    log: list[str] = []
    image = Image.base("debian:12").run_commands("true")
    sandbox = await daytona.create(
        CreateSandboxFromImageParams(image=image, resources=Resources(cpu=2)),
        on_snapshot_create_logs=log.append,
    )
    text = "\n".join(log)
    assert "Step 1/2 : FROM debian:12" in text
    assert "Successfully built" in text
    assert sandbox.cpu == 2
    assert sandbox.build_info is not None
    assert sandbox.build_info.dockerfile_content == image.dockerfile()


async def test_a_step_that_is_run_false_fails_the_build(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    image = Image.base("debian:12").run_commands("false")
    with pytest.raises(DaytonaError, match="BUILD_FAILED"):
        await daytona.create(CreateSandboxFromImageParams(image=image, name="one"))
    sandbox = await daytona.get("one")  # the SDK leaves the reason out when an event told it
    assert sandbox.state == "build_failed"
    assert "non-zero code: 1" in (sandbox.error_reason or "")


async def test_lists_come_in_pages_and_are_filtered(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    for number in range(5):
        await daytona.create(named(f"box-{number}", parity=str(number % 2)))
    assert await names(daytona, ListSandboxesQuery(limit=2)) == [
        f"box-{number}" for number in (4, 3, 2, 1, 0)
    ]
    assert server.count("GET", "/sandbox") == 3
    assert await names(daytona, ListSandboxesQuery(labels={"parity": "1"})) == ["box-3", "box-1"]
    assert await names(daytona, ListSandboxesQuery(name="box-2")) == ["box-2"]


async def test_labels_are_replaced_and_not_merged(daytona: AsyncDaytona) -> None:
    sandbox = await daytona.create(named("one", a="1"))
    await sandbox.set_labels({"b": "2"})
    assert (await daytona.get("one")).labels == {"b": "2"}


async def test_the_states_of_a_life_follow_each_other(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create(named("one"))
    await sandbox.pause()
    assert sandbox.state == "paused"
    await sandbox.start()
    await sandbox.stop()
    await sandbox.resize(Resources(disk=5))
    await sandbox.archive()
    await gone(server)
    assert (await daytona.get("one")).state == "archived"
    await sandbox.start()
    await sandbox.refresh_data()
    assert (sandbox.state, sandbox.disk) == ("started", 5)
    await sandbox.delete(wait=True)
    with pytest.raises(DaytonaNotFoundError, match="Sandbox with ID or name one not found"):
        await daytona.get("one")


async def test_a_state_that_does_not_allow_it_is_named(daytona: AsyncDaytona) -> None:
    sandbox = await daytona.create()
    with pytest.raises(DaytonaBadRequestError, match="Sandbox is not stopped"):
        await sandbox.archive()
    with pytest.raises(DaytonaBadRequestError, match="not in a recoverable state"):
        await sandbox.recover()
    await sandbox.stop()
    with pytest.raises(DaytonaBadRequestError, match="not in a stoppable state"):
        await sandbox.stop()
    with pytest.raises(DaytonaBadRequestError, match="Is the Sandbox started"):
        await sandbox.process.exec("true")


async def test_a_second_change_waits_for_the_first(
    other_server: Callable[..., DaytonaServer], connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    async with other_server(delays={"stopping": HOUR}) as server, connected(server) as daytona:
        sandbox = await daytona.create()
        with pytest.raises(DaytonaError, match="timeout"):
            await sandbox.stop(timeout=1)
        with pytest.raises(DaytonaConflictError, match="state change in progress"):
            await sandbox.delete()


async def test_a_container_can_neither_fork_nor_pause(
    other_server: Callable[..., DaytonaServer], connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    async with other_server(sandbox_class="container") as server, connected(server) as daytona:
        sandbox = await daytona.create()
        for refused in (sandbox.fork(), sandbox.pause()):
            with pytest.raises(DaytonaUnprocessableEntityError, match="not supported"):
                await refused


@pytest.fixture
async def whole() -> AsyncIterator[DaytonaServer]:
    """A server whose sandboxes really run commands."""
    async with DaytonaServer() as server:
        yield server
        assert server.violations == []


async def test_a_fork_and_a_snapshot_carry_the_files(
    whole: DaytonaServer, connected: Callable[[DaytonaServer], AsyncDaytona]
) -> None:
    async with connected(whole) as daytona:
        await _fork_and_restore(daytona)


async def _fork_and_restore(daytona: AsyncDaytona) -> None:
    sandbox = await daytona.create(named("parent"))
    await sandbox.process.exec("printf 'in both' > file; mkfifo pipe; ln -s nowhere link")
    await sandbox.create_snapshot("saved")
    restored = await daytona.create(CreateSandboxFromSnapshotParams(snapshot="saved"))
    assert await restored.fs.download_file("file") == b"in both"
    fork = await sandbox.fork("child")
    assert await fork.fs.download_file("file") == b"in both"
    with pytest.raises(DaytonaBadRequestError, match="active fork children"):
        await sandbox.delete()
    await fork.delete(wait=True)
    await sandbox.delete(wait=True)
    assert [each.name for each in (await daytona.snapshot.list()).items][1:] == ["saved"]
    await daytona.snapshot.delete("saved")


async def test_a_snapshot_is_made_of_an_image(daytona: AsyncDaytona) -> None:
    made = await daytona.snapshot.create(
        CreateSnapshotParams(name="of-image", image="debian:12", resources=Resources(cpu=2))
    )
    assert (made.state, made.cpu) == ("active", 2)
    sandbox = await daytona.create(CreateSandboxFromSnapshotParams(snapshot="of-image"))
    assert sandbox.cpu == 2


async def test_idleness_stops_and_an_end_of_life_destroys(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    idle = await daytona.create(named("idle"))
    kept = await daytona.create(named("kept"))
    mortal = await daytona.create(named("mortal"))
    ephemeral = await daytona.create(CreateSandboxFromSnapshotParams(ephemeral=True))
    await kept.set_autostop_interval(0)
    await mortal.set_ttl(10)
    server.clock.advance(16 * 60)
    await gone(server)
    states = {each.name: each.state for each in server.sandboxes.values()}
    assert states == {idle.name: "stopped", kept.name: "started"}
    assert ephemeral.id not in server.sandboxes
    server.clock.advance(8 * 24 * HOUR)
    await gone(server)
    assert server.sandboxes[idle.id].state == "archived"


async def test_idleness_pauses_where_that_was_asked_for(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create(
        CreateSandboxFromSnapshotParams(auto_stop_interval=0, auto_pause_interval=5)
    )
    server.clock.advance(5 * 60)
    await gone(server)
    assert server.sandboxes[sandbox.id].state == "paused"


async def test_activity_puts_off_the_stop_for_idleness(
    server: DaytonaServer, daytona: AsyncDaytona
) -> None:
    sandbox = await daytona.create()
    for _ in range(3):
        server.clock.advance(14 * 60)
        await sandbox.refresh_activity()
    await gone(server)
    assert server.sandboxes[sandbox.id].state == "started"


async def test_settings_are_told_by_the_next_look(daytona: AsyncDaytona) -> None:
    sandbox = await daytona.create(named("one"))
    await sandbox.set_public(True)
    await sandbox.set_auto_archive_interval(7)
    await sandbox.set_auto_delete_interval(9)
    await sandbox.update_network_settings(network_block_all=True)
    again = await daytona.get("one")
    assert (again.public, again.network_block_all) == (True, True)
    assert (again.auto_archive_interval, again.auto_delete_interval) == (7, 9)


async def test_volumes_are_made_on_demand_and_deleted(daytona: AsyncDaytona) -> None:
    volume = await daytona.volume.get("data", create=True)
    mount = VolumeMount(volume_id=volume.id, mount_path="/data")
    sandbox = await daytona.create(CreateSandboxFromSnapshotParams(volumes=[mount]))
    assert sandbox.volumes is not None
    assert [each.mount_path for each in sandbox.volumes] == ["/data"]
    assert [each.name for each in await daytona.volume.list()] == ["data"]
    await sandbox.delete()
    await daytona.volume.delete(volume)
    with pytest.raises(DaytonaNotFoundError):
        await daytona.volume.get("data")
    with pytest.raises(DaytonaNotFoundError):
        await daytona.create(CreateSandboxFromSnapshotParams(volumes=[mount]))


async def test_a_build_context_is_uploaded_once(
    server: DaytonaServer, daytona: AsyncDaytona, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore.store
    from daytona._async import object_storage

    real = obstore.store.S3Store

    def over_http(**options: object) -> object:
        options["client_options"] = {"allow_http": True}
        return real(**options)  # type: ignore[arg-type]

    monkeypatch.setattr(object_storage, "S3Store", over_http)
    source = tmp_path / "app.txt"
    source.write_text("content")
    params = CreateSandboxFromImageParams(
        image=Image.base("debian:12").add_local_file(str(source), "/app.txt")
    )
    await daytona.create(params)
    await daytona.create(params)
    ((key, content),) = server.objects.items()
    assert key.endswith("/context.tar")
    assert b"content" in content
