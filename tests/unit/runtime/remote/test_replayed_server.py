"""The clients' sides of the recordings, against our server."""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.remote.messages import TERMINALS
from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote import recordings
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import Talker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.remote.conftest import Serve
    from tests.unit.runtime.remote.store import Store

PACE = 0.05
"""How long a recorded second takes here."""

LATE = "l04_client_0.4.0_cancel_late"
"""Its client asks whether it is cancelled when the result has come: there is nothing to compare."""
BETTER_HERE = {
    "w08_post_command_fails": "metadata.result has what the agent gave (U-20)",
    "w15_execute_commands": "stdout is there whatever the exit code (U-22)",
    "w18_end_session_while_running": "a terminal comes before the confirmation (N-19)",
}
"""Recordings whose faults have rows; they are replayed, and compared in tests of these rows."""


def contains(found: Any, wanted: Any) -> bool:
    """Whether `found` is `wanted`, with more keys perhaps."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and contains(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(contains(one, other) for one, other in zip(found, wanted, strict=True))
        )
    return bool(found == wanted)


def joined(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Frames with the output of each command in one piece, and one heartbeat of all."""
    output: dict[tuple[str, str], str] = defaultdict(str)
    rest = []
    for frame in frames:
        if frame["message_type"] == "command_output_message":
            output[frame["command"], frame["stream"]] += frame["text"]
        elif frame["message_type"] != "heartbeat_message" or frame not in rest:
            rest.append(frame)
    return [*rest, *({"key": list(key), "text": text} for key, text in output.items())]


class Replay:
    """Sends the frames of one recorded connection when what came before them has come here."""

    def __init__(self, lines: list[dict[str, Any]], connection: int, lab: Lab) -> None:
        mine = [line for line in lines if line.get("conn") == connection]
        self._lab = lab
        self._answers = {
            line["frame"]["filepath"]: line["frame"]
            for line in mine
            if line["dir"] == "c2s" and self._kind(line) == "artifact_upload_response_message"
        }
        self.wanted = [recordings.without_times(x["frame"]) for x in mine if x["dir"] == "s2c"]
        self._steps = [line for line in mine if line["dir"] in ("c2s", "s2c")]

    @staticmethod
    def _kind(line: dict[str, Any]) -> str:
        return str(line["frame"].get("message_type"))

    async def run(self, url: str) -> list[dict[str, Any]]:
        talker = Talker(url, lambda request: self._answers.get(request["filepath"]))
        async with talker:
            terminals = 0
            for line in self._steps:
                kind = self._kind(line)
                if line["dir"] == "s2c":
                    if kind in TERMINALS:
                        terminals += 1
                        await talker.terminal(terminals)
                elif kind in ("cancel_message", "end_session_message"):
                    await self._lab.started.wait()
                    self._lab.started.clear()
                    await talker.send(line["frame"])
                elif kind != "artifact_upload_response_message":
                    self._lab.started.clear()
                    await talker.send(line["frame"])
            if "end_session_confirm_message" in {each["message_type"] for each in self.wanted}:
                await talker.until_closed()
        return talker.frames


@pytest.mark.rows("U-20", "U-21", "U-22", "U-23", "U-24", "U-25", "U-28", "U-29")
@pytest.mark.parametrize("name", [each for each in recordings.names("wl") if each != LATE])
async def test_a_recorded_client_gets_what_it_got(
    name: str, serve: Serve, store: Store, tmp_path: Path
) -> None:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    (sandbox / "m3").mkdir()
    (sandbox / "m2").mkdir()
    if name.startswith("w04"):
        (sandbox / "m2" / ".artifactignore").write_text("*.tmp\n")
    lines = recordings.load(name, sandbox=sandbox, store=store.url)
    for line in lines:
        if line["dir"] == "s2c":  # the old server told the secret; U-25
            text = json.dumps(line["frame"]).replace("sk-secret-key", "[REDACTED]")
            line["frame"] = json.loads(text)
    store.files = {"/f/data%20file.txt": b"data", "/f/repo.zip": _zip({"repo/a.txt": b"a"})}
    lab = Lab(PACE)
    settings = ServerSettings(heartbeat=15 * PACE, linger=0.05)
    async with serve(lab, settings, working_dir=str(sandbox)) as server:
        for connection in sorted({line["conn"] for line in lines if "conn" in line}):
            replay = Replay(lines, connection, lab)
            found = joined(await replay.run(server.url))
            if name in BETTER_HERE:
                continue
            for wanted in joined(replay.wanted):
                assert any(contains(each, wanted) for each in found), (wanted, found)
    puts = [line for line in lines if line["dir"] == "http" and line["method"] == "PUT"]
    found_puts = sorted((put.path, len(put.data), put.content_type) for put in store.puts)
    assert found_puts == sorted(
        (each["path"], each["bytes"], each["content_type"]) for each in puts
    )


def _zip(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()
