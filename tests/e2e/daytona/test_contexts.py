"""Files that an image copies go to the service's object store before anything is made: once, and
when the store fails the reason is told and there is no sandbox.

The SDK's client of the store takes no plain http; here it is let.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore.store
import pytest
from tenacity.wait import wait_fixed

from paddock.backends.daytona import service
from paddock.errors import ConfigError, SandboxError
from paddock.image import Image
from paddock.testing.daytona import Delay, DropAfter, DropBefore, ExpiredKey, Status
from tests.e2e.daytona.served import DEADLINE, meeting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from paddock.backends.daytona import DaytonaBackend
    from paddock.testing.daytona.faults import FaultKind
    from tests.e2e.conftest import Daytona

STORE = "/_s3/.*"
ACCESS = "/object-storage/push-access"
TRIES = 3
"""How often the store is asked here; the SDK has it ten times, over a minute and more."""
STEPS = {"look": "HEAD", "begin or end": "POST", "part": "PUT"}
FAULTS: dict[str, FaultKind] = {
    "500": Status(status=500),
    "503-html": Status(status=503, body="html"),
    "503-empty": Status(status=503, body="empty"),
    "cut": DropBefore(),
}
LASTING: dict[str, FaultKind] = {**FAULTS, "403": Status(status=403)}

# The SDK leaves its end of a pipe to the collector when the store fails.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning"),
    pytest.mark.filterwarnings(
        r"ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
    ),
]
every_step = pytest.mark.parametrize("method", STEPS.values(), ids=STEPS)


@pytest.fixture(autouse=True)
def _store_over_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from daytona._async import object_storage

    real: Any = obstore.store.S3Store

    def over_http(**options: Any) -> Any:
        options["client_options"] = {"allow_http": True}
        patience = timedelta(seconds=DEADLINE)
        options["retry_config"] = {"max_retries": TRIES - 1, "retry_timeout": patience}
        return real(**options)

    monkeypatch.setattr(object_storage, "S3Store", over_http)
    monkeypatch.setattr(service, "_pause", wait_fixed(0.05))
    yield
    gc.collect()


@pytest.fixture
def recipe(daytona: Daytona, tmp_path: Path) -> DaytonaBackend:
    (tmp_path / "app.py").write_text("print('from here')")
    image = Image.from_registry("debian:12").add_local_file(tmp_path / "app.py", "/app.py")
    return replace(daytona.recipe, snapshot=None, image=image)


async def test_what_an_image_copies_is_uploaded_once(
    daytona: Daytona, recipe: DaytonaBackend
) -> None:
    server = daytona.server
    for uploads in (1, 1):
        async with recipe.sandbox() as sandbox:
            assert (await sandbox.exec("echo fine")).stdout == "fine\n"
            built = server.sandboxes[sandbox.id].build_info
        assert built is not None
        assert "COPY" in built["dockerfileContent"]
        assert server.count("PUT", STORE) == uploads
    ((key, content),) = server.objects.items()
    assert key.endswith("/context.tar")
    assert b"from here" in content
    assert (server.count("GET", ACCESS), server.count("HEAD", STORE)) == (2, 2)


@every_step
@pytest.mark.parametrize("kind", [*FAULTS.values(), DropAfter()], ids=[*FAULTS, "lost answer"])
async def test_a_store_that_fails_once_does_not_show(
    daytona: Daytona, recipe: DaytonaBackend, method: str, kind: FaultKind
) -> None:
    fault = daytona.server.faults.add(match=f"{method} {STORE}", kind=kind)
    async with recipe.sandbox() as sandbox:
        assert daytona.living == [sandbox.id]
    assert fault.fired == 1
    assert daytona.server.count("POST", "/sandbox") == 1
    assert daytona.server.count("PUT", STORE) <= 2
    assert b"from here" in next(iter(daytona.server.objects.values()))


@every_step
@pytest.mark.parametrize("kind", LASTING.values(), ids=LASTING)
async def test_a_store_that_fails_for_good_is_told_and_nothing_is_made(
    daytona: Daytona, recipe: DaytonaBackend, method: str, kind: FaultKind
) -> None:
    fault = daytona.server.faults.add(match=f"{method} {STORE}", kind=kind, times=None)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="object store did not take") as caught:
            await recipe.create()
    assert method in str(caught.value)
    assert "Debug source" not in str(caught.value)
    assert fault.fired <= TRIES
    assert daytona.server.count("POST", "/sandbox") == 0
    assert not daytona.living


async def test_a_store_that_refuses_connections_is_told_and_nothing_is_made(
    daytona: Daytona, recipe: DaytonaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daytona.server._storage, "_url", lambda: "http://127.0.0.1:1")
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match=r"object store did not take(.|\n)*127\.0\.0\.1:1/"):
            await recipe.create()
    assert daytona.server.count("POST", "/sandbox") == 0


async def test_a_store_whose_key_cannot_be_had_is_asked_for_again(
    daytona: Daytona, recipe: DaytonaBackend
) -> None:
    throttled = Status(status=429, headers={"Retry-After": "0.05"})
    kinds: list[FaultKind] = [throttled, *FAULTS.values()]
    for kind in kinds:
        daytona.server.faults.add(match=f"GET /api{ACCESS}", kind=kind)
    async with recipe.sandbox() as sandbox:
        assert daytona.living == [sandbox.id]
    assert daytona.server.count("POST", "/sandbox") == 1
    daytona.server.faults.add(match=f"GET /api{ACCESS}", kind=ExpiredKey())
    with pytest.raises(ConfigError, match="DAYTONA_API_KEY"):
        await recipe.create()
    assert daytona.server.count("POST", "/sandbox") == 1


@every_step
async def test_an_upload_that_is_given_up_leaves_nothing(
    daytona: Daytona, recipe: DaytonaBackend, method: str
) -> None:
    fault = daytona.server.faults.add(match=f"{method} {STORE}", kind=Delay(seconds=3600))
    making = asyncio.create_task(recipe.create())
    await meeting(fault, making)
    making.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await making
    assert daytona.server.count("POST", "/sandbox") == 0
    assert not daytona.living
