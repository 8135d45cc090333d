"""Every published client of the in-sandbox wire, against our server."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.remote.server import RuntimeServer
from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.store import open_store

if TYPE_CHECKING:
    from tests.conftest import Require

CLIENTS = Path(os.environ.get("PADDOCK_CLIENTS", ".clients"))
"""Where `tools/venv-clients` puts them."""
# Older ones look whether they were cancelled when a message comes: a heartbeat does.
VERSIONS = (
    *("0.2.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "0.9.0", "0.9.1", "0.10.0"),
    *("0.11.0", "0.12.0", "0.13.0", "0.14.0", "0.14.1", "0.14.2", "0.15.0", "0.15.1"),
)
DRIVER = Path(__file__).with_name("stranger_client.py")


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@pytest.mark.rows("U-28", "U-29", "N-1")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_published_client_is_served(version: str, require: Require, tmp_path: Path) -> None:
    wheel = CLIENTS / "wheels" / version
    require("clients", wheel.is_dir(), "no published clients; tools/venv-clients installs them")
    folder = tmp_path / "artifacts"
    async with (
        open_store() as store,
        RuntimeServer(
            Lab(),
            port=0,
            working_dir=str(tmp_path),
            state_dir=str(tmp_path / "state"),
            settings=ServerSettings(linger=0.5, heartbeat=0.5),
        ) as server,
    ):
        told = await drive(wheel, server.url, store.url, folder)
        stored = store.stored
    assert told["structured"] == (
        {"n": 1}
        if version in ("0.2.0", "0.4.0")
        else {"type": "structured_output", "structured_output": {"n": 1}}
    )
    assert "it broke" in told["failed"]
    assert told["asked"] == ["report.txt"]
    assert stored["/report.txt"] == b"hello"
    if number(version) >= (0, 5):
        assert told["text"] == {"type": "text", "text": "streamed 2"}
        assert told["said"] == [["message 1 of 2"], ["message 2 of 2"]]
        assert "CancelledException" in told["aborted"]
    if number(version) >= (0, 8):
        assert told["commands"] == "[0, 4]"
    if number(version) >= (0, 11):
        assert told["session"] == ["first", "AgentRuntimeError: it broke", [0, 4], True]
        assert stored["/in_session.txt"] == b"kept"


async def drive(wheel: Path, *arguments: object) -> dict[str, Any]:
    python = CLIENTS / "bin" / "python"
    process = await asyncio.create_subprocess_exec(
        python,
        DRIVER,
        wheel,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return dict(json.loads(out))
