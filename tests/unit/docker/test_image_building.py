"""What building images is made of, without an engine's own builder."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import certifi
import pytest

from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.backends.docker.engine.endpoint import Endpoint
from paddock.backends.docker.engine.stream import post
from paddock.backends.docker.images import once, recipes
from paddock.backends.docker.images.bootstrap import DebianSource
from paddock.backends.docker.images.build import build_recipe
from paddock.backends.docker.images.once import Once, locked
from paddock.backends.docker.images.wheel import running_wheel
from paddock.errors import BuildFailed, ConfigError
from paddock.image.instructions import read_source
from paddock.image.needs import images_of
from paddock.image.settings import BuildSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PATIENCE = 60.0

Told = list[str]


class Work:
    """Work that can be watched and held."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.ended: list[str] = []
        self.running = asyncio.Event()
        self.go = asyncio.Event()
        self._error = error

    async def __call__(self, tell: Callable[[str], None]) -> None:
        self.begun += 1
        self.running.set()
        try:
            await self.go.wait()
            tell("half")
            if self._error:
                raise self._error
            self.ended.append("done")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise


async def start(shared: Once[str], work: Work, *listeners: Told) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(shared.run("key", work, told.append)) for told in listeners]
    await asyncio.wait_for(work.running.wait(), PATIENCE)
    return tasks


async def test_work_is_done_once_and_all_hear_of_it() -> None:
    work, one, two = Work(), Told(), Told()
    tasks = await start(Once(), work, one, two)
    work.go.set()
    await asyncio.gather(*tasks)
    assert (work.begun, one, two) == (1, ["half"], ["half"])


async def test_work_that_is_over_is_done_again_when_asked_for() -> None:
    work, shared = Work(), Once[str]()
    work.go.set()
    for _ in range(2):
        await shared.run("key", work, Told().append)
    assert work.begun == 2


async def test_an_error_is_shared() -> None:
    work = Work(error=ConfigError("no"))
    tasks = await start(Once(), work, Told(), Told())
    work.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["no", "no"]


async def test_work_goes_on_while_one_waits_and_ends_with_the_last() -> None:
    work, shared = Work(), Once[str]()
    first, second = await start(shared, work, Told(), Told())
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert work.ended == []
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert work.ended == ["cancelled"]


async def test_locks_exclude_each_other_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(once, "POLL", 0.001)
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with locked("key"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(10)))
    assert list((tmp_path / "paddock" / "locks").iterdir()) == []


async def test_a_recipe_is_built_under_the_lock_that_all_who_want_it_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = f"unix://{tmp_path}/none"
    engine = Engine(Endpoint(url), cast("Any", SimpleNamespace()))
    building = asyncio.create_task(build_recipe(engine, "nosuch", settings=BuildSettings()))
    with pytest.raises(ConfigError, match="no recipe"):
        await building
    async with locked(f"{url} paddock:nosuch"):
        building = asyncio.create_task(build_recipe(engine, "nosuch", settings=BuildSettings()))
        assert not (await asyncio.wait([building], timeout=0.3))[0]
    with pytest.raises(ConfigError, match="no recipe"):
        await asyncio.wait_for(building, PATIENCE)


@contextlib.asynccontextmanager
async def engine_saying(answer: bytes, folder: Path) -> AsyncIterator[tuple[Engine, bytearray]]:
    """An engine that takes one request whole, says `answer` and hangs up."""
    taken = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            taken.extend(await reader.readuntil(b"\r\n\r\n"))
            if b"chunked" in taken:
                taken.extend(await reader.readuntil(b"\r\n0\r\n\r\n"))
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    path = folder / "engine.sock"
    async with await asyncio.start_unix_server(serve, path):
        client = cast("Any", SimpleNamespace(api_version="1.41"))
        yield Engine(Endpoint(f"unix://{path}"), client), taken


async def body(*pieces: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, Exception):
            raise piece
        yield piece


async def ask(engine: Engine, *pieces: bytes | Exception) -> list[dict[str, Any]]:
    sent = body(*pieces) if pieces else None
    async with asyncio.timeout(PATIENCE):
        async with post(engine, "asking", "/build", query={"t": "a b"}, body=sent) as events:
            return [event async for event in events]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_objects_come_whole_however_they_were_cut(tmp_path: Path) -> None:
    answer = CHUNKED + b'5\r\n{"a":\r\n8\r\n 1}\n{"b"\r\n6\r\n: 2}\r\n\r\n0\r\n\r\n'
    async with engine_saying(answer, tmp_path) as (engine, taken):
        assert await ask(engine, b"one", b"", b"two") == [{"a": 1}, {"b": 2}]
    assert taken.startswith(b"POST /v1.41/build?t=a+b HTTP/1.1\r\n")
    assert taken.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_a_refusal_says_why(tmp_path: Path) -> None:
    answer = b'HTTP/1.1 404 Not Found\r\nContent-Length: 23\r\n\r\n{"message": "no image"}'
    async with engine_saying(answer, tmp_path) as (engine, _):
        with pytest.raises(EngineError, match="asking: no image") as caught:
            await ask(engine)
    assert caught.value.status == 404


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", CHUNKED + b'20\r\n{"a"'])
async def test_an_engine_that_hangs_up_is_told_of(tmp_path: Path, answer: bytes) -> None:
    async with engine_saying(answer, tmp_path) as (engine, _):
        with pytest.raises(EngineError, match="asking: the Docker Engine hung up"):
            await ask(engine, b"data")


