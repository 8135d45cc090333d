"""A sandbox cannot make its host follow links, hang or read forged files of a session."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from paddock import (
    Agent,
    AgentConfig,
    ConfigError,
    LocalBackend,
    ObservabilityConfig,
    RuntimeOptions,
    ScriptedModel,
    Session,
    SessionStore,
    SqliteRunStore,
    create_runtime,
    run_prompt_stored,
)
from paddock.cli.app import app
from paddock.errors import SessionError, TraceError
from paddock.runtime.conversation.directory import SessionDirectory
from paddock.runtime.core import reach
from paddock.runtime.telemetry import SqliteBackend, attach

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock import ModelRequest

KEY = "PRIVATE KEY OF THE USER\n"
FILES = ["trace.jsonl", "meta.json", "directives.jsonl", "cancel", "pause", "config.yaml"]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id_rsa"
    path.write_text(KEY)
    return path


def agent(working_dir: Path | None = None) -> Agent:
    place = None if working_dir is None else str(working_dir)
    return Agent(AgentConfig(backend=LocalBackend(working_dir=place)))


async def run_at(path: Path) -> str:
    """Run a session in `path` and return what the model was told."""
    told: list[str] = []

    def answer(request: ModelRequest) -> dict[str, Any]:
        told.append(str(request.messages))
        return {"text": "done"}

    async with Session(agent(), session_dir=path, client=ScriptedModel([answer])) as session:
        await session.run(prompt="go")
    return "".join(told)


def unchanged(path: Path) -> bool:
    return path.read_text() == KEY


def itself(session: Path) -> Path:
    return session


def above(session: Path) -> Path:
    return session.parent


def below(session: Path) -> Path:
    return session / "work"


def by_a_link(session: Path) -> Path:
    link = session.parent.parent / "elsewhere"
    link.symlink_to(session.parent)
    return link


@pytest.mark.parametrize("place", [itself, above, below, by_a_link])
def test_a_session_is_not_kept_where_its_sandbox_can_write(
    place: Callable[[Path], Path], tmp_path: Path
) -> None:
    directory = tmp_path / "project" / "session"
    directory.mkdir(parents=True)
    working_dir = place(directory)
    with pytest.raises(ConfigError, match="choose a directory apart from it"):
        Session(agent(working_dir), session_dir=directory)
    with pytest.raises(ConfigError, match="choose a directory apart from it"):
        SessionStore(directory).create_session(agent(working_dir))
    assert list(directory.iterdir()) == []


async def test_a_run_store_is_not_kept_where_its_sandbox_can_write(tmp_path: Path) -> None:
    store = SqliteRunStore(tmp_path / "below" / "runs.db")
    options = RuntimeOptions(backend=LocalBackend(), working_dir=str(tmp_path))
    runtime = create_runtime("x", options=options)
    with pytest.raises(ConfigError, match=r"the store .*choose a file elsewhere"):
        await run_prompt_stored(runtime, "Go.", run_store=store, run_id="1")
    assert os.listdir(tmp_path) == []


def test_telemetry_is_not_kept_where_the_sandbox_can_write(tmp_path: Path) -> None:
    backend = SqliteBackend(path=tmp_path / "below" / "telemetry.db")
    config = ObservabilityConfig(team_id="t", project_id="p", backend=backend)
    with pytest.raises(ConfigError, match=r"telemetry database .*choose a file elsewhere"):
        attach(Session(agent(tmp_path)), config)
    assert list(tmp_path.iterdir()) == []
    assert attach(Session(agent(tmp_path / "elsewhere")), config) is not None
    assert attach(Session(agent(tmp_path)), replace(config, project_id=None)) is None


@pytest.mark.parametrize(
    ("mounted", "point"),
    [
        ("/home/u/.config/paddock", "/srv/project/cache"),  # the store, below the project
        ("/srv/project/.session", "/mnt/kept"),  # a part of the project, where sessions are kept
        ("/srv", "/mnt"),
    ],
)
def test_bind_mounts_do_not_hide_that_a_sandbox_can_write_there(
    mounted: str, point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 8:1 {mounted} {point} rw,relatime shared:2 - ext4 /dev/sda1 rw\n"
    )
    monkeypatch.setattr(reach, "_MOUNTS", str(table))
    config = agent(Path("/srv/project")).config
    kept = {
        "/srv/project/cache": "/home/u/.config/paddock/sessions/1",
        "/mnt/kept": "/mnt/kept/1",
        "/mnt": "/mnt/project/1",
    }[point]
    with pytest.raises(ConfigError, match="lie within each other"):
        reach.require_out_of_reach(Path(kept), config, what="the session directory")
    reach.require_out_of_reach(Path("/srv/kept"), config, what="the session directory")


async def test_links_to_files_of_the_host_are_neither_read_nor_written(
    tmp_path: Path, key: Path
) -> None:
    """Whatever put them there: an earlier version, or another program of the user's."""
    made = tmp_path / "made on the host"
    for name in FILES:
        for target in (key, made):
            directory = tmp_path / f"session {name} {target.name}"
            directory.mkdir(mode=0o700)
            (directory / name).symlink_to(target)
            if name == "trace.jsonl":
                with pytest.raises(SessionError, match="symbolic link"):
                    await run_at(directory)
            else:
                assert KEY.strip() not in await run_at(directory)
            files = [each for each in directory.iterdir() if not each.is_symlink()]
            assert all(KEY.strip() not in each.read_text() for each in files)
    assert unchanged(key)
    assert not made.exists()


