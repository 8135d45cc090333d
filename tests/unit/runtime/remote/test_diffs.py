"""What a run changed is told and sent as a diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.remote.answers import Answers
from tests.unit.runtime.remote.talking import Talker, command_request, invocation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.remote.conftest import Serve
    from tests.unit.runtime.remote.store import Store


@pytest.mark.rows("U-35")
async def test_what_a_run_changed_is_told_and_sent_as_a_diff(
    serve: Serve, store: Store, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "kept.txt").write_text("kept\n")
    (work / "changed.txt").write_text("one\ntwo\n")
    (work / "gone.txt").write_text("gone\n")
    command = (
        "echo new > new.txt; printf 'one\\n2\\n' > changed.txt; rm gone.txt; "
        "head -c 9 /dev/zero > bin"
    )
    async with serve() as server, Talker(server.url, Answers(store)) as talker:
        ended = await talker.ask(command_request(command, workspace_diff=True))
    changes = {
        each["path"].rpartition("/")[2]: (each["kind"], each["size"])
        for each in ended["metadata"]["changes"]
    }
    assert changes == {
        "new.txt": ("added", 4),
        "changed.txt": ("modified", 6),
        "gone.txt": ("deleted", 0),
        "bin": ("added", 9),
    }
    diff = store.stored["/workspace.diff"].decode()
    assert "-two\n+2\n" in diff
    assert "+++ /dev/null" in diff
    assert "--- /dev/null" in diff
    assert "Binary or large file bin was added" in diff


@pytest.mark.rows("U-35")
async def test_a_request_that_fails_before_it_begins_changed_nothing(
    serve: Serve, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "work/there.txt").write_text("there before\n")
    request = invocation("ECHO:x", workspace_diff=True, output_format_json_schema_str="{bad")
    async with serve() as server, Talker(server.url, Answers(store)) as talker:
        ended = await talker.ask(request)
    assert "output_format_json_schema_str" in ended["error"]
    assert ended["metadata"]["changes"] == []
    assert store.stored == {}


@pytest.mark.rows("U-35")
async def test_a_diff_shows_lines_as_they_are_and_none_against_what_was_not_kept(
    serve: Serve, store: Store, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "large.txt").write_text("x\n" * 1024 * 1024)
    (work / "feed.txt").write_bytes(b"one\x0ctwo\r\nthree\n")
    command = "echo small > large.txt; printf 'one\\fTWO\\r\\nthree\\n' > feed.txt"
    async with serve() as server, Talker(server.url, Answers(store)) as talker:
        await talker.ask(command_request(command, workspace_diff=True))
    diff = store.stored["/workspace.diff"]
    assert b"Binary or large file large.txt was modified" in diff
    assert b"-one\x0ctwo\r\n+one\x0cTWO\r\n three\n" in diff
    assert b"No newline" not in diff


@pytest.mark.rows("U-21", "U-24")
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"artifacts_dirs": ["art", "/dev/null"]}, "artifacts_dirs: /dev/null: File exists"),
        ({"artifacts_dirs": ["a\0b"]}, "embedded null byte"),
        ({"output_format_json_schema_str": "[]"}, "output_format_json_schema_str: give an object"),
        (
            {"output_format_json_schema_str": '{"type": "json_schema", "json_schema": 5}'},
            "output_format_json_schema_str: its schema is not an object",
        ),
        (
            {
                "pre_agent_downloadables": [
                    {"download_url": "http://127.0.0.1:99999/a", "working_dir": "."}
                ]
            },
            "download_url: it is no URL",
        ),
    ],
)
async def test_a_request_that_fails_before_its_folders_were_read_says_why(
    serve: Serve, more: dict[str, Any], told: str
) -> None:
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(invocation("ECHO:x", **({"artifacts_dirs": ["art"]} | more)))
    assert told in ended["error"]
    assert ended["metadata"]["error_name"] == "Error"