async def test_a_body_that_fails_is_the_error_and_never_looks_complete(tmp_path: Path) -> None:
    async with engine_saying(b"", tmp_path) as (engine, taken):
        with pytest.raises(ConfigError, match="changed"):
            await ask(engine, b"data", ConfigError("changed"))
    assert not taken.endswith(b"0\r\n\r\n")


async def test_no_engine_is_an_engine_error(tmp_path: Path) -> None:
    engine = Engine(
        Endpoint(f"unix://{tmp_path}/none"), cast("Any", SimpleNamespace(api_version="1"))
    )
    with pytest.raises(EngineError, match="asking: no Docker Engine answers"):
        await ask(engine)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of how packages are fetched."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("PIP_", "UV_", "SSL_", "PADDOCK_")):
            monkeypatch.delenv(name)
    return monkeypatch


def test_a_build_is_told_the_standard_variables_that_its_dockerfile_declares(
    clean: pytest.MonkeyPatch,
) -> None:
    clean.setenv("https_proxy", "http://proxy:3128")
    clean.setenv("PIP_INDEX_URL", "https://index/simple")
    clean.setenv("UV_INDEX", "extra=https://index/extra")
    clean.setenv("PIP_TIMEOUT", "60")
    settings = BuildSettings.from_environment()
    assert settings.args_for("FROM a\nARG PIP_INDEX_URL\n  arg UV_INDEX=x\nARG PIP_TIMEOUT\n") == {
        "https_proxy": "http://proxy:3128",
        "PIP_INDEX_URL": "https://index/simple",
        "UV_INDEX": "extra=https://index/extra",
    }
    assert settings.args_for("FROM a\n") == {"https_proxy": "http://proxy:3128"}


@pytest.mark.parametrize(
    "address", ["https://me:secret@index/simple", "file:///srv/index", "https://a/ https://b@c/"]
)
def test_an_index_with_a_password_or_on_this_disk_stays_here(
    clean: pytest.MonkeyPatch, address: str
) -> None:
    clean.setenv("PIP_EXTRA_INDEX_URL", address)
    assert BuildSettings.from_environment() == BuildSettings()


def test_every_recipe_is_there_and_begins_with_one_that_is() -> None:
    assert recipes.names() == ["agent", "base", "python"]
    for name in recipes.names():
        text = recipes.recipe_bundle(name, None).dockerfile
        for base in images_of(read_source(text), {}):
            assert base.startswith("debian:") or recipes.recipe_of(base) in recipes.names()


def test_only_our_references_are_recipes() -> None:
    assert recipes.recipe_of("paddock:python") == "python"
    assert recipes.recipe_of("python:3.12") is None
    assert recipes.recipe_of("paddock:debian") is None
    with pytest.raises(ConfigError, match="there are: agent, base, python"):
        recipes.recipe_of("paddock:nope")


def test_the_base_is_told_only_of_authorities_that_are_this_machine_s_own(tmp_path: Path) -> None:
    common = Path(certifi.where()).read_text()
    begin = "-----BEGIN CERTIFICATE-----"
    end = "-----END CERTIFICATE-----"
    own = f"{begin}\n{base64.b64encode(b'our own authority').decode()}\n{end}\n"
    (tmp_path / "bundle.pem").write_text(common + own)
    bundle = recipes.recipe_bundle("base", tmp_path / "bundle.pem")
    found = [member for member in bundle.members if member.name.startswith("certificates/")]
    assert [member.source for member in found] == [own.encode()]
    assert recipes.recipe_bundle("base", None).digest != bundle.digest


def test_a_bundle_of_authorities_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="list of certificates"):
        recipes.recipe_bundle("base", tmp_path / "missing.pem")


def test_the_wheel_is_whole_and_always_the_same() -> None:
    name, data = running_wheel()
    assert running_wheel() == (name, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = set(archive.namelist())
        (record,) = (each for each in names if each.endswith(".dist-info/RECORD"))
        rows = dict(row.split(",", 1) for row in archive.read(record).decode().splitlines() if row)
        for each in names - {record}:
            digest = hashlib.sha256(archive.read(each)).digest()
            encoded = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            assert rows[each].startswith(f"sha256={encoded},")
    assert set(rows) == names
    assert {
        "paddock/__init__.py",
        "paddock/__init__.pyi",
        "paddock/py.typed",
        "paddock/images/base/Dockerfile",
    } <= names
    assert not any("__pycache__" in each for each in names)


@pytest.mark.parametrize("source", [{"suite": "--help"}, {"mirror": "no address"}])
def test_a_debian_that_cannot_be_is_refused(source: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        DebianSource(**source)


def test_a_failed_build_tells_step_reason_lines_and_way_out() -> None:
    error = BuildFailed("i:1", step="RUN x", reason="code 1", output="a\nb\n", hint="do y")
    assert str(error) == "building i:1 failed at: RUN x\ncode 1\na\nb\ndo y"


@pytest.mark.parametrize(
    ("proxy", "passed"),
    [
        ("http://me:secret@proxy:3128", "http://proxy:3128"),
        ("me:sec@ret@proxy:3128", "proxy:3128"),
        ("socks5h://me@proxy", "socks5h://proxy"),
    ],
)
def test_a_build_does_not_see_the_password_of_a_proxy_unless_it_is_given_one(
    monkeypatch: pytest.MonkeyPatch, proxy: str, passed: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setenv("UV_INDEX", "mine=https://me:sec=ret@index/simple")
    args = BuildSettings.from_environment().args
    assert args["https_proxy"] == passed
    assert "UV_INDEX" not in args
    assert BuildSettings(args={"https_proxy": proxy}).args_for("FROM a\n") == {"https_proxy": proxy}