async def test_a_hard_link_to_a_file_of_the_host_is_not_told_to_the_agent(
    tmp_path: Path, key: Path
) -> None:
    directory = tmp_path / "session"
    directory.mkdir(mode=0o700)
    (directory / "directives.jsonl").hardlink_to(key)
    assert KEY.strip() not in await run_at(directory)
    assert unchanged(key)


@pytest.mark.parametrize("mode", [0o777, 0o775])
async def test_a_session_directory_that_others_can_write_is_refused(
    mode: int, tmp_path: Path
) -> None:
    directory = tmp_path / "session"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(SessionError, match="chmod go-w"):
        await run_at(directory)
    assert list(directory.iterdir()) == []


def hostile_store(tmp_path: Path, key: Path) -> Path:
    base = tmp_path / "store"
    base.mkdir(mode=0o700)
    for number, name in enumerate(FILES):
        for put in ("link", "fifo", "directory"):
            directory = base / f"s{number}{put}"
            directory.mkdir(mode=0o700)
            path = directory / name
            if put == "link":
                path.symlink_to(key)
            elif put == "fifo":
                os.mkfifo(path)
            else:
                path.mkdir()
    (base / "linked").symlink_to(key.parent)
    (base / ".index").symlink_to(key)
    sparse = base / "sparse"
    sparse.mkdir(mode=0o700)
    (sparse / "trace.jsonl").touch()
    os.truncate(sparse / "trace.jsonl", 1 << 40)
    return base


def test_reading_a_hostile_store_follows_nothing_and_does_not_hang(
    tmp_path: Path, key: Path
) -> None:
    base = hostile_store(tmp_path, key)
    store = SessionStore(base)
    assert "linked" not in {info.id for info in store.list(None)}
    assert store.search("PRIVATE KEY") == []
    runner = CliRunner()
    for arguments in (
        ["sessions", "list", "--session-dir", str(base)],
        ["sessions", "list", "--json", "--session-dir", str(base)],
        ["ps", str(base)],
        *(
            [*command, name, "--session-dir", str(base)]
            for name in sorted(os.listdir(base))
            if name[0] == "s"
            for command in (["sessions", "show"], ["export"])
        ),
    ):
        result = runner.invoke(app, arguments)
        assert "PRIVATE KEY" not in result.output
        assert result.exception is None or isinstance(
            result.exception, SystemExit | OSError | TraceError
        ), arguments
    assert unchanged(key)


def test_a_session_that_is_a_link_is_not_resumed(tmp_path: Path) -> None:
    store = SessionStore(tmp_path / "store")
    store.create_session(agent(), session_id="real")
    (tmp_path / "store" / "link").symlink_to("real")
    with pytest.raises(FileNotFoundError, match="not found"):
        store.resume("link", agent())


def test_steering_writes_through_no_link(tmp_path: Path, key: Path) -> None:
    for name in ("cancel", "pause", "directives.jsonl"):
        (tmp_path / name).symlink_to(key.with_name(f"new {name}"))
    tmp_path.chmod(0o700)
    directory = SessionDirectory(tmp_path)
    for call in (
        directory.request_cancel,
        directory.request_pause,
        lambda: directory.add_directive("x"),
    ):
        with pytest.raises(PermissionError, match="symbolic link"):
            call()
    assert not list(tmp_path.glob("new *"))


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
async def test_a_run_store_writes_through_no_link(suffix: str, tmp_path: Path, key: Path) -> None:
    (tmp_path / f"runs.db{suffix}").symlink_to(key)
    with pytest.raises(SessionError, match="symbolic link"):
        await SqliteRunStore(tmp_path / "runs.db").load("run")
    assert unchanged(key)
